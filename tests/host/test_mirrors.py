"""Faster downloads, against real index servers on loopback: folders of wheels with pages of links."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash.wire.messages import EnsureEnv, EnvState
from tests.host.conftest import Machine
from tests.host.index import Index, served
from tests.host.test_environments import python


@pytest.fixture
def usual(tmp_path: Path) -> Iterator[Index]:
    with served(tmp_path / "usual") as index:
        yield index


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Index]:
    with served(tmp_path / "mirror") as index:
        yield index


@pytest.fixture
def name() -> str:
    """Of a package that no cache has."""
    return f"flashtest{uuid.uuid4().hex[:12]}"


def order(machine: Machine, usual: Index, name: str, *, mirror: str = "", accelerate: bool = True) -> EnsureEnv:
    made = machine.order(name, UV_DEFAULT_INDEX=usual.url)
    made.accelerate, made.mirror = accelerate, mirror
    return made


def build(machine: Machine, wanted: EnsureEnv) -> tuple[EnvState, str]:
    """How it ended, and all that was said on the way."""
    sid = machine.engine.send(wanted)
    state = machine.engine.expect(EnvState, lambda state: state.phase in ("ready", "failed"), sid)
    return state, "\n".join(said.line for said in machine.engine.pending(EnvState))


def test_files_come_from_the_mirror_and_make_the_environment_that_the_usual_index_makes(
    machine: Machine, usual: Index, mirror: Index, name: str
) -> None:
    usual.add(name)
    shutil.copytree(usual.folder / "files", mirror.folder / "files")
    shutil.copytree(usual.folder / "simple", mirror.folder / "simple")
    machine.start()

    fast, said = build(machine, order(machine, usual, name, mirror=mirror.url))

    assert fast.phase == "ready", fast.error
    assert (len(mirror.files), usual.files) == (1, [])
    assert f"accelerated: more downloads at once, from {mirror.url} first" in said
    assert f"packages came from the mirror {mirror.url}" in said
    assert python(fast, f"import {name}; print({name}.__name__)") == name
    plain, _ = build(machine, order(machine, usual, name, accelerate=False))
    assert (plain.path, plain.lock) == (fast.path, fast.lock)


def test_what_the_mirror_lacks_comes_from_the_usual_index(
    machine: Machine, usual: Index, mirror: Index, name: str
) -> None:
    usual.add(name)
    machine.start()

    state, _said = build(machine, order(machine, usual, name, mirror=mirror.url))

    assert state.phase == "ready", state.error
    assert len(usual.files) == 1


def test_a_mirror_with_other_contents_changes_nothing(machine: Machine, usual: Index, mirror: Index, name: str) -> None:
    usual.add(name, "whose = 'the usual one'")
    mirror.add(name, "whose = 'somebody else'")
    machine.start()

    state, said = build(machine, order(machine, usual, name, mirror=mirror.url))

    assert python(state, f"import {name}; print({name}.whose)") == "the usual one"
    assert f"the mirror {mirror.url} does not serve" in said


def test_a_mirror_that_does_not_answer_is_told_of_and_done_without(machine: Machine, usual: Index, name: str) -> None:
    usual.add(name)
    machine.start()

    state, said = build(machine, order(machine, usual, name, mirror="http://me:secret@127.0.0.1:9/simple"))

    assert state.phase == "ready", state.error
    assert "the mirror http://127.0.0.1:9/simple does not answer (" in said
    assert "secret" not in said
