"""What an endpoint is in the words of Runpod's management, and which of these words can change one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runpod_flash.engine.records import Endpoint, Worker
from runpod_flash.gateway.runpod.request import Refused

Json = dict[str, Any]

_SCALERS: Final = ("QUEUE_DELAY", "REQUEST_COUNT")
_MOST: Final = 1_000_000
_STATES: Final = {"starting": "INITIALIZING", "idle": "IDLE", "busy": "RUNNING", "draining": "RUNNING"}


def of_rest(endpoint: Endpoint) -> Json:
    """As the REST API has it."""
    spec, base = endpoint.spec, f"/v2/{endpoint.spec.id}"
    of_queue = {
        "run": f"{base}/run",
        "runSync": f"{base}/runsync",
        "status": f"{base}/status/{{id}}",
        "stream": f"{base}/stream/{{id}}",
        "cancel": f"{base}/cancel/{{id}}",
        "retry": f"{base}/retry/{{id}}",
        "purgeQueue": f"{base}/purge-queue",
        "health": f"{base}/health",
    }
    count = spec.scaler == "REQUEST_COUNT"
    return {
        "id": spec.id,
        "name": spec.name,
        "app": spec.app,
        "env": spec.env,
        "type": "LOAD_BALANCER" if spec.kind == "lb" else "QUEUE",
        "scaling": {"type": spec.scaler, "requestCount" if count else "queueDelay": spec.scaler_value},
        "workers": {"min": spec.workers_min, "max": spec.workers_max, "idleTimeout": spec.idle_timeout_s},
        "timeout": spec.execution_timeout_ms,
        "requestUrls": {"base": f"/lb/{spec.id}"} if spec.kind == "lb" else of_queue,
    }


def of_graphql(endpoint: Endpoint) -> Json:
    """As GraphQL has it; what means nothing on one machine is None."""
    spec = endpoint.spec
    return {
        "id": spec.id,
        "name": spec.name,
        "type": "LB" if spec.kind == "lb" else "QB",
        "idleTimeout": spec.idle_timeout_s,
        "scalerType": spec.scaler,
        "scalerValue": spec.scaler_value,
        "workersMin": spec.workers_min,
        "workersMax": spec.workers_max,
        "workersStandby": spec.workers_min,
        "executionTimeoutMs": spec.execution_timeout_ms or 0,
        "env": [],
        "version": 1,
    }


def of_worker(worker: Worker, age_s: int) -> Json:
    """A worker, as the REST API has it."""
    return {
        "id": worker.id,
        "status": _STATES.get(worker.state, "UNHEALTHY"),
        "gpuCount": len(worker.gpus),
        "uptimeSeconds": age_s,
        "isStale": worker.state == "draining",
    }


def changes_of_rest(body: Mapping[str, Any]) -> Json:
    """What a body of PATCH changes; Refused (422) names each field that it cannot."""
    found: Json = {}
    wrong: list[Json] = []
    for name, value in body.items():
        try:
            found.update(_FIELDS[name](value))
        except KeyError:
            wrong.append({"field": name, "message": "it cannot be changed here: the program that declares it says it"})
        except _Wrong as error:
            wrong.append({"field": name, "message": str(error)})
    if wrong:
        raise Refused(422, f"{wrong[0]['field']}: {wrong[0]['message']}", errors=wrong)
    return found


def changes_of_graphql(said: Mapping[str, Any]) -> Json:
    """What the input of saveEndpoint changes; what means nothing on one machine is passed over."""
    numbers = {"workersMin": "workers_min", "workersMax": "workers_max", "scalerValue": "scaler_value"}
    try:
        found: Json = {ours: _count(said[name]) for name, ours in numbers.items() if said.get(name) is not None}
        if said.get("idleTimeout") is not None:
            found["idle_timeout_s"] = _seconds(said["idleTimeout"])
        if said.get("executionTimeoutMs"):
            found["execution_timeout_ms"] = _count(said["executionTimeoutMs"])
        if said.get("scalerType") is not None:
            found["scaler"] = _scaler(said["scalerType"])
    except _Wrong as error:
        raise Refused(400, f"the input of saveEndpoint does not fit: {error}") from None
    return found


class _Wrong(ValueError):
    """A value that cannot be."""


def _workers(value: Any) -> Json:
    names = {
        "min": ("workers_min", _count),
        "max": ("workers_max", _count),
        "idleTimeout": ("idle_timeout_s", _seconds),
    }
    return {names[name][0]: names[name][1](one) for name, one in _members(value, names).items()}


def _scaling(value: Any) -> Json:
    names = {"type": _scaler, "queueDelay": _count, "requestCount": _count}
    said = {name: names[name](one) for name, one in _members(value, names).items()}
    found = {"scaler": said["type"]} if "type" in said else {}
    number = said.get("queueDelay", said.get("requestCount"))
    return {**found, **({} if number is None else {"scaler_value": number})}


def _members(value: Any, names: Mapping[str, Any]) -> Json:
    if not isinstance(value, dict):
        raise _Wrong("it has to be an object")
    if unknown := sorted(value.keys() - names.keys()):
        raise _Wrong(f"there is no {unknown[0]!r} in it: {', '.join(names)}")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise _Wrong(f"{value!r} is no whole number from 0 to {_MOST:,}")
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise _Wrong(f"{value!r} is no number of seconds from 0 to {_MOST:,}")
    return float(value)


def _scaler(value: Any) -> str:
    if value not in _SCALERS:
        raise _Wrong(f"{value!r} is none of {', '.join(_SCALERS)}")
    return str(value)


_FIELDS: Final[dict[str, Any]] = {
    "workers": _workers,
    "scaling": _scaling,
    "timeout": lambda value: {"execution_timeout_ms": _count(value) or None},
}
