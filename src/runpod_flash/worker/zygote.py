"""The zygote: one warm, single-threaded parent for an environment, from which its workers are forked.

Run by file path with the environment's own interpreter::

    <environment>/bin/python -I <runtime>/runpod_flash/worker/zygote.py <runtime> <fd>

`fd` is an inherited, connected unix STREAM socket to the host. `worker/main.py` takes the same arguments
and speaks the same protocol for exactly one worker: the host uses it where a fork is not safe or not
available (then it is the host's direct child from the start, and there is no `ready`).

Every message, both ways, is `u32 little endian length | JSON object`.

1. Zygote → host, once: ``{"ready": true, "pid": 12, "python": "3.11.7", "fork": true}``. With `fork` false
   (no `os.fork`, not Linux, or something started a thread) the host closes the socket and uses exec.
2. Host → zygote, for each worker, with six descriptors (SCM_RIGHTS, on the first bytes of the message) in
   this order: control socket, write end of the worker's stdout pipe, of its stderr pipe, of its log pipe, and
   the read ends of the first two pipes, which the worker only looks at::

       {"worker": "w1", "scratch": "/…/w1", "variables": {"PATH": "…"}, "title": "endpoint", "host_pid": 7}

   `scratch` exists; the worker makes `<scratch>/page` (its status page, unless the host has made it) and
   `<scratch>/files` (its working directory: apart, so that user code which opens "page" hurts nobody).
   Further fields, where there is something to say: `mounts` ([folder, place] each, for a view of the files of its
   own), `hidden` (folders that are empty in it), `links` ([folder, name] each, where there can be no such view),
   `processors` (those it runs on), `application` (its target and folder: what it serves, instead of functions),
   `relayed` or `program` (command and folder: what it starts, and relays requests to, or becomes).
   `variables` is the whole environment of the worker. The host closes its copies
   of the write ends and of the worker's side of the control socket after sending.
3. Zygote → host, for each: ``{"worker": "w1", "pid": 34}``, or ``{"worker": "w1", "error": "…", "why": "…"}``
   where nothing was started and the descriptors are closed; error is `unsafe` (forking would not be safe
   here any more: use exec) or `failed` (the fork itself failed: no memory, no process slots).

One request at a time is answered in order; the host may send the next before the answer.

The worker is forked twice, so it is re-parented to the host (which must be its sub-reaper:
PR_SET_CHILD_SUBREAPER) and outlives its zygote. `pid` is told as soon as it exists; it then sets itself up
and waits on its control socket for its first `S` byte. A worker that cannot be set up says why on its
stderr pipe and exits with code 71; one that finds its host gone exits with 70.

End of file on the socket ends the zygote; so does the death of the host. It imports, and nothing else: no
event loop, no thread, no user code, so a fork of it is safe and cheap.
"""

from __future__ import annotations

import array
import contextlib
import gc
import json
import os
import socket
import struct
import sys
import threading
from typing import Any, NoReturn

_LENGTH = struct.Struct("<I")
_DESCRIPTORS = 6
FAILED = 71
"""Exit code of a worker that could not be set up."""


def main() -> NoReturn:
    """Serves until the host closes the socket."""
    runtime, fd = sys.argv[1], int(sys.argv[2])
    worker = import_worker(runtime)
    host = os.getppid()
    worker.die_with(host)
    link = socket.socket(fileno=fd)
    link.set_inheritable(False)
    gc.collect()
    gc.freeze()
    unsafe = why_unsafe()
    send(link, {"ready": True, "pid": os.getpid(), "python": _version(), "fork": not unsafe})
    while (order := receive(link)) is not None:
        message, descriptors = order
        send(link, _launch(worker, link, message, descriptors))
        _reap()
    os._exit(0)


def send(link: socket.socket, message: dict[str, Any]) -> None:
    """Sends one message; a host that is gone is not an error."""
    body = json.dumps(message).encode()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        link.sendall(_LENGTH.pack(len(body)) + body)


def receive(link: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors; None at the end."""
    descriptors = array.array("i")
    room = socket.CMSG_SPACE(_DESCRIPTORS * descriptors.itemsize)
    head, ancillary, _flags, _address = link.recvmsg(_LENGTH.size, room, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if not head or (rest := _exactly(link, _LENGTH.size - len(head))) is None:
        return None
    body = _exactly(link, _LENGTH.unpack(head + rest)[0])
    return None if body is None else (json.loads(body), list(descriptors))


def why_unsafe() -> str:
    """Why this process must not be forked now, or nothing."""
    if not sys.platform.startswith("linux"):
        return f"forking is not trusted on {sys.platform}"
    if threading.active_count() != 1:
        return f"{threading.active_count()} Python threads run"
    try:
        tasks = len(os.listdir("/proc/self/task"))
    except OSError as error:
        return f"threads cannot be counted: {error}"
    return "" if tasks == 1 else f"{tasks} threads run"


def _launch(worker: Any, link: socket.socket, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
    name = message["worker"]
    try:
        if why := why_unsafe():
            return {"worker": name, "error": "unsafe", "why": why}
        return {"worker": name, "pid": _fork_twice(worker, link, message, descriptors)}
    except OSError as error:
        return {"worker": name, "error": "failed", "why": str(error)}
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def _fork_twice(worker: Any, link: socket.socket, message: dict[str, Any], descriptors: list[int]) -> int:
    """Forks a worker that is nobody's child but the host's; its process id."""
    answer, answer_end = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            _between(worker, link, message, descriptors, answer, answer_end)
        os.close(answer_end)
        answer_end = -1
        told = os.read(answer, _LENGTH.size)
    finally:
        os.close(answer)
        if answer_end >= 0:
            os.close(answer_end)
    if len(told) != _LENGTH.size:
        raise OSError("the second fork failed")
    return int(_LENGTH.unpack(told)[0])


def _reap() -> None:
    """Reaps the processes in between, after the answer: their exit takes longer than the fork did."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass


def _between(
    worker: Any, link: socket.socket, message: dict[str, Any], descriptors: list[int], answer: int, answer_end: int
) -> NoReturn:
    """The short-lived process between zygote and worker: forks the worker, tells its id, and is gone."""
    try:
        between = os.getpid()
        pid = os.fork()
        if pid:
            os.write(answer_end, _LENGTH.pack(pid))
            os._exit(0)
        os.close(answer)
        os.close(answer_end)
        link.close()
        worker.enter(message, descriptors, parent_before=between)
    finally:
        os._exit(FAILED)


def import_worker(runtime: str) -> Any:
    """Imports all that a worker needs, so that its forks are ready, and gets out of the user's way.

    The runtime folder comes first while our modules are found, and last afterwards: what the user's
    environment has goes before what we brought.
    """
    sys.path[:] = [runtime, *(path for path in sys.path if path != runtime)]
    import runpod_flash.worker.enter as worker  # noqa: PLC0415 — only importable from here on

    worker.warm_up()
    sys.path.remove(runtime)
    sys.path.append(runtime)
    return worker


def _exactly(link: socket.socket, count: int) -> bytes | None:
    data = b""
    while len(data) < count:
        piece = link.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data


def _version() -> str:
    return ".".join(map(str, sys.version_info[:3]))


if __name__ == "__main__":
    main()
