"""What jobs yield before they end: on record first, then to whoever reads it, at the reader's pace.

The job of `fn.stream(…)` is *live*: it belongs to the one loop that reads it, is never far ahead of that, and of what
was used up nothing is kept. A spawned job belongs to nobody: what it yields is *kept*, so it runs at its own pace, and
everybody who comes reads from the beginning.

A reader sees the items of one attempt, without gap or repetition. So an attempt of which somebody has been given
something is the last one (`is_read`): another would begin anew, and perhaps with other items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from runpod_flash.engine.records import Active, JobStream, Reader, Worker
from runpod_flash.engine.retention import Retention
from runpod_flash.engine.state import ArgsHead, ChunkHead, State
from runpod_flash.engine.store.rows import StoredChunk
from runpod_flash.engine.turn import Link
from runpod_flash.errors import FlashError, UsageError
from runpod_flash.model.job import JobState
from runpod_flash.wire import blobs, frame, kinds
from runpod_flash.wire.messages import Chunk, Position, Taken

ABANDONED_S: Final = 30.0
"""How long a live job may be without its reader, who may be looking for the next engine."""
_SLICE: Final = kinds.STREAM_ITEMS
_GRANT_ITEMS: Final = kinds.STREAM_ITEMS // 4
_GRANT_BYTES: Final = kinds.WINDOW // 4
_ALL: Final = 1 << 60
_args_head = msgspec.json.Decoder(ArgsHead)
_chunk_head = msgspec.json.Decoder(ChunkHead)
_encode = msgspec.json.encode


class Streams:
    """The jobs that yield, and those who read."""

    def __init__(self, state: State, retention: Retention) -> None:
        self._state = state
        self._retention = retention
        self._streams: dict[str, JobStream] = {}
        self._readers: dict[tuple[Link, int], Reader] = {}
        self.cancel: Callable[[str, str], None] = lambda job, cause: None  # set by who does it

    def clear(self) -> None:
        """Forgets everything; every link is being closed."""
        self._streams.clear()
        self._readers.clear()

    # ── readers ───────────────────────────────────────────────────────────────────────────────────

    def read(self, link: Link, sid: int, row: dict[str, Any], position: Position, *, owner: bool) -> Reader:
        """`link` reads what a job yields from there on; `owner`: it is the one that submitted it."""
        kind = _args_head.decode(row["args_head"]).stream if row["args_head"] else ""
        if not kind or (kind == "live" and not owner):
            raise _no_stream(row["id"], kind)
        stream = self._of(row["id"], live=kind == "live")
        if stream.live:
            stream.count = max(stream.count, position.have)
        waiting = JobState(row["state"]) in {JobState.READY, JobState.DELAYED}
        if position.have and (waiting or position.attempt != row["attempt"]):
            raise _restarted(row["id"])
        stream.attempt = row["attempt"]
        stream.read = stream.read or position.have > 0
        reader = Reader(link, sid, stream, position.have, position.taken)
        stream.readers.append(reader)
        self._readers[link, sid] = reader
        self._pump(reader)
        if stream.live and position.taken:
            self._used(stream, position.taken)
        return reader

    def taken(self, link: Link, sid: int, head: Taken) -> None:
        """A reader has used items up, or leaves."""
        reader = self._readers.get((link, sid))
        if reader is None:
            return
        while reader.taken < head.upto and reader.sizes:
            reader.taken += 1
            reader.sizes.popleft()
        reader.taken = max(reader.taken, head.upto)
        if head.left:
            self._leave(reader)
            return
        if reader.stream.live:
            self._used(reader.stream, head.upto)
        self._pump(reader)

    def drop(self, link: Link) -> None:
        """A link is gone; a live job waits for its reader for a while."""
        for (owner, _sid), reader in list(self._readers.items()):
            if owner is link:
                self._leave(reader)

    def _leave(self, reader: Reader) -> None:
        self._readers.pop((reader.link, reader.sid), None)
        stream = reader.stream
        if reader in stream.readers:
            stream.readers.remove(reader)
        if stream.readers:
            return
        if stream.live and not stream.ended:
            self._look_for_reader(stream)
        elif stream.job not in self._state.active:
            self._streams.pop(stream.job, None)

    def _look_for_reader(self, stream: JobStream) -> None:
        self._state.call_later(ABANDONED_S, self._abandon, stream)

    def _abandon(self, stream: JobStream) -> None:
        if self._streams.get(stream.job) is stream and not stream.readers and not stream.ended:
            self.cancel(stream.job, "its reader is gone")

    # ── items ─────────────────────────────────────────────────────────────────────────────────────

    def chunk(self, worker: Worker, head: Chunk, parts: Sequence[bytes]) -> None:
        """A worker sends what a job has yielded, perhaps again; of a stale attempt it is nothing to anybody."""
        job = next((one for one in worker.inflight if one.job == head.job and one.epoch == head.epoch), None)
        if job is None or not job.stream:
            return
        stream = self._at_worker(job, worker, head.n)
        if head.n == stream.count:
            self._keep(stream, head, parts)
        elif stream.live:  # it did not hear what was taken
            self._used(stream, max((reader.taken for reader in stream.readers), default=0))
        else:
            self._grant(stream, stream.count)

    def _at_worker(self, job: Active, worker: Worker, n: int) -> JobStream:
        known = job.job in self._streams
        stream = self._of(job.job, live=job.stream == "live")
        if not known and stream.live:
            stream.count = stream.count or n  # what was used up before the last engine ended is on record no more
            self._look_for_reader(stream)
        stream.attempt, stream.epoch, stream.worker = job.attempt, job.epoch, worker
        return stream

    def _keep(self, stream: JobStream, head: Chunk, parts: Sequence[bytes]) -> None:
        more = _encode(ChunkHead(head.blobs, head.defs)).decode() if head.blobs or head.defs else None
        store, packed = self._state.turn.write(), bytes(frame.pack_parts(parts))
        store.add_chunk(stream.job, StoredChunk(head.n, more, packed))
        if head.blobs:
            store.add_blobs(stream.job, [moved for moved in head.blobs if blobs.is_id(moved[1])])
        stream.count += 1
        size = len(packed) + sum(moved[2] for moved in head.blobs)
        for reader in stream.readers:
            if reader.sent == head.n and _has_room(reader):
                self._send(reader, head.n, size, ChunkHead(head.blobs, head.defs), parts)
        stream.ungranted += size
        if not stream.live and (stream.count - stream.granted >= _GRANT_ITEMS or stream.ungranted >= _GRANT_BYTES):
            self._grant(stream, stream.count)

    def _pump(self, reader: Reader) -> None:
        """Sends what is on record, as far as the reader has room; at the end of all how the job ended."""
        stream = reader.stream
        while reader.behind and _has_room(reader):
            rows = self._state.store.chunks(stream.job, reader.sent, _SLICE)
            if not rows:
                reader.sent = stream.count
            for row in rows:
                if _has_room(reader):
                    head = chunk_head(row)
                    size = len(row.body) + sum(moved[2] for moved in head.blobs)
                    self._send(reader, row.n, size, head, frame.unpack_parts(row.body))
        if reader.outcome and not reader.behind:
            self._state.turn.promise(reader.link, reader.outcome)
            self._leave(reader)

    def _send(self, reader: Reader, n: int, size: int, more: ChunkHead, parts: Sequence[bytes]) -> None:
        head = Chunk(n=n, attempt=reader.stream.attempt, blobs=more.blobs, defs=more.defs)
        reader.stream.read = True
        reader.sent = n + 1
        reader.sizes.append(size)
        self._state.turn.promise(reader.link, head.encode(parts, sid=reader.sid))

    def _used(self, stream: JobStream, upto: int) -> None:
        """The reader of a live job has used items up: they go, and as many more may come."""
        self._forget(stream.job, upto)
        self._grant(stream, upto)

    def _grant(self, stream: JobStream, upto: int) -> None:
        stream.granted, stream.ungranted = upto, 0
        if stream.worker is not None:
            head = Taken(upto=upto, job=stream.job, epoch=stream.epoch)
            self._state.turn.promise(stream.worker.link, head.encode())

    def _forget(self, job: str, before: int) -> None:
        if names := self._state.turn.write().drop_chunks(job, before):
            self._retention.remove_after_turn(names)

    def was_read(self, job: str) -> None:
        """Items of a job that still runs were given to somebody who keeps no position."""
        if job in self._state.active:
            self._of(job, live=False).read = True

    # ── attempts ──────────────────────────────────────────────────────────────────────────────────

    def is_read(self, job: str) -> bool:
        """Whether somebody has been given an item of the attempt that there is."""
        stream = self._streams.get(job)
        return stream is not None and stream.read

    def begin_again(self, job: str) -> None:
        """There will be another attempt of a job: what the last one yielded goes."""
        self._forget(job, _ALL)
        self._state.turn.write().give(job, 0)
        stream = self._streams.get(job)
        if stream is not None:
            stream.count = stream.granted = stream.ungranted = 0
            stream.worker = None
            for reader in stream.readers:
                reader.sent = reader.taken = 0
                reader.sizes.clear()

    def ended(self, job: str) -> None:
        """A job has ended; who waited has been told, but for readers that are behind."""
        stream = self._streams.get(job)
        if stream is None:
            return
        stream.ended, stream.worker = True, None
        for reader in list(stream.readers):
            if not reader.behind:
                self._leave(reader)
        if not stream.readers:
            self._streams.pop(job, None)

    def _of(self, job: str, *, live: bool) -> JobStream:
        stream = self._streams.get(job)
        if stream is None:
            stream = self._streams[job] = JobStream(job, live, self._state.store.chunk_count(job))
        return stream


def chunk_head(row: StoredChunk) -> ChunkHead:
    """What the parts of an item are."""
    return _chunk_head.decode(row.head) if row.head else ChunkHead()


def _has_room(reader: Reader) -> bool:
    """A live job is never far ahead, so all that it has yielded can be sent."""
    return reader.stream.live or (len(reader.sizes) < kinds.STREAM_ITEMS and sum(reader.sizes) < kinds.WINDOW)


class _NoStream(UsageError):
    code = "bad_request"


class _Restarted(FlashError):
    code = "stream_restarted"


def _no_stream(job: str, kind: str) -> FlashError:
    if kind:
        return _NoStream(
            f"the items of job {job} cannot be read by others",
            why="a program reads them with fn.stream(…), and what it has read is not kept",
            fix="spawn the function instead: await fn.spawn(…), then handle.stream(), by as many as like",
        )
    return _NoStream(
        f"job {job} gives no stream",
        why="its function returns one value when it has ended, or somebody awaits the list of all that it yields",
        fix="await the handle, or follow what it prints: handle.logs(follow=True)",
    )


def _restarted(job: str) -> FlashError:
    return _Restarted(
        f"the stream of job {job} has begun anew",
        why="its worker was lost while no engine ran, so what was read is of an attempt that does not count",
        fix="read it from the start: handle.stream()",
    )
