"""Ray Serve: the no-op as a deployment with one replica, on the port that is named, without Ray's dashboard."""

# mypy: ignore-errors
# Ray is installed in the environment that this runs in, and only there.

import logging
import os
import signal
import sys

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell its makers of this run

import ray
from ray import serve
from starlette.requests import Request

QUIET = {"enable_access_log": False, "log_level": "ERROR"}


@serve.deployment(logging_config=QUIET, max_ongoing_requests=100)
class Noop:
    """Has one replica."""

    async def __call__(self, request: Request):
        """Does nothing."""
        return {"n": (await request.json())["n"]}


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
        object_store_memory=200_000_000,
        _temp_dir=os.environ["BENCH_SCRATCH"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config=QUIET)
    serve.run(Noop.bind(), route_prefix="/noop")
    signal.pause()
