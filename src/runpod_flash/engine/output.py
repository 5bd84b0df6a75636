"""What jobs printed, read from the log files: of one job by its spans, of an endpoint by its workers.

Of an endpoint there may be gigabytes, and somebody may follow it. So a page goes on where the last one ended in each
file, which its cursor says; a follower asks again with the last cursor and gets what is new,
from this engine or another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from runpod_flash.engine.state import State
from runpod_flash.errors import ConfigError
from runpod_flash.wire import logfile
from runpod_flash.wire.messages import Query, Rows

Line = dict[str, Any]
Place = tuple[str, int, int]
"""A file, a byte in it where a record begins, and how many lines of that record were told."""
Places = dict[str, Place]
"""Worker → up to where its output was told."""

_PAGE_CHARACTERS: Final = 1 << 20  # six bytes each at most in JSON, in a frame of 8 MiB
_LEAST_BYTES: Final = 16 * 1024
_DAY_MS: Final = 86_400_000
_MOST_LINES: Final = 10_000
_places = msgspec.json.Decoder(Places)


class Output:
    """Reads log files for QUERY logs."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._home = state.settings.home

    def page(self, query: Query, found: Any) -> Rows:
        """The answer to either kind of question."""
        if isinstance(found, Rows):
            return found
        return _page(query, found)

    # ── one job ───────────────────────────────────────────────────────────────────────────────────

    def of_job(self, query: Query, resolve: Callable[[str], str]) -> Callable[[], list[Line]]:
        """Every line of one job; an attempt that runs has no spans yet, so its worker's files are read through."""
        part, home = str(query.filter.get("job", "")), self._home
        running = {
            job.job: (job.attempt, worker.id) for worker in self._state.workers.values() for job in worker.inflight
        }

        def read() -> list[Line]:
            job = resolve(part)
            spans = self._state.store.read(
                "SELECT * FROM log_spans WHERE job = ? AND segment <> '' ORDER BY attempt, segment, start", (job,)
            )
            lines = [
                _line(job, at, span["attempt"], fd, span["worker"], line)
                for span in spans
                for at, fd, line in logfile.read_span(
                    home, span["segment"], span["start"], span["length"], job, span["attempt"]
                )
            ]
            attempt, worker = running.get(job, (0, ""))
            if worker and attempt not in {span["attempt"] for span in spans}:
                for segment in logfile.segments_of(home, worker):
                    found = logfile.read_span(home, segment, 0, 1 << 40, job, attempt)
                    lines += [_line(job, at, attempt, fd, worker, line) for at, fd, line in found]
            wanted = query.filter.get("attempt")
            return [line for line in lines if wanted is None or line["attempt"] == wanted]

        return read

    # ── one endpoint ──────────────────────────────────────────────────────────────────────────────

    def of_endpoint(self, query: Query) -> Callable[[], Rows]:
        """The next lines of all workers of an endpoint, in the order of time."""
        wanted = query.filter
        since = int(wanted.get("since_ms") or 0)
        pools = [
            pool.id
            for endpoint in self._state.endpoints.values()
            if str(wanted["endpoint"]) in {endpoint.spec.name, endpoint.spec.id}
            and all(wanted.get(key) in {None, getattr(endpoint.spec, key)} for key in ("app", "env"))
            for pool in endpoint.pools
        ]
        try:
            told = _places.decode(query.cursor) if query.cursor else {}
        except msgspec.MsgspecError:
            raise ConfigError(
                f"{query.cursor[:80]!r} is no place in the output of an endpoint",
                why="such places come with the lines of an earlier answer, and are of one version",
                fix="ask without it: that begins at the beginning",
            ) from None

        def read() -> Rows:
            names = {*self._workers(pools, since, old=not told), *filter(str.isalnum, told)}
            files = {name: _Files(self._home, name, told.get(name), since) for name in names}
            lines, places, more = _next_lines(files)
            cursor = msgspec.json.encode(places).decode()
            return Rows(rows=lines, next=cursor if more or wanted.get("follow") else "")

        return read

    def _workers(self, pools: Iterable[int], since_ms: int, *, old: bool) -> list[str]:
        """Those that there were in these pools: on record for a day, after that known by the jobs that they ended."""
        chosen = f"IN ({','.join(map(str, pools))})"
        statement = f"SELECT id FROM workers WHERE pool_id {chosen}"
        if old and since_ms < self._state.clock.wall_ms() - _DAY_MS:
            statement += f" UNION SELECT DISTINCT worker FROM jobs WHERE pool_id {chosen} AND worker IS NOT NULL"
        return sorted(row["id"] for row in self._state.store.read(statement))


@dataclass(slots=True)
class _Line:
    """A line of an endpoint's output, and the place behind it."""

    order: tuple[int, str, int]  # time, worker, number
    place: Place
    line: Line


class _Files:
    """The output of one worker, from a place on."""

    def __init__(self, home: Path, worker: str, told: Place | None, since_ms: int) -> None:
        self._home = home
        self._worker = worker
        self._since_ms = since_ms
        segments = logfile.segments_of(home, worker)
        self._segments = segments[segments.index(told[0]) :] if told and told[0] in segments else segments
        if told is None or told[0] not in segments:
            while self._segments and _modified_ms(home / self._segments[0]) < since_ms:
                self._segments.pop(0)
            told = (self._segments[0], 0, 0) if self._segments else None
        self.place = told
        self.more = False

    def read(self, length: int) -> list[_Line]:
        """The next lines; `more` says whether there are others behind them."""
        lines: list[_Line] = []
        at_ms = 0
        while self.place is not None and not lines:
            segment, start, skip = self.place
            records, self.more = logfile.read_on(self._home, segment, start, length)
            for begin, end, record in records:
                at_ms = max(at_ms, record.at_ms)  # a clock that was set back changes no order
                lines += self._lines_of(record, at_ms, (segment, begin, end), skip, len(lines))
                skip = 0
                self.place = (segment, end, 0)
            if not self.more and (later := self._segments[self._segments.index(segment) + 1 :]):
                self.place, self.more = (later[0], 0, 0), True
            elif not records:
                break
        return lines

    def _lines_of(
        self, record: logfile.Record, at_ms: int, where: tuple[str, int, int], skip: int, number: int
    ) -> Iterator[_Line]:
        segment, begin, end = where
        texts = logfile.lines_of(record.data)
        for n, text in enumerate(texts[skip:], skip + 1):
            if record.at_ms >= self._since_ms:
                place = (segment, end, 0) if n == len(texts) else (segment, begin, n)
                line = _line(record.job, record.at_ms, record.attempt, record.fd, self._worker, text)
                yield _Line((at_ms, self._worker, number + n), place, line)


def _next_lines(files: Mapping[str, _Files]) -> tuple[list[Line], Places, bool]:
    """The next lines of all of them by time, the places behind these, and whether there are more."""
    length = max(_LEAST_BYTES, _PAGE_CHARACTERS // max(1, len(files)))
    before = {name: each.place for name, each in files.items()}
    read = {name: each.read(length) for name, each in files.items()}
    # What comes after the last line of a file that goes on may be older than what another file has yet to tell.
    known_until = min((read[name][-1].order for name, each in files.items() if each.more and read[name]), default=None)
    lines = sorted((line for found in read.values() for line in found), key=lambda one: one.order)
    chosen = _first_page(line for line in lines if known_until is None or line.order <= known_until)
    more = len(chosen) < len(lines) or any(each.more for each in files.values())
    places = {name: each.place if len(chosen) == len(lines) else before[name] for name, each in files.items()}
    places |= {one.line["worker"]: one.place for one in chosen} if len(chosen) < len(lines) else {}
    return [one.line for one in chosen], {name: place for name, place in places.items() if place}, more


def _first_page(lines: Iterable[_Line]) -> list[_Line]:
    chosen: list[_Line] = []
    size = 0
    for one in lines:
        size += len(one.line["line"])
        if chosen and (size > _PAGE_CHARACTERS or len(chosen) >= _MOST_LINES):
            break
        chosen.append(one)
    return chosen


def _modified_ms(path: Path) -> float:
    try:
        return path.stat().st_mtime * 1000
    except FileNotFoundError:
        return 0


def _page(query: Query, lines: list[Line]) -> Rows:
    """The lines from the cursor on, as many as asked for and as a frame can take."""
    first = int(query.cursor) if query.cursor.isdigit() else 0
    size, last = 0, first
    for line in lines[first : first + max(1, min(query.limit, _MOST_LINES))]:
        size += len(line["line"])
        if size > _PAGE_CHARACTERS and last > first:
            break
        last += 1
    return Rows(rows=lines[first:last], next=str(last) if last < len(lines) else "")


def _line(job: str, at_ms: int, attempt: int, fd: int, worker: str, line: str) -> Line:
    return {"job": job, "at_ms": at_ms, "attempt": attempt, "fd": fd, "worker": worker, "line": line}
