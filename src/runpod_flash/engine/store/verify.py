"""Whether a store holds together: its pages, its rows, its definitions, and the blob files that its rows name.

Every check only reads, on a connection of its own, so it also runs beside an engine. What one changes meanwhile is no
finding: a blob counts as missing only if its row is still there when the file is not.
"""

from __future__ import annotations

import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from runpod_flash.engine.store import deployed, opening
from runpod_flash.model.job import JobState
from runpod_flash.wire import blobs
from runpod_flash.wire.digest import digest_of

PROBLEM: Final = "problem"
NOTE: Final = "note"
_EXAMPLES: Final = 5
_STRAY_AFTER_S: Final = 3600.0


class Finding(NamedTuple):
    """What is not as it should be: a problem, or something that is only worth a note."""

    level: str
    check: str
    what: str
    fix: str
    rows: int
    examples: list[str]


class _Rule(NamedTuple):
    """Rows that must not be there: a query for what names them."""

    check: str
    what: str
    fix: str
    query: str


_READY, _DELAYED = int(JobState.READY), int(JobState.DELAYED)
_ASSIGNED, _RUNNING = int(JobState.ASSIGNED), int(JobState.RUNNING)
_COMPLETED: Final = int(JobState.COMPLETED)
_REPORT: Final = "please report it; the jobs named can be removed with: flash purge"
_AGAIN: Final = "run the program that calls it once more: it ships the function again"

_RULES: Final = (
    _Rule("states", "jobs are in a state that does not exist", _REPORT,
          f"SELECT id FROM jobs WHERE state NOT BETWEEN 0 AND {max(JobState)}"),
    _Rule("workers", "jobs run, and at no worker", _REPORT,
          f"SELECT id FROM jobs WHERE state IN ({_ASSIGNED}, {_RUNNING}) AND (worker IS NULL OR assigned_ms IS NULL)"),
    _Rule("workers", "jobs wait in the queue and are at a worker", _REPORT,
          f"SELECT id FROM jobs WHERE state IN ({_READY}, {_DELAYED}) AND worker IS NOT NULL"),
    _Rule("times", "jobs wait for a time that they do not have", _REPORT,
          f"SELECT id FROM jobs WHERE state = {_DELAYED} AND ready_ms IS NULL"),
    _Rule("times", "jobs ended at no time, or have an end and go on", _REPORT,
          f"SELECT id FROM jobs WHERE (state >= {_COMPLETED}) <> (ended_ms IS NOT NULL)"),
    _Rule("outcomes", "jobs completed without a result", "run them again; their results are lost",
          f"SELECT id FROM jobs WHERE state = {_COMPLETED} AND out IS NULL"),
    _Rule("outcomes", "jobs did not complete, and no error says why", _REPORT,
          f"SELECT id FROM jobs WHERE state > {_COMPLETED} AND error IS NULL"),
    _Rule("epochs", "jobs have had more attempts than claims", _REPORT,
          "SELECT id FROM jobs WHERE attempt > epoch OR attempt < 0"),
    _Rule("epochs", "attempts are of an epoch that their job has not reached", _REPORT,
          "SELECT j.id FROM jobs j JOIN attempts a ON a.job = j.id WHERE a.epoch > j.epoch"),
    _Rule("epochs", "jobs that run have an ended attempt under the same epoch", _REPORT,
          f"""SELECT j.id FROM jobs j JOIN attempts a ON a.job = j.id AND a.epoch = j.epoch
              WHERE j.state IN ({_ASSIGNED}, {_RUNNING})"""),
    _Rule("pools", "jobs belong to a pool that is not on record", _REPORT,
          "SELECT id FROM jobs WHERE pool_id NOT IN (SELECT id FROM pools)"),
    _Rule("functions", "jobs call a function that is not on record", _REPORT,
          "SELECT id FROM jobs WHERE fn NOT IN (SELECT id FROM functions)"),
    _Rule("functions", "functions belong to a pool, or pools to an endpoint, that is not on record", _REPORT,
          """SELECT name FROM functions WHERE pool_id NOT IN (SELECT id FROM pools)
             UNION ALL SELECT key FROM pools WHERE endpoint_id NOT IN (SELECT id FROM endpoints)"""),
    _Rule("definitions", "the definition of a function is missing", _AGAIN,
          # Applications and programs have none: what they are lies in a folder.
          """SELECT name || ' ' || digest FROM functions
             WHERE digest NOT IN (SELECT digest FROM definitions) AND json_extract(spec, '$.defs') IS NOT NULL
             UNION SELECT f.name || ' ' || d.value FROM functions f, json_each(f.spec, '$.defs') d
             WHERE d.value NOT IN (SELECT digest FROM definitions)"""),
    _Rule("definitions", "definitions that arguments or results need are missing", "call these jobs' functions again",
          f"""SELECT j.id FROM jobs j, json_each(CAST(j.args_head AS TEXT), '$.defs') d
              WHERE j.state < {_COMPLETED} AND d.value NOT IN (SELECT digest FROM definitions)
              UNION SELECT j.id FROM jobs j, json_each(CAST(j.out_head AS TEXT), '$.defs') d
              WHERE d.value NOT IN (SELECT digest FROM definitions)"""),
    _Rule("blobs", "jobs need a blob that is not on record", _REPORT,
          f"""SELECT j.id FROM jobs j, json_each(CAST(j.args_head AS TEXT), '$.blobs') b
             WHERE j.state <> {_COMPLETED}
               AND NOT EXISTS (SELECT 1 FROM blobs WHERE id = json_extract(b.value, '$[1]') AND job = j.id)
             UNION SELECT j.id FROM jobs j, json_each(CAST(j.out_head AS TEXT), '$.blobs') b
             WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE id = json_extract(b.value, '$[1]') AND job = j.id)"""),
    _Rule("orphans", "rows are left of jobs that are gone", "they cost a little room and nothing else",
          """SELECT job FROM attempts WHERE job NOT IN (SELECT id FROM jobs)
             UNION SELECT job FROM blobs WHERE job NOT IN (SELECT id FROM jobs)
             UNION SELECT job FROM idempotency WHERE job NOT IN (SELECT id FROM jobs)"""),
)  # fmt: skip
_NOTES: Final = frozenset({"orphans"})


def verify(store: Path, blob_folder: Path) -> list[Finding]:
    """Everything that is wrong, in the order in which to look at it. A check that cannot be done is a finding too."""
    found: list[Finding] = []
    try:
        db = opening.connect_to_read(store)
    except sqlite3.Error as error:
        return [_damaged("pages", store, str(error))]
    try:
        checks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
            ("pages", lambda: _pages(db, store)),
            *((rule.check, lambda rule=rule: _rows(db, rule)) for rule in _RULES),
            ("definitions", lambda: _definitions(db)),
            ("arguments", lambda: _arguments(db)),
            ("blobs", lambda: _blobs(db, blob_folder)),
            ("strays", lambda: _strays(db, blob_folder)),
            ("artifacts", lambda: _artifacts(store)),
        ]
        for name, check in checks:
            try:
                found += check()
            except (sqlite3.Error, OSError) as error:
                found.append(_damaged(name, store, str(error)))
    finally:
        db.close()
    return found


def facts(store: Path) -> dict[str, object]:
    """How much there is: jobs by status, definitions, blobs, the version of the tables."""
    db = opening.connect_to_read(store)
    try:
        states = db.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()
        counts: dict[str, int] = {}
        for state, number in states:
            status = JobState(state).status if state in iter(JobState) else f"state {state}"
            counts[status] = counts.get(status, 0) + number
        sizes = "SELECT count(*), total(size) FROM (SELECT DISTINCT id, size FROM blobs)"
        blob_count, blob_bytes = db.execute(sizes).fetchone()
        return {
            "jobs": counts,
            "definitions": db.execute("SELECT count(*) FROM definitions").fetchone()[0],
            "blobs": blob_count,
            "blob_bytes": int(blob_bytes),
            "store_version": db.execute("PRAGMA user_version").fetchone()[0],
        }
    finally:
        db.close()


# ── the checks ────────────────────────────────────────────────────────────────────────────────────


def _pages(db: sqlite3.Connection, store: Path) -> Iterator[Finding]:
    said = [row[0] for row in db.execute("PRAGMA integrity_check(20)")]
    if said != ["ok"]:
        yield _damaged("pages", store, "; ".join(said)[:300])


def _rows(db: sqlite3.Connection, rule: _Rule) -> Iterator[Finding]:
    names = [str(row[0]) for row in db.execute(rule.query)]
    if names:
        level = NOTE if rule.check in _NOTES else PROBLEM
        yield Finding(level, rule.check, rule.what, rule.fix, len(names), names[:_EXAMPLES])


def _definitions(db: sqlite3.Connection) -> Iterator[Finding]:
    """A definition is named by its contents, so a flipped bit shows."""
    rows = db.execute("SELECT digest, name, body FROM definitions")
    wrong = [f"{name} {digest}" for digest, name, body in rows if digest_of(body) != digest]
    if wrong:
        what = "definitions are not what their digests say: they were changed on the disk"
        yield Finding(PROBLEM, "definitions", what, f"restore a backup, or {_AGAIN}", len(wrong), wrong[:_EXAMPLES])


def _arguments(db: sqlite3.Connection) -> Iterator[Finding]:
    rows = db.execute(f"SELECT id, args FROM jobs WHERE state < {_COMPLETED} AND args IS NOT NULL")
    wrong = [job for job, packed in rows if not _is_packed(packed)]
    if wrong:
        what = "arguments of waiting jobs cannot be read"
        yield Finding(PROBLEM, "arguments", what, "cancel these jobs and call again", len(wrong), wrong[:_EXAMPLES])


def _is_packed(packed: bytes) -> bool:
    """Whether the parts fill the value exactly."""
    try:
        (count,) = struct.unpack_from("<H", packed)
        lengths = struct.unpack_from(f"<{count}I", packed, 2)
        return bool(len(packed) == 2 + 4 * count + sum(lengths))
    except struct.error:
        return False


def _blobs(db: sqlite3.Connection, folder: Path) -> Iterator[Finding]:
    rows = db.execute("SELECT id, max(size) FROM blobs GROUP BY id").fetchall()
    suspects = [blob for blob, size in rows if not blobs.is_id(blob) or _size(blobs.path_of(folder, blob)) != size]
    # Read once more: its job may have been forgotten since, and the file with it.
    wrong = [blob for blob in suspects if db.execute("SELECT 1 FROM blobs WHERE id = ?", (blob,)).fetchone()]
    if wrong:
        jobs = [row[0] for blob in wrong for row in db.execute("SELECT job FROM blobs WHERE id = ?", (blob,))]
        what = f"blob files in {folder} are missing or have another size than on record"
        fix = "restore a backup; without one, the arguments or results of these jobs are lost: call them again"
        yield Finding(PROBLEM, "blobs", what, fix, len(wrong), [f"job {job}" for job in jobs[:_EXAMPLES]])


def _strays(db: sqlite3.Connection, folder: Path) -> Iterator[Finding]:
    """Files may be written long before the frame that names them is committed: only old ones are strays."""
    old = time.time() - _STRAY_AFTER_S
    known = {row[0] for row in db.execute("SELECT id FROM blobs")}
    strays = [path.name for path in folder.glob("*/*") if path.name not in known and path.stat().st_mtime < old]
    if strays:
        fix = "nothing: the next start of the engine removes them"
        yield Finding(NOTE, "strays", "blob files belong to no job", fix, len(strays), strays[:_EXAMPLES])


def _artifacts(store: Path) -> Iterator[Finding]:
    """What is unpacked already serves on, but not in another data folder, nor when its folder is removed."""
    wrong = [path.name for path in deployed.archives(store, store.parent) if not path.is_file()]
    if wrong:
        fix = "deploy these apps again: flash deploy"
        yield Finding(PROBLEM, "artifacts", "the artifacts of releases are missing", fix, len(wrong), wrong[:_EXAMPLES])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _damaged(check: str, store: Path, why: str) -> Finding:
    fix = f"restore a backup (flash engine restore); without one, keep a copy: cp {store} {store}.damaged"
    return Finding(PROBLEM, check, f"the store {store} is damaged: {why}", fix, 1, [])
