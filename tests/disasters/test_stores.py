"""The disk is full, or the store cannot be what it was: an error that says what to do, and nothing lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runpod_flash import StoreError
from tests.disasters import program
from tests.disasters.scene import Scene, set_up, written
from tests.waiting import until


def mount(*arguments: str | Path) -> None:
    """Skips the test where nothing can be mounted."""
    if os.getuid() != 0:
        pytest.skip("only root can mount a file system")
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str | Path) -> Iterator[None]:
    """Something is mounted at a path for the time of the block."""
    mount(*arguments, folder)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """A file that takes what is free."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_full_disk_is_an_error_and_when_space_returns_it_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with mounted(home, "-t", "tmpfs", "-o", "size=48m,mode=700", "flash-test"), set_up(tmp_path, home) as scene:
        before = program.echo.sync("before")
        begun, go = scene.file("begun"), scene.file("go")
        spawned = scene.run("spawn", "hold", begun, go).out.strip()
        worker = written(begun)
        filler = fill(home)

        with pytest.raises(StoreError) as caught:
            asyncio.run(calls_until_full())
        assert str(home) in caught.value.what
        assert "full" in str(caught.value)
        assert "free some space" in str(caught.value.fix)
        told = scene.flash("jobs", code=4 if not scene.engine.facts else 0)
        assert spawned in told.out or "free some space" in told.err

        filler.unlink()
        assert program.echo.sync("after").output == "after"
        go.touch()
        assert scene.ended(spawned)["status"] == "COMPLETED"
        assert written(begun) == worker, "it was not started twice"
        assert scene.job(before.id)["status"] == "COMPLETED"


async def calls_until_full() -> None:
    """What is written first may still find room."""
    for _ in range(200):
        assert (await program.echo("x" * 20_000)).output


def test_an_engine_that_cannot_start_for_want_of_space_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    with mounted(home, "-t", "tmpfs", "-o", "size=48m,mode=700", "flash-test"), set_up(tmp_path, home) as scene:
        filler = fill(home)
        ended = scene.run("call", "echo", "x", code=1)
        assert "space" in ended.err.splitlines()[-1] + ended.err
        assert "Traceback" not in scene.flash("engine", "start", code=4).err
        filler.unlink()
        assert scene.run("call", "echo", "x").result[3:] == ["COMPLETED", "x"]


@pytest.fixture
def stopped(scene: Scene) -> Scene:
    """A scene with a past and without an engine."""
    assert program.echo.sync("past").output == "past"
    scene.flash("engine", "stop")
    return scene


def refused(scene: Scene) -> tuple[StoreError, str]:
    """What the SDK raises and what the command line says."""
    with pytest.raises(StoreError) as caught:
        program.echo.sync("x")
    told = scene.flash("jobs", code=4).err
    assert caught.value.what in told
    assert str(caught.value.fix) in told
    assert "Traceback" not in told
    return caught.value, told


def test_a_store_that_cannot_be_written_is_explained(stopped: Scene) -> None:
    store = stopped.home / "store.sqlite"
    if os.getuid() == 0:
        mount("--bind", store, store)
        mount("-o", "remount,bind,ro", store)
    else:
        store.chmod(0o400)
    try:
        error, _told = refused(stopped)
        assert "read-only" in str(error)
        assert "writable" in str(error.fix)
    finally:
        if os.getuid() == 0:
            subprocess.run(["umount", store], check=True)
        else:
            store.chmod(0o600)
    assert program.echo.sync("now").output == "now"
    assert len(stopped.jobs()) == 2


def test_a_damaged_store_is_explained_and_the_mend_works(stopped: Scene) -> None:
    store = stopped.home / "store.sqlite"
    with open(store, "r+b") as file:
        for page in range(1, store.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xde\xad\xbe\xef" * 64)
    error, _told = refused(stopped)
    assert "damaged" in error.what
    mend = str(error.fix).split(": ", 1)[1]
    subprocess.run(["sh", "-c", mend], check=True)
    assert program.echo.sync("afresh").output == "afresh"


def test_a_store_of_a_newer_version_is_explained_and_untouched(stopped: Scene) -> None:
    store = stopped.home / "store.sqlite"
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.execute("PRAGMA user_version = 9999")
    before = store.read_bytes()
    error, _told = refused(stopped)
    assert "9999" in error.what
    assert "upgrade" in str(error.fix)
    assert store.read_bytes() == before


def test_a_store_that_is_damaged_under_a_running_engine_costs_no_process(scene: Scene) -> None:
    """The files are gone from under it: whatever it says, it ends or goes on, and does not hang."""
    assert program.echo.sync("x").output == "x"
    for path in scene.home.glob("store.sqlite*"):
        path.unlink()
    with contextlib.suppress(StoreError):
        program.echo.sync("y")
    scene.flash("engine", "stop")
    until(lambda: not scene.engine.processes())
    assert program.echo.sync("z").output == "z"
