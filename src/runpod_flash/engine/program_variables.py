"""Workers that are programs of the user's own: what they are told at their start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from runpod_flash.engine.records import Worker

PING_S: Final = 1
"""Between two signs of life of a worker that asks for jobs over HTTP; whole seconds, says the protocol."""
_LOCAL: Final = ("127.0.0.1", "localhost")


def variables(worker: Worker, key: str, gateway: str) -> dict[str, str]:
    """The environment of a program. `key` is what it shows us; `gateway` is where it finds us.

    The user's own values go before ours where that does no harm.
    """
    spec = worker.pool.spec
    given = {**spec.base_env, **spec.variables}
    usual = {
        "PYTHONUNBUFFERED": "1",  # or what it prints would come late, and after a kill not at all
        "RUNPOD_LOG_LEVEL": "INFO",
        "RUNPOD_DEBUG_LEVEL": "INFO",
        # It looks for a CUDA driver, for the internet and for disk space, and ends without one of them.
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
    }
    assert spec.program is not None
    ours = _of_jobs(worker, key, gateway) if spec.program.protocol == "jobs" else {}
    return {**usual, **given, **_without_proxy(given), **_facts(worker), **ours}


def _facts(worker: Worker) -> dict[str, str]:
    """Which worker of what it is."""
    pool = worker.pool
    return {
        "RUNPOD_ENDPOINT_ID": pool.endpoint.spec.id,
        "RUNPOD_POD_ID": worker.id,
        "RUNPOD_POD_HOSTNAME": worker.id,
        "RUNPOD_GPU_COUNT": str(len(worker.gpus)),
        "RUNPOD_CPU_COUNT": f"{pool.placement.cpus:g}",
    }


def _of_jobs(worker: Worker, key: str, gateway: str) -> dict[str, str]:
    """Where it asks for jobs, and where it brings their results. $ID is the worker's or the job's, by turns."""
    base = f"{gateway}/v2/{quote(worker.pool.endpoint.spec.id)}"
    kind = "GPU" if worker.gpus else "CPU"
    return {
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID?gpu={kind}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID?gpu={kind}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID?gpu={kind}",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID?gpu={kind}",
        "RUNPOD_PING_INTERVAL": str(PING_S * 1000),
        "RUNPOD_AI_API_KEY": key,
    }


def _without_proxy(given: Mapping[str, str]) -> dict[str, str]:
    """The way to this machine leads through no proxy."""
    found = given.get("NO_PROXY") or given.get("no_proxy") or ""
    names = ",".join(dict.fromkeys([*filter(None, found.split(",")), *_LOCAL]))
    return {"NO_PROXY": names, "no_proxy": names}
