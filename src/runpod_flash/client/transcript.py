"""What a job printed, line by line: from the record, and as it comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from runpod_flash.client.link import Link
from runpod_flash.client.session import Stream
from runpod_flash.wire import messages
from runpod_flash.wire.messages import Attach, Log, Outcome, Query, Rows


class Transcript:
    """The output of one job: every line once, and a line of ours where another attempt begins."""

    def __init__(self, link: Link, job: str) -> None:
        self._link = link
        self._job = job
        self._told: Counter[int] = Counter()  # lines of each attempt
        self._attempt = 1

    async def so_far(self) -> AsyncIterator[str]:
        """What is on record."""
        async for row in _rows(self._link, {"job": self._job}):
            for line in self._tell(row["attempt"], [row["line"]]):
                yield line

    async def until_the_end(self) -> AsyncIterator[str]:
        """That, and all that comes until the job has ended.

        Listens first and asks for the past then, so that nothing falls between. While there is no engine nobody
        brings lines: these are read from the record as soon as a number tells that some are missing, and once more
        at the end.
        """
        arrived: asyncio.Queue[Log | None] = asyncio.Queue()

        def watch(_: Stream, head: Any) -> None:
            if isinstance(head, Log):
                arrived.put_nowait(head)

        ended = asyncio.ensure_future(self._link.ask(Attach(job=self._job, logs=True), watcher=watch))
        ended.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            async for line in self.so_far():
                yield line
            while (log := await arrived.get()) is not None:
                async for line in self._with(log):
                    yield line
            outcome: Outcome = messages.decode(ended.result())
            async for line in self._missing(outcome.attempts):
                yield line
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    async def _with(self, log: Log) -> AsyncIterator[str]:
        """The lines that have just come, after those before them that did not."""
        if log.attempt != self._attempt or log.n > self._told[log.attempt]:
            async for line in self._missing(log.attempt, log.n):
                yield line
        for line in self._tell(log.attempt, log.lines[max(0, self._told[log.attempt] - log.n) :]):
            yield line

    async def _missing(self, last: int, before: int | None = None) -> AsyncIterator[str]:
        """Lines on record that were not told yet, up to the attempt `last`, and of that up to number `before`."""
        for attempt in range(self._attempt, last + 1):
            lines = await past_lines(self._link, self._job, attempt, self._told[attempt])
            if attempt == last and before is not None:
                lines = lines[: max(0, before - self._told[attempt])]
            for line in self._tell(attempt, lines):
                yield line

    def _tell(self, attempt: int, lines: list[str]) -> list[str]:
        if not lines:
            return lines
        self._told[attempt] += len(lines)
        mark = [f"── attempt {attempt} ──"] if attempt != self._attempt else []
        self._attempt = attempt
        return [*mark, *lines]


async def past_lines(link: Link, job: str, attempt: int, first: int) -> list[str]:
    """The lines on record of one attempt of a job, from that one on."""
    return [row["line"] async for row in _rows(link, {"job": job, "attempt": attempt}, str(first))]


async def _rows(link: Link, which: dict[str, Any], cursor: str = "") -> AsyncIterator[dict[str, Any]]:
    while True:
        rows: Rows = await link.request(Query(what="logs", filter=which, limit=1000, cursor=cursor))
        for row in rows.rows:
            yield row
        cursor = rows.next
        if not cursor:
            return
