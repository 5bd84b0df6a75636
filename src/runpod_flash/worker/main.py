"""Starts one worker directly: where forking a zygote is not safe, or not available.

    <environment>/bin/python -I <runtime>/runpod_flash/worker/main.py <runtime> <fd>

The arguments and messages are those of `zygote.py` (without `ready`), for one worker: the host sends its
message and descriptors over the inherited socket `fd`, and is told the process id or what went wrong.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Takes the one order and becomes that worker."""
    runtime, fd = sys.argv[1], int(sys.argv[2])
    sys.path.insert(0, runtime)
    # Our package can only be found from here on.
    from runpod_flash.worker import zygote  # noqa: PLC0415

    worker = zygote.import_worker(runtime)
    link = socket.socket(fileno=fd)
    link.set_inheritable(False)
    order = zygote.receive(link)
    if order is None:
        os._exit(worker.HOST_GONE)
    message, descriptors = order
    zygote.send(link, {"worker": message["worker"], "pid": os.getpid()})
    link.close()
    worker.enter(message, descriptors)
    raise AssertionError  # unreachable: entering is for ever


if __name__ == "__main__":
    main()
