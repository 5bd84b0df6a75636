"""A backup taken in the middle of everything, and what can happen to it until it is needed."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveServerless, JobHandle, remote
from runpod_flash.engine.store.restore import restore
from runpod_flash.errors import FlashError, StoreError, UsageError
from runpod_flash.testing import isolated_engine
from tests.disasters.scene import Scene, set_up
from tests.disasters.test_stores import fill, mounted
from tests.waiting import until

cpu = CpuLiveServerless(name="backups", workersMax=2)
SIZE = 400_000  # more than a frame takes along: arguments and results are in files


@remote(cpu)
def mirrored(data: bytes, gate: str) -> bytes:
    """Waits until the gate is open."""
    import os
    import time

    print("begun")
    while not os.path.exists(gate):
        time.sleep(0.01)
    return data[::-1]


@remote(cpu, max_retries=0)
def once(gate: str) -> str:
    import os
    import time

    while not os.path.exists(gate):
        time.sleep(0.01)
    return "through"


def data(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (SIZE // 32)


async def spawn(numbers: range, gate: Path) -> list[str]:
    return [(await mirrored.spawn(data(number), str(gate))).id for number in numbers]


def result(job: str) -> Any:
    handle: JobHandle[Any] = JobHandle.from_id(job)
    return handle.sync.result(60)


# ── under load ────────────────────────────────────────────────────────────────────────────────────


def test_every_acknowledged_job_completes_from_a_backup_that_was_taken_under_load(tmp_path: Path) -> None:
    opened, gate = tmp_path / "opened", tmp_path / "gate"
    opened.touch()
    with set_up(tmp_path) as scene:
        done = asyncio.run(spawn(range(2), opened))
        assert [result(job) for job in done] == [data(number)[::-1] for number in range(2)]
        promised = once.sync.spawn(str(gate)).id
        waiting = asyncio.run(spawn(range(2, 8), gate))
        until(lambda: scene.status()["jobs"]["IN_PROGRESS"] == 2)
        answers = [json.loads(scene.flash("engine", "backup", str(tmp_path / name), "--json").out)
                   for name in ("monday", "monday.tar.gz")]  # fmt: skip
        for answer in answers:
            assert (answer["jobs"]["COMPLETED"], answer["blobs"], answer["missing_blobs"]) == (2, 10, [])
        assert scene.status()["jobs"]["IN_PROGRESS"] == 2, "nothing was disturbed"
        scene.flash("engine", "verify")
        later = asyncio.run(spawn(range(1), opened))

    with set_up(tmp_path, tmp_path / "another home") as scene:
        told = scene.flash("engine", "restore", str(tmp_path / "monday.tar.gz"))
        assert told.out.startswith("restored 9 jobs as of ")
        assert "2 jobs ran then" in told.err
        gate.touch()
        assert [result(job) for job in done + waiting] == [data(number)[::-1] for number in range(8)]
        assert scene.ended(promised)["status"] == "FAILED", "it was promised one start at most"
        ran = scene.job(waiting[0])
        assert (ran["attempts"], ran["losses"]) == (2, 1)
        assert "restored" in [event["kind"] for event in ran["events"]]
        assert "not on record" in ran["attempts_list"][0]["error"]
        assert {row["job"] for row in scene.jobs()}.isdisjoint(later)
        assert "all is well" in scene.flash("engine", "verify").out


# ── what is wrong ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a completed job, a waiting one, and files of both; and a backup of it."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "opened").touch()
    with set_up(folder, folder / "home") as scene:
        result(asyncio.run(spawn(range(1), folder / "opened"))[0])
        asyncio.run(spawn(range(1, 5), folder / "gate"))
        scene.flash("engine", "stop", "--grace", "0")
        scene.flash("engine", "backup", str(folder / "backup"))
    return folder


@pytest.fixture
def scene(tmp_path: Path, kept: Path) -> Iterator[Scene]:
    """No engine runs; the data folder is a copy of that, and so is the backup beside it."""
    shutil.copytree(kept / "home", tmp_path / "home", ignore=shutil.ignore_patterns("environments", "runtime"))
    shutil.copytree(kept / "backup", tmp_path / "backup")
    with isolated_engine(tmp_path / "home") as engine:
        made = Scene(engine, tmp_path)
        yield made
        made.close()


def blob(folder: Path) -> Path:
    return min((folder / "blobs").glob("*/*"))


def changed(store: Path, statement: str) -> None:
    with closing(sqlite3.connect(store)) as db:
        assert db.execute(statement).rowcount > 0
        db.commit()


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def harm_a_lot(home: Path) -> None:
    first, second, *_ = sorted((home / "blobs").glob("*/*"))
    first.unlink()
    second.write_bytes(b"short")
    body = "CAST(substr(body, 1, 99) || x'07' || substr(body, 101) AS BLOB)"
    changed(home / "store.sqlite", f"UPDATE definitions SET body = {body}")
    changed(home / "store.sqlite", "UPDATE jobs SET epoch = 0 WHERE attempt > 0")
    changed(home / "store.sqlite", "UPDATE jobs SET state = 12 WHERE state = 4")


def changed_page(store: Path) -> None:
    with closing(sqlite3.connect(store)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchone()
    with store.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(bytes(4096))


HARM: list[tuple[str, Callable[[Path], Any], list[str]]] = [
    ("a missing definition", lambda home: changed(home / "store.sqlite", "DELETE FROM definitions"),
     ["the definition of a function is missing"]),
    ("a page of zeros", lambda home: changed_page(home / "store.sqlite"), ["is damaged"]),
    ("no database", lambda home: (home / "store.sqlite").write_bytes(b"what is this" * 1000), ["is damaged"]),
    ("several at once", harm_a_lot, [
        "2 × blob files in", "not what their digests say", "more attempts than claims", "a state that does not exist"]),
]  # fmt: skip


@pytest.mark.parametrize(("harm", "told"), [(harm, told) for _, harm, told in HARM], ids=[name for name, _, _ in HARM])
def test_what_is_wrong_is_found_and_nothing_is_changed(
    scene: Scene, harm: Callable[[Path], Any], told: list[str]
) -> None:
    harm(scene.home)
    before = (scene.home / "store.sqlite").read_bytes()
    said = scene.flash("engine", "verify", code=1).out
    assert [words for words in told if words not in said] == []
    assert said.count("fix:") >= len(told)
    assert (scene.home / "store.sqlite").read_bytes() == before


def test_a_sound_store_is_told_to_be_sound(scene: Scene) -> None:
    done = scene.flash("engine", "verify")
    assert done.out == "all is well\n"
    assert "looked through 5 jobs, 1 definition, " in done.err
    blob(scene.home).unlink()
    facts = json.loads(scene.flash("engine", "verify", "--json", code=1).out)
    (finding,) = facts["findings"]
    assert (finding["level"], finding["check"], finding["rows"]) == ("problem", "blobs", 1)


# ── what happens to a backup ──────────────────────────────────────────────────────────────────────


def changed_manifest(backup: Path, **changes: Any) -> None:
    facts = json.loads((backup / "manifest.json").read_bytes())
    (backup / "manifest.json").write_text(json.dumps({**facts, **changes}))


UNSOUND: list[tuple[str, Callable[[Path], Any], type[FlashError], str]] = [
    ("a flipped bit in the store", lambda backup: flip(backup / "store.sqlite", 30_000), StoreError, "is damaged"),
    ("a flipped bit in a blob", lambda backup: flip(blob(backup), 7), StoreError, "is damaged"),
    ("a missing blob", lambda backup: blob(backup).unlink(), StoreError, "is missing"),
    ("a missing store", lambda backup: (backup / "store.sqlite").unlink(), UsageError, "there is no backup"),
    ("no manifest", lambda backup: (backup / "manifest.json").unlink(), UsageError, "there is no backup"),
    ("half a manifest", lambda backup: (backup / "manifest.json").write_text('{"kind":'), StoreError, "cannot be read"),
    ("a later version", lambda backup: changed_manifest(backup, store_version=99), StoreError, "of a newer Flash"),
    ("somebody else's", lambda backup: changed_manifest(backup, kind="photos"), UsageError, "no backup of Flash"),
]


@pytest.mark.parametrize(("harm", "error", "told"), [rest for _, *rest in UNSOUND], ids=[name for name, *_ in UNSOUND])
def test_a_backup_that_is_not_sound_is_refused_and_nothing_is_changed(
    kept: Path, tmp_path: Path, harm: Callable[[Path], Any], error: type[FlashError], told: str
) -> None:
    backup, home = tmp_path / "backup", tmp_path / "home"
    shutil.copytree(kept / "backup", backup)
    home.mkdir()
    (home / "store.sqlite").write_text("what was there")
    harm(backup)
    with pytest.raises(error, match=told):
        restore(backup, home, home / "store.sqlite", home / "blobs")
    assert [path.name for path in home.iterdir()] == ["store.sqlite"]
    assert (home / "store.sqlite").read_text() == "what was there"


def test_an_archive_cannot_write_outside_of_its_folder(scene: Scene) -> None:
    archive = scene.folder / "evil.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(scene.folder / "backup", arcname=".")
        for name in ("../../escaped", "/tmp/flash-escaped", "blobs/../../escaped"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "no backup" in scene.flash("engine", "restore", str(archive), code=2).err
    assert not list(scene.folder.glob("**/*escaped"))
    (scene.folder / "garbage.tar").write_bytes(os.urandom(5000))
    assert "cannot be read" in scene.flash("engine", "restore", str(scene.folder / "garbage.tar"), code=4).err


def test_what_was_there_before_is_set_aside_and_can_be_put_back(scene: Scene) -> None:
    result(asyncio.run(spawn(range(1), scene.folder / "backup"))[0])
    assert "The engine runs" in scene.flash("engine", "restore", str(scene.folder / "backup"), code=2).err
    assert len(scene.jobs()) == 6
    answer = json.loads(scene.flash("engine", "restore", str(scene.folder / "backup"), "--yes", "--json").out)
    assert len(scene.jobs()) == 5
    scene.flash("engine", "stop", "--grace", "0")
    aside = Path(answer["replaced"])
    assert aside.parent == scene.home
    with closing(sqlite3.connect(aside / "store.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM jobs").fetchone() == (6,)
    assert blob(aside).exists()


def test_a_backup_is_never_written_over_by_accident(scene: Scene) -> None:
    for name in ("backup", "file.tar"):
        (scene.folder / "file.tar").touch()
        assert "is there already" in scene.flash("engine", "backup", str(scene.folder / name), code=2).err
        scene.flash("engine", "backup", str(scene.folder / name), "--force")
    (scene.folder / "photos").mkdir()
    (scene.folder / "photos" / "one.jpg").touch()
    assert "no backup" in scene.flash("engine", "backup", str(scene.folder / "photos"), "--force", code=2).err
    assert "no folder" in scene.flash("engine", "backup", str(scene.folder / "not" / "there"), code=2).err
    assert [path.name for path in scene.folder.iterdir() if path.name.startswith(".")] == []


def test_a_disk_that_is_full_gets_no_half_of_a_backup(scene: Scene) -> None:
    disk = scene.folder / "disk"
    disk.mkdir()
    with mounted(disk, "-t", "tmpfs", "-o", "size=1m", "flash-test"):
        for name in ("backup", "backup.tar"):
            said = scene.flash("engine", "backup", str(disk / name), code=4).err
            assert "cannot be written" in said
            assert "free some space" in said
            assert list(disk.iterdir()) == []
        fill(disk)
        assert "cannot be written" in scene.flash("engine", "backup", str(disk / "backup"), code=4).err
