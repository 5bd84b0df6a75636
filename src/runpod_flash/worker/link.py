"""The worker's link to the engine, and to the host that hands it out.

Holds every job from its START to the acknowledgement of its result, so that after any interruption it can
say what it has, and send results again. A stream that ends changes nothing for the job that runs.
"""

from __future__ import annotations

import contextlib
import json
import json.encoder
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from runpod_flash.payload.definitions import TABLE
from runpod_flash.wire import frame, kinds
from runpod_flash.wire.frame import Frame, FrameError, FrameReader
from runpod_flash.worker.instances import Instances
from runpod_flash.worker.items import Items
from runpod_flash.worker.poll import Descriptors, Poll

HOST_GONE: Final = 70
_CHUNK: Final = 64 * 1024
_OLD_STREAM_S: Final = 5.0

Key = tuple[str, int]
"""A job and the epoch of its attempt."""


class Start:
    """A START as it arrived: the fields of its head, of which some are only there where they say something."""

    job: str
    epoch: int
    attempt: int
    name: str
    digest: str
    timeout_ms = 0
    encoding = "pickle"
    blobs: Sequence[Sequence[int | str]] = ()
    want_json = False
    stream = ""
    instance = ""
    drop: Sequence[str] = ()

    def __init__(self, head: dict[str, Any], parts: tuple[bytes, ...]) -> None:
        self.__dict__ = head
        self.parts = parts
        self.key: Key = (self.job, self.epoch)
        self.job_json = _quote(self.job)


class Runner(Protocol):
    """What the link asks of the one who runs the jobs; called from whichever thread reads."""

    frames: Mapping[int, Callable[[Frame], None]]
    """Frames that it takes itself, by their type."""
    instances: Instances
    """What it keeps alive between calls."""

    def cancel_running(self, key: Key, cause: str) -> None:
        """Cancels the job if it is the one that runs."""

    def stream_ended(self) -> None:
        """The stream is gone, and with it whoever would hear what is to be sent once, or not at all."""


class Link:
    """Reads frames and control bytes, keeps what is held, sends results.

    Two threads use it: the main thread reads while it has nothing to run, the watcher while a call lasts.
    `reading` is held by the one that reads; `_sending` guards what is held for the engine and the stream's other
    direction. Only who reads adds a job to what is held.
    """

    def __init__(self, worker: str, control: socket.socket, runner: Runner, born: float) -> None:
        # For the life of the worker.
        self.reading = threading.Lock()
        self.waiting: deque[Start] = deque()
        self.draining = False
        self.leaving = False
        self._worker = worker
        self._control = control
        self._runner = runner
        self._born = born
        self._poll = Poll()
        self._descriptors: Descriptors = self._poll
        self._sending = threading.RLock()
        self._held: dict[Key, bytes | None] = {}  # None until there is a result
        self._items: dict[Key, Items] = {}
        self._fresh = True
        # For the life of a stream.
        self.blob_dir = ""
        self.sync_blobs = False
        self.max_value = 0
        self._stream: socket.socket | None = None
        self._stream_fd = -1
        self._frames = FrameReader()
        self._greeted = False
        self._disowned = False

        self._handlers: dict[int, Callable[[Frame], None]] = {
            kinds.START: self._on_start,
            kinds.CANCEL: self._on_cancel,
            kinds.ACK: self._on_ack,
            kinds.DEF: self._on_definition,
            kinds.DRAIN: self._on_drain,
            kinds.EXIT: self._on_exit,
            kinds.PING: self._on_ping,
            kinds.WELCOME: self._on_welcome,
            kinds.REFUSE: self._on_refuse,
        }

        self._descriptors.add(control.fileno())
        os.register_at_fork(after_in_child=self._disown)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def wait(self) -> None:
        """Waits until there is something to read; does not read it."""
        self._poll.wait()

    def read(self) -> None:
        """Reads what is there, without waiting; the caller holds `reading`."""
        for descriptor in self._poll.ready():
            self.read_from(descriptor)

    def wait_and_read(self, seconds: float = -1) -> None:
        """Both, for the thread that has nothing else to do; for ever, unless it says for how long."""
        for descriptor in self._poll.wait(seconds):
            self.read_from(descriptor)

    def read_with(self, descriptors: Descriptors) -> None:
        """From now on somebody else waits for what can be read, and says so with `read_from`."""
        self._descriptors = descriptors
        descriptors.add(self._control.fileno())
        if self._stream is not None:
            descriptors.add(self._stream.fileno())

    def read_from(self, descriptor: int) -> None:
        """Reads what is there, of one of the two."""
        if descriptor == self._stream_fd:
            self._read_stream()
        elif descriptor == self._control.fileno():
            self._read_control()

    def _read_stream(self) -> None:
        assert self._stream is not None
        try:
            data = self._stream.recv(_CHUNK, socket.MSG_DONTWAIT)
            if data:
                self._take(data)
                return
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, FrameError):
            pass
        self._drop_stream()

    def _take(self, data: bytes) -> None:
        theirs, own = self._runner.frames, self._handlers
        for message in self._frames.feed(data):
            kind = message.kind
            take = theirs.get(kind) or own.get(kind)
            if take is not None:
                take(message)
            elif kind not in (kinds.PONG, kinds.GOODBYE, kinds.ERROR, kinds.OK):
                what = b'{"code":"unsupported","what":"a worker does not know frames of type %d"}' % kind
                error = frame.encode(kinds.ERROR, what, sid=message.sid, flags=kinds.END | kinds.FAILED)
                with self._sending:
                    self._write(error)

    def _read_control(self) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._control, 1, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            os._exit(HOST_GONE)  # without a host nobody would reap, limit or read this worker
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._change_stream(socket.socket(fileno=descriptor))

    def _change_stream(self, stream: socket.socket) -> None:
        if self._stream is not None:
            self._read_to_end(self._stream)
            self._drop_stream()
        self._frames = FrameReader()
        self._stream, self._stream_fd = stream, stream.fileno()
        self._descriptors.add(self._stream_fd)

    def _read_to_end(self, stream: socket.socket) -> None:
        """A START may still lie in the old stream, from an engine that is dead by now."""
        until = time.monotonic() + _OLD_STREAM_S
        with contextlib.suppress(OSError, FrameError):
            while (left := until - time.monotonic()) > 0:
                stream.settimeout(left)
                data = stream.recv(_CHUNK)
                if not data:
                    return
                self._take(data)

    def _drop_stream(self) -> None:
        with self._sending:
            stream, self._stream, self._stream_fd = self._stream, None, -1
            self._greeted = False
            if stream is not None:
                self._descriptors.remove(stream.fileno())
                stream.close()
        if stream is not None:
            self._runner.stream_ended()

    # ── frames ───────────────────────────────────────────────────────────────────────────────────

    def _on_start(self, message: Frame) -> None:
        head = decode_head(message.head)
        if "acks" in head:
            self._acknowledge(head["acks"])
        start = Start(head, message.parts)
        if start.key in self._held:
            return  # sent twice around a lost link
        self._held[start.key] = None
        if self.draining:
            self._release(start, "the worker is leaving")
        else:
            self.waiting.append(start)

    def _on_cancel(self, message: Frame) -> None:
        head = decode_head(message.head)
        key: Key = (head["job"], head.get("epoch", 0))
        for start in list(self.waiting):
            if start.key == key:
                # The main thread may take it at this very moment; then it runs, and is cancelled as such.
                with contextlib.suppress(ValueError):
                    self.waiting.remove(start)
                    self._release(start, head.get("cause", ""))
                    return
        if not head.get("only_waiting"):
            self._runner.cancel_running(key, head.get("cause", ""))

    def _on_ack(self, message: Frame) -> None:
        self._acknowledge(decode_head(message.head)["acks"])

    def _on_definition(self, message: Frame) -> None:
        TABLE.add(decode_head(message.head)["digest"], message.parts[0])

    def _on_drain(self, _message: Frame) -> None:
        self.draining = True
        while self.waiting:
            with contextlib.suppress(IndexError):
                self._release(self.waiting.popleft(), "the worker is leaving")

    def _on_exit(self, _message: Frame) -> None:
        self.leaving = True

    def _on_ping(self, message: Frame) -> None:
        with self._sending:
            self._write(frame.encode(kinds.PONG, b"{}", sid=message.sid))

    def _on_welcome(self, message: Frame) -> None:
        head = decode_head(message.head)
        self.blob_dir = head.get("blob_dir", "")
        self.sync_blobs = head.get("durability") == "power"
        self.max_value = head.get("max_value", 0)
        with self._sending:
            self._write(frame.encode(kinds.READY, self._ready_head()))
            self._greeted = True
            self._fresh = False
            for items in self._items.values():
                for _size, chunk in list(items.pending):
                    self._write(chunk)
            for result in self._held.values():
                if result is not None:
                    self._write(result)

    def _on_refuse(self, _message: Frame) -> None:
        self._drop_stream()  # the host hears of it too, and either ends this worker or brings another stream

    def _ready_head(self) -> bytes:
        head = {
            "worker": self._worker,
            "python": ".".join(map(str, sys.version_info[:3])),
            "held": list(self._held),
            "fresh": self._fresh,
            "instances": list(self._runner.instances),
            "ms": round((time.monotonic() - self._born) * 1000, 3),
        }
        return json.dumps(head).encode()

    # ── sending ──────────────────────────────────────────────────────────────────────────────────

    def finish(self, key: Key, result: bytes) -> None:
        """Keeps a DONE until it is acknowledged, and sends it if there is a stream."""
        if self._disowned:
            os._exit(0)  # user code forked, and its child came back from the call as well
        with self._sending:
            self._held[key] = result
            if self._greeted:
                self._write(result)

    def send(self, data: bytes) -> None:
        """Sends a frame if there is a stream that the engine listens on; to be sent once, or not at all."""
        if self._disowned:
            os._exit(0)
        with self._sending:
            if self._greeted:
                self._write(data)

    def items(self, start: Start) -> Items:
        """Where the items of a job go that yields them; kept, as its result is, until it is acknowledged."""
        of = f'"job":{start.job_json},"epoch":{start.epoch},'
        items = Items(self, self.send, of, kept=start.stream == "kept", as_json=start.encoding == "json")
        with self._sending:
            self._items[start.key] = items
        return items

    def on_taken(self, message: Frame) -> None:
        """Items of a job are done with."""
        head = decode_head(message.head)
        items = self._items.get((head["job"], head["epoch"]))
        if items is not None:
            items.taken(head["upto"])

    def fileno(self) -> int | None:
        """A descriptor that can be read whenever there is something to read; None where the system has no such."""
        return self._poll.fileno()

    def idle(self) -> bool:
        """Whether nothing is held: no job, and no result that might have to be sent again."""
        return not self._held

    def _release(self, start: Start, cause: str) -> None:
        error = {"type": "Released", "message": cause, "kind": "released", "module": "runpod_flash"}
        head = {"job": start.job, "epoch": start.epoch, "ok": False, "error": error}
        self.finish(start.key, frame.encode(kinds.DONE, json.dumps(head).encode()))

    def _acknowledge(self, acks: list[list[Any]]) -> None:
        with self._sending:
            for job, epoch, _verdict in acks:
                self._held.pop((job, epoch), None)
                if self._items:
                    self._items.pop((job, epoch), None)

    def _write(self, data: bytes) -> None:
        """Writes to the stream, if there is one; the caller holds `_sending`."""
        if self._stream is not None:
            try:
                self._stream.sendall(data)
            except OSError:
                self._greeted = False  # its end will be read, too

    def _disown(self) -> None:
        self._disowned = True
        for one in (self._stream, self._control):
            if one is not None:
                one.close()


_scan: Final = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # typeshed leaves it out
_quote: Final = json.encoder.encode_basestring_ascii


def decode_head(head: bytes) -> dict[str, Any]:
    """The head of a frame; the scanner behind `json.loads`, without its detours."""
    found: dict[str, Any] = _scan(head.decode(), 0)[0]
    return found
