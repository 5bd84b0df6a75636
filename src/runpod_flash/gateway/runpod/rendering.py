"""How a job stands, as JSON text of Runpod's protocol. What a job gave is JSON text already, and put in as it is."""

from __future__ import annotations

import json
import socket
from typing import Final

from runpod_flash._version import __version__
from runpod_flash.engine.http_jobs import Told
from runpod_flash.model.job import ErrorKind, JobStatus
from runpod_flash.wire.messages import ErrorInfo

AS_IT_IS: Final = "runpod"
"""The `module` of an error whose message a worker of Runpod's protocol said, and which its clients get unchanged."""
_ONLY_PICKLED: Final = "its value is there for Python alone, which awaited it: JobHandle.from_id(…).result()"
_dumps: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def status(told: Told) -> bytes:
    """The status object."""
    pieces = [b'{"id":"%b","status":"%b"' % (told.id.encode(), told.status.encode())]
    if told.outcome is not None or told.status == JobStatus.IN_PROGRESS:
        times = told.delay_ms, told.run_ms, _text(told.worker)
        pieces.append(b',"delayTime":%d,"executionTime":%d,"workerId":%b' % times)
    if told.why:
        pieces += b',"waitReason":', _text(told.why)
    if told.attempt > 1:
        pieces.append(b',"retries":%d' % (told.attempt - 1))
    if told.output is not None:
        pieces += b',"output":', bytes(told.output)
    if (outcome := told.outcome) is not None:
        if outcome.error is not None:
            pieces += b',"error":', _text(error(outcome.error, told.worker))
        elif told.output is None and outcome.encoding != "json":
            pieces += b',"outputError":', _text(outcome.json_error or _ONLY_PICKLED)
    pieces.append(b"}")
    return b"".join(pieces)


def error(info: ErrorInfo, worker: str) -> str:
    """Why a job did not complete. What user code raised is told as Runpod's workers do: a JSON object, as text."""
    if info.module == AS_IT_IS:
        return info.verbatim or info.message or "the worker gave no reason"
    if info.kind != ErrorKind.USER:
        return f"{info.type}: {info.message}" if info.message else info.type
    name = info.type if info.module == "builtins" else f"{info.module}.{info.type}"
    return _dumps(
        {
            "error_type": f"<class '{name}'>",
            "error_message": info.message,
            "error_traceback": info.traceback,
            "hostname": socket.gethostname(),
            "worker_id": worker,
            "runpod_version": f"flash {__version__}",
        }
    )


def _text(value: str) -> bytes:
    return _dumps(value).encode("utf-8", "replace")
