"""Versions: the same in every process, another when anything that the function reaches is another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveServerless, remote
from runpod_flash.client import scope, shipment
from runpod_flash.errors import ScopeError

LIMIT = 3
NAMES = {"b", "a", "c"}
SETTINGS = {"depth": [1, 2]}
config = CpuLiveServerless("scope_tests")


class Shape:
    sides = 4

    def area(self, x: int) -> int:
        return x * helper(x)


def helper(x: int) -> int:
    return x + LIMIT


def reaches(x: int) -> Any:
    def inner(y: int) -> bool:
        return str(y) in NAMES

    return inner(x), Shape().area(x), SETTINGS, json.dumps(x)


def scope_of(function: Any) -> scope.Scope:
    return scope.Scope(function)


def version(function: Any) -> str:
    return scope_of(function).version


def test_the_version_is_the_same_in_processes_with_other_hash_seeds(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        Path(__file__).read_text().split("def scope_of")[0]
        + "\nprint(scope.Scope(reaches).version, scope.Scope(lambda: {'x', 'y', 'z'}).version)\n"
    )
    said = set()
    for seed in ("0", "1", "42", "random"):
        run = subprocess.run(
            [sys.executable, str(program)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        said.add(run.stdout)
    assert len(said) == 1


def test_a_change_of_anything_that_is_reached_changes_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {version(reaches)}
    for name, value in {
        "LIMIT": 4,
        "NAMES": {"b", "a"},
        "SETTINGS": {"depth": [1, 3]},
        "helper": lambda x: x,
        "json": os,
    }.items():
        with monkeypatch.context() as patch:
            patch.setitem(globals(), name, value)
            seen.add(version(reaches))
    monkeypatch.setattr(Shape, "sides", 5)
    seen.add(version(reaches))
    assert len(seen) == 7


def test_decorators_and_places_do_not_count() -> None:
    def one() -> Any:
        @remote(config, timeout=1)
        def same(x: int) -> int:
            return x

        return same.__wrapped__

    def two() -> Any:
        @remote(config, timeout=2)
        def same(x: int) -> int:
            return x

        return same.__wrapped__

    assert version(one()) == version(two())


def test_closures_count_by_what_they_hold() -> None:
    def make(n: Any) -> Any:
        def closed() -> Any:
            return n

        return closed

    assert version(make(1)) == version(make(1))
    assert version(make(1)) != version(make(2))
    assert version(make((1, [2]))) == version(make((1, [2])))
    loop: list[Any] = []
    loop.append(loop)
    assert version(make(loop)) == version(make(loop))


def test_functions_that_need_each_other_are_walked_once() -> None:
    assert version(even) == version(even)
    assert version(even) != version(odd)


def even(n: int) -> bool:
    return n == 0 or odd(n - 1)


def odd(n: int) -> bool:
    return n != 0 and even(n - 1)


def test_a_name_that_is_bound_anew_and_a_container_that_changed_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = scope_of(reaches)
    assert not found.changed()
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "helper", lambda x: x)
        assert found.changed()
    assert not found.changed()
    monkeypatch.setitem(SETTINGS, "depth", [9])
    assert found.changed()


def test_a_remote_function_counts_by_its_function_and_where_it_runs() -> None:
    @remote(config)
    def inner(x: int) -> int:
        return x

    def calls() -> Any:
        return inner

    before = version(calls)
    inner = remote(CpuLiveServerless("elsewhere"))(inner.__wrapped__)
    assert version(calls) != before


def test_names_say_module_and_function_and_for_scripts_the_file(tmp_path: Path) -> None:
    assert scope.function_name(reaches) == f"{__name__}:reaches"
    program = tmp_path / "work.py"
    program.write_text(
        "from runpod_flash.client import scope\ndef f(): pass\nprint(scope.function_name(f), scope.location(f))"
    )
    run = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["work.py:f", f"{program}:2"]


def test_what_cannot_travel_is_named_with_where_it_is_used() -> None:
    lock = threading.Lock()

    def uses() -> Any:
        return lock

    with pytest.raises(ScopeError) as caught:
        shipment.prepare(uses, ())  # type: ignore[arg-type]
    assert caught.value.names == ("lock",)
    print(caught.value)
