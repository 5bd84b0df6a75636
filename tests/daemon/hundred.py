"""Starts an engine a hundred times at once: prints what each of them said, and waits until one is left.

Forked, not spawned: a hundred interpreters that import at the same time would measure the disk.
"""

from __future__ import annotations

import json
import os
import sys

from runpod_flash.daemon.main import main
from tests.daemon.engines import read_line

COUNT = 100


def start(home: str) -> tuple[int, int]:
    ready, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        os._exit(main(["--home", home, "--ready-fd", str(theirs)]))
    os.close(theirs)
    return pid, ready


children = [start(sys.argv[1]) for _ in range(COUNT)]
said = [json.loads(read_line(ready) or "{}") for _, ready in children]
ended = [os.wait() for _ in range(COUNT - 1)]
(left,) = {pid for pid, _ in children} - {pid for pid, _ in ended}
print(json.dumps({"said": said, "codes": [code for _, code in ended], "left": left}), flush=True)
os.waitpid(left, 0)
