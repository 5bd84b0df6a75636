"""What a user gets wrong is refused in words that say what, where and what to do; nothing else suffers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import (
    CpuLiveServerless,
    EncodingError,
    FlashError,
    MissingVariableError,
    ScopeError,
    remote,
)
from tests.disasters import program
from tests.disasters.scene import Scene

cpu = CpuLiveServerless(name="input", workersMax=1)


@remote(cpu, dependencies=["flash-no-such-package-anywhere"])
def misspelled() -> None: ...


@remote(cpu, dependencies=["six==1.16.0", "six==1.15.0"])
def unsatisfiable() -> None: ...


@remote(cpu, dependencies=["six=1.16"])
def malformed() -> None: ...


@remote(cpu)
def takes(value: Any) -> str:
    return type(value).__name__


@remote(cpu)
def gives(what: str) -> Any:
    import os
    import threading

    return {"lock": threading.Lock(), "BufferedReader": open(os.devnull, "rb")}[what]


@remote(cpu, env={"FLASH_TEST_NOWHERE": None})
def asks() -> None: ...


lock = threading.Lock()


@remote(cpu)
def captures() -> Any:
    return lock


def nothing_was_sent(scene: Scene, function: str) -> None:
    assert program.echo.sync("still").output == "still"
    assert [row for row in scene.jobs() if row["fn"].endswith(function)] == []


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (misspelled, ["DependencyError", "flash-no-such-package-anywhere"]),
        (unsatisfiable, ["DependencyError", "six==1.15.0", "six==1.16.0"]),
    ],
)
def test_requirements_that_cannot_be_met_fail_the_job_in_the_resolvers_words(
    shared: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: Any, words: list[str]
) -> None:
    for name, value in {"UV_NO_INDEX": "1", "UV_OFFLINE": "1", "UV_FIND_LINKS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    job = function.sync()
    assert job.status == "FAILED"
    assert [word for word in words if word not in str(job.error)] == []
    told = shared.job(job.id)
    assert (told["attempts_list"], told["failures"]) == ([], 0), "no retry is burned"
    assert program.echo.sync("next").output == "next"


def test_a_requirement_that_is_none_is_refused_with_its_text(shared: Scene) -> None:
    assert "six=1.16" in how_it_fails(malformed)


def how_it_fails(function: Any, *arguments: Any) -> str:
    """In whichever way: by raising, or as a failed job that was tried once."""
    try:
        job = function.sync(*arguments)
    except (FlashError, TypeError) as error:
        return str(error)
    assert job.status == "FAILED"
    assert job.attempts <= 1
    return str(job.error)


def test_an_argument_that_cannot_be_pickled_is_named_before_anything_is_sent(shared: Scene) -> None:
    with pytest.raises(EncodingError) as caught:
        takes.sync({"deep": [threading.Lock()]})
    text = str(caught.value)
    assert "value" in text, "the parameter"
    assert "lock" in text
    assert "deep" in text
    nothing_was_sent(shared, "takes")


@pytest.mark.parametrize("what", ["lock", "BufferedReader"])
def test_a_result_that_cannot_be_pickled_fails_the_job_once(shared: Scene, what: str) -> None:
    job = gives.sync(what)
    assert job.status == "FAILED"
    assert what in str(job.error)
    assert job.attempts == 1, "it would be the same the next time"


def test_a_variable_that_is_set_nowhere_is_named_before_anything_is_sent(shared: Scene) -> None:
    with pytest.raises(MissingVariableError) as caught:
        asks.sync()
    assert "FLASH_TEST_NOWHERE" in caught.value.what
    assert caught.value.fix
    nothing_was_sent(shared, "asks")


def test_what_a_function_cannot_take_along_is_named_before_anything_is_sent(shared: Scene) -> None:
    with pytest.raises(ScopeError, match=r"lock  is a lock") as caught:
        captures.sync()
    assert "test_bad_input.py" in str(caught.value.where)
    assert caught.value.fix
    nothing_was_sent(shared, "captures")


def test_arguments_that_do_not_fit_are_an_error_of_the_call(shared: Scene) -> None:
    assert "takes" in how_it_fails(takes, 1, 2, 3)
    assert program.echo.sync("next").output == "next"


def test_a_setting_that_cannot_be_is_named(shared: Scene) -> None:
    ended = shared.run("call", "echo", "x", code=1, FLASH_DURABILITY="eternal")
    assert "FLASH_DURABILITY" in ended.err
    assert "eternal" in ended.err
    told = shared.flash("jobs", code=2, FLASH_DURABILITY="eternal").err
    assert "FLASH_DURABILITY" in told
    assert "Traceback" not in told


def test_a_failed_call_harms_none_that_runs_beside_it(shared: Scene) -> None:
    async def main() -> tuple[Any, ...]:
        first, failed, second = await asyncio.gather(program.echo(1), gives("lock"), program.echo(2))
        return first, failed, second

    first, failed, second = asyncio.run(main())
    assert (first.output, failed.status, second.output) == (1, "FAILED", 2)
