"""Redis, for the peers that keep their queue in it: it appends to its file and syncs once a second."""

# mypy: ignore-errors
# Its client is installed in the environment that this runs in, and only there.

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import redis

SOCKET = Path(os.environ["BENCH_SCRATCH"]) / "redis"


def start():
    """The server of the peer's own environment, otherwise the machine's; in a scratch folder, on a socket."""
    own = next(Path(sys.prefix).rglob("redis-server"), None)
    server = own or shutil.which("redis-server")
    if server is None:
        sys.exit("no redis-server: neither the wheel nor the system has one")
    subprocess.Popen([
        server, "--port", "0", "--unixsocket", SOCKET, "--dir", os.environ["FLASH_HOME"],
        "--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
    ], stdout=sys.stderr)  # fmt: skip
    client = redis.Redis(unix_socket_path=str(SOCKET))
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
