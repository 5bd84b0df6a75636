"""The Job API as OpenAPI describes it: one document for all endpoints, without a byte from elsewhere."""

from __future__ import annotations

from typing import Any, Final

from runpod_flash._version import __version__
from runpod_flash.model.job import STATUSES

Json = dict[str, Any]

_STATUS: Final[Json] = {"type": "string", "enum": list(STATUSES)}
_COUNT: Final[Json] = {"type": "integer", "minimum": 0}
_TEXT: Final[Json] = {"type": "string"}
_MILLISECONDS: Final[Json] = {"type": "integer", "minimum": 0, "description": "Milliseconds."}
_JOBS: Final = ("completed", "failed", "inProgress", "inQueue", "retried")
_WORKERS: Final = ("idle", "initializing", "ready", "running", "throttled", "unhealthy")


def document() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flash: jobs over HTTP",
            "version": __version__,
            "description": "Runpod's Job API, for functions of this engine. `flash engine token` prints the key.",
        },
        "servers": [{"url": "/"}],
        "paths": {**dict(_paths()), **_managed()},
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}],
    }


def _paths() -> list[tuple[str, Json]]:
    job, wait = _job_id(), _in_query("wait", "Milliseconds to wait at most; 90,000, if it is not said.")
    first = _in_query("from", "From which item on, without giving any away.")
    listed = [
        {**_in_query("status", "Jobs in this status."), "schema": _TEXT},
        _in_query("limit", "How many at most: 100, if it is not said; up to 1000."),
        _in_query("cursor", "From where the last answer ended."),
    ]
    both = {"GET", "POST"}
    found = [
        _path("run", {"POST"}, "Puts a job on record.", "Accepted", body="Job"),
        _path("runsync", {"POST"}, "Puts a job on record, and answers when it has ended.", "Status", [wait], "Job"),
        _path("status/{id}", both, "How a job stands.", "Status", [job]),
        _path("status-sync/{id}", both, "How a job stands, once it has ended.", "Status", [job, wait]),
        _path("stream/{id}", both, "What a job yielded since the last look.", "Stream", [job, first]),
        _path("cancel/{id}", {"POST"}, "Ends a job.", "Accepted", [job]),
        _path("retry/{id}", {"POST"}, "Runs a job that FAILED or TIMED_OUT again.", "Accepted", [job]),
        _path("purge-queue", {"POST"}, "Cancels what waits.", "Purged"),
        _path("health", {"GET"}, "Counts of jobs and workers.", "Health"),
        _path("metrics", {"GET"}, "Which workers are ready.", "Metrics"),
        _path("requests", {"GET"}, "The jobs, newest first.", "Requests", listed),
    ]
    return [(f"/v2/{{endpoint}}/{name}", operations) for name, operations in found]


def _managed() -> Json:
    """Endpoints looked after."""
    named = {**_ENDPOINT, "description": "An endpoint's id or name."}
    known = {**_REFUSALS, "422": _answer("A field that cannot be, or cannot be changed.", "Error")}

    def operation(id: str, summary: str, gives: str, body: str = "", *, one: bool = True) -> Json:
        found: Json = {"operationId": id, "summary": summary, "parameters": [named] if one else []}
        if body:
            found["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
        done = {"200": _answer("Done.", gives)} if gives else {"204": {"description": "Done."}}
        return {**found, "responses": {**done, **known}}

    return {
        "/v2/serverless": {
            "get": operation("endpoints", "All endpoints.", "Endpoints", one=False),
            "post": operation("set_up", "Sets up an endpoint that a program has made.", "Endpoint", "Setup", one=False),
        },
        "/v2/serverless/{endpoint}": {
            "get": operation("endpoint", "One endpoint.", "Endpoint"),
            "patch": operation("change", "Changes how far an endpoint scales.", "Endpoint", "Change"),
            "delete": operation("end", "Cancels what waits, and lets the workers go.", ""),
        },
        "/v2/serverless/{endpoint}/workers": {"get": operation("workers", "Its workers.", "Workers")},
        "/graphql": {
            "post": operation("graphql", "The same for the package runpod 1.x.", "Answered", "Query", one=False),
        },
    }


def _path(
    name: str, methods: set[str], summary: str, gives: str, parameters: list[Json] | None = None, body: str = ""
) -> tuple[str, Json]:
    verb = name.partition("/")[0]
    operation: Json = {
        "summary": summary,
        "parameters": [_ENDPOINT, *(parameters or ())],
        "responses": {"200": _answer("Done.", gives), **_REFUSALS},
    }
    if body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return name, {
        method.lower(): {**operation, "operationId": verb if len(methods) == 1 else f"{verb}_{method.lower()}"}
        for method in sorted(methods)
    }


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _in_query(name: str, description: str) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": _COUNT}


def _job_id() -> Json:
    return {"name": "id", "in": "path", "required": True, "description": "A job's id.", "schema": _TEXT}


def _object(properties: Json, required: tuple[str, ...] = ()) -> Json:
    return {"type": "object", "properties": properties, **({"required": list(required)} if required else {})}


_ENDPOINT: Final[Json] = {
    "name": "endpoint",
    "in": "path",
    "required": True,
    "description": "An endpoint's id or name; `name:function` for one of its functions; `flash`, if headers name it.",
    "schema": _TEXT,
}
_REFUSALS: Final[Json] = {
    "400": _answer("The request says something that cannot be.", "Error"),
    "401": _answer("The key is missing, or not this engine's.", "Error"),
    "404": _answer("There is no such endpoint, function or job.", "Error"),
    "405": _answer("Another method.", "Error"),
    "413": _answer("The body is larger than FLASH_RUN_BODY, FLASH_RUNSYNC_BODY or FLASH_GATEWAY_BODY say.", "Error"),
    "415": _answer("The body is no JSON.", "Error"),
    "429": _answer("Too much waits already.", "Error"),
    "503": _answer("The engine is about to leave, or begins anew: ask again.", "Error"),
}
_ACCEPTED: Final = _object({"id": _TEXT, "status": _STATUS}, ("id", "status"))
_TOLD: Final[Json] = {
    "id": _TEXT,
    "status": _STATUS,
    "delayTime": {**_MILLISECONDS, "description": "Milliseconds that it waited."},
    "executionTime": {**_MILLISECONDS, "description": "Milliseconds that it ran."},
    "workerId": _TEXT,
    "output": {"description": "What its function gave; while it runs, what it said last of its progress."},
    "outputError": {**_TEXT, "description": "Why there is no output, although it completed."},
    "error": {**_TEXT, "description": "Why it did not complete; JSON text, where its function raised."},
    "retries": {**_COUNT, "description": "How often it was run again."},
    "waitReason": {**_TEXT, "description": "What it waits for, if that is anything special."},
}
_CHANGE: Final[Json] = {
    "workers": _object({"min": _COUNT, "max": _COUNT, "idleTimeout": {"type": "number", "description": "Seconds."}}),
    "scaling": _object({"type": _TEXT, "queueDelay": _COUNT, "requestCount": _COUNT}),
    "timeout": {**_MILLISECONDS, "description": "Milliseconds of one run; 0: as its functions say."},
}
_ENDPOINT_FACTS: Final = _object(
    {
        **dict.fromkeys(("id", "name", "app", "env", "type"), _TEXT),
        "scaling": _CHANGE["scaling"],
        "workers": _CHANGE["workers"],
        "timeout": {"type": ["integer", "null"]},
        "requestUrls": {"type": "object", "additionalProperties": _TEXT},
    },
    ("id", "name", "type", "scaling", "workers", "requestUrls"),
)
_SCHEMAS: Final[Json] = {
    "Job": _object(
        {
            "input": {"description": "The arguments of the function, by name; or the one that takes all."},
            "webhook": {**_TEXT, "format": "uri", "description": "Who is told of its end, by POST."},
            "policy": _object(
                {
                    "executionTimeout": {"type": "integer", "minimum": 1, "description": "Milliseconds of one run."},
                    "ttl": {"type": "integer", "minimum": 1, "description": "Milliseconds in which it has to end."},
                    "lowPriority": {"type": "boolean", "description": "After all others, and without more workers."},
                }
            ),
            "s3Config": {"description": "Handed on to workers of Runpod's protocol."},
        },
        ("input",),
    ),
    "Accepted": _ACCEPTED,
    "Status": _object(_TOLD, ("id", "status")),
    "Stream": _object(
        {"status": _STATUS, "stream": {"type": "array", "items": _object({"output": {}}, ("output",))}},
        ("status", "stream"),
    ),
    "Purged": _object({"removed": _COUNT, "status": _TEXT}, ("removed", "status")),
    "Health": _object(
        {
            "jobs": _object(dict.fromkeys(_JOBS, _COUNT), _JOBS),
            "workers": _object(dict.fromkeys(_WORKERS, _COUNT), _WORKERS),
            "reason": {**_TEXT, "description": "Why jobs wait, or workers do not start."},
        },
        ("jobs", "workers"),
    ),
    "Metrics": _object(
        {
            "readyWorkers": {"type": "array", "items": _TEXT},
            "workers": _object(dict.fromkeys(_WORKERS, _COUNT), _WORKERS),
        },
        ("readyWorkers", "workers"),
    ),
    "Requests": _object(
        {
            "requests": {
                "type": "array",
                "items": _object(
                    {
                        **{name: _TOLD[name] for name in ("id", "status", "delayTime", "executionTime", "workerId")},
                        "createdAt": {"type": "integer", "description": "Milliseconds since 1970."},
                        "retries": _COUNT,
                    },
                    ("id", "status", "createdAt"),
                ),
            },
            "cursor": {**_TEXT, "description": "Where the next page begins, if there may be one."},
        },
        ("requests",),
    ),
    "Change": _object(_CHANGE),
    "Setup": _object({"name": _TEXT, **_CHANGE}, ("name",)),
    "Endpoint": _ENDPOINT_FACTS,
    "Endpoints": _object({"endpoints": {"type": "array", "items": _ENDPOINT_FACTS}}, ("endpoints",)),
    "Workers": _object(
        {
            "summary": {"type": "object", "additionalProperties": _COUNT},
            "workers": {
                "type": "array",
                "items": _object({"id": _TEXT, "status": _TEXT, "gpuCount": _COUNT, "uptimeSeconds": _COUNT}, ("id",)),
            },
        },
        ("summary", "workers"),
    ),
    "Query": _object({"query": _TEXT, "variables": {"type": "object"}}, ("query",)),
    "Answered": {
        **_object({"data": {}, "errors": {"type": "array", "items": _object({"message": _TEXT}, ("message",))}}),
        "anyOf": [{"required": ["data"]}, {"required": ["errors"]}],
    },
    "Error": _object({"error": _TEXT}, ("error",)),
}
