"""The two apps that callers and consumers of huey import.

Redis tells a caller of its result (`notify_result`, there for low latency). SQLite has to be asked.
"""

# mypy: ignore-errors
# huey is installed in the environment that this runs in, and only there.

import os
from pathlib import Path

from huey import RedisHuey, SqliteHuey

from benchmarks.peers import redis_server

in_redis = RedisHuey("noop", url=f"unix://{redis_server.SOCKET}", notify_result=True)
in_sqlite = SqliteHuey("noop", filename=str(Path(os.environ["FLASH_HOME"]) / "huey.db"))


def noop(n):
    """Does nothing."""
    return {"n": n}


TASKS = {"in_redis": in_redis.task()(noop), "in_sqlite": in_sqlite.task()(noop)}
