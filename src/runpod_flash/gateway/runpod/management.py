"""Endpoints looked after, as far as that means something on one machine: `/v2/serverless` and `/graphql`.

An endpoint is made by the program that declares its functions, or by `flash serve`; here it is found, scaled and ended.
Templates name images of containers, which nothing here runs: they are taken, and have no effect.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from runpod_flash._version import __version__
from runpod_flash.engine.records import Endpoint
from runpod_flash.errors import EngineRefused, FlashError, StoreError
from runpod_flash.gateway.runpod import endpoints, query_language
from runpod_flash.gateway.runpod.query_language import BadQuery, Field
from runpod_flash.gateway.runpod.request import Refused, Request
from runpod_flash.model.hardware import GpuType

Json = dict[str, Any]

_MADE_BY: Final = "the program that declares its functions makes it, or flash serve does"


# ── REST ──────────────────────────────────────────────────────────────────────────────────────────


def serverless(request: Request) -> None:
    """/v2/serverless, /v2/serverless/{id} and /v2/serverless/{id}/workers."""
    name, _, rest = request.rest.partition("/")
    if not request.rest:
        _all(request)
        return
    endpoint = request.find_endpoint(name)
    if rest == "workers":
        _only(request, "GET")
        request.reply(200, _workers(request, endpoint))
    elif rest:
        raise Refused(404, f"there is nothing at {request.rest!r}: an endpoint has /workers")
    elif request.method == "GET":
        request.reply(200, endpoints.of_rest(endpoint))
    elif request.method == "PATCH":
        request.jobs.managed.change(endpoint, endpoints.changes_of_rest(_object(request)))
        request.send_after(json.dumps(endpoints.of_rest(endpoint)).encode())
    else:
        _only(request, "DELETE", "GET", "PATCH")
        _end(request, endpoint, lambda: request.empty(204))


def _all(request: Request) -> None:
    if request.method == "GET":
        request.reply(200, {"endpoints": [endpoints.of_rest(one) for one in request.jobs.managed.all()]})
        return
    _only(request, "GET", "POST")
    said = _object(request)
    name = said.get("name")
    if not isinstance(name, str) or not name:
        raise Refused(422, "name: an endpoint has one", errors=[{"field": "name", "message": "an endpoint has one"}])
    found = request.jobs.named(name)
    if len(found) != 1:
        raise Refused(422, f"there is no endpoint {name!r} to set up: {_MADE_BY}")
    known = {one: value for one, value in said.items() if one in ("workers", "scaling", "timeout")}
    request.jobs.managed.change(found[0], endpoints.changes_of_rest(known))
    request.send_after(json.dumps(endpoints.of_rest(found[0])).encode())


def _workers(request: Request, endpoint: Endpoint) -> Json:
    face = request.jobs.managed
    told = [endpoints.of_worker(one, face.age_s(one)) for one in face.workers(endpoint)]
    counts = request.jobs.facts.workers(endpoint)
    summary = {name: counts[name] for name in ("running", "idle", "initializing", "throttled", "unhealthy")}
    return {"summary": {**summary, "total": len(told)}, "workers": told}


def _end(request: Request, endpoint: Endpoint, then: Callable[[], None]) -> None:
    def done(_report: Json, error: Exception | None) -> None:
        if error is not None:
            request.fail(EngineRefused("the endpoint could not be ended", why=str(error)))
        else:
            then()

    request.jobs.managed.end(endpoint, done, request.jobs.purge)


def _only(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise Refused(405, f"{request.method} is not answered here, but {', '.join(methods)}")


def _object(request: Request) -> Json:
    try:
        found = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(400, "the body has to be a JSON object")
    return found


# ── GraphQL ───────────────────────────────────────────────────────────────────────────────────────


def graphql(request: Request) -> None:
    """/graphql, as the package `runpod` asks it. What is wrong stands in `errors`, with status 200, as there."""
    said = _object(request)
    query, variables = said.get("query"), said.get("variables") or {}
    try:
        if not isinstance(query, str) or not isinstance(variables, dict):
            raise BadQuery('the body has to be {"query": "…", "variables": {…}}')
        fields = query_language.read(query, variables)
        data = {field.alias: _selected(_answer(request, field), field) for field in fields}
    except StoreError:
        raise
    except (BadQuery, RecursionError, FlashError) as error:
        request.reply(200, {"errors": [{"message": getattr(error, "what", "") or str(error)}]})
        return
    request.send_after(json.dumps({"data": data}, ensure_ascii=False).encode("utf-8", "replace"))


def _answer(request: Request, field: Field) -> Any:
    resolve = _RESOLVERS.get(field.name)
    if resolve is None:
        raise Refused(404, f"there is no {field.name!r} here: {', '.join(sorted(_RESOLVERS))}")
    return resolve(request, field.arguments)


def _selected(value: Any, field: Field) -> Any:
    """What is asked for of a value; None for what it has not."""
    if isinstance(value, list):
        return [_selected(one, field) for one in value]
    if not isinstance(value, dict) or not field.selection:
        return value
    found = {}
    for one in field.selection:
        inner = value.get(one.name)
        found[one.alias] = _selected(inner(one.arguments) if callable(inner) else inner, one)
    return found


def _myself(request: Request, _said: Json) -> Json:
    face = request.jobs.managed

    def one(said: Json) -> Json:
        return endpoints.of_graphql(request.find_endpoint(_text(said, "id")))

    return {
        "id": "flash",
        "endpoints": [endpoints.of_graphql(each) for each in face.all()],
        "endpoint": one,
        "pods": [],
        "networkVolumes": [],
        "podTemplates": [],
        "serverlessDiscount": None,
    }


def _save_endpoint(request: Request, said: Json) -> Json:
    given = _input(said)
    name = given.get("id") or given.get("name")
    found = request.jobs.named(str(name)) if name else ()
    if len(found) != 1:
        raise Refused(404, f"there is no endpoint {name!r} to save: {_MADE_BY}")
    request.jobs.managed.change(found[0], endpoints.changes_of_graphql(given))
    return {**{name: given.get(name) for name in _TAKEN}, **endpoints.of_graphql(found[0])}


def _delete_endpoint(request: Request, said: Json) -> None:
    endpoint = request.find_endpoint(_text(said, "id"))
    request.jobs.managed.end(endpoint, lambda report, error: None, request.jobs.purge)


def _update_template(request: Request, said: Json) -> Json:
    given = _input(said)
    return {"id": request.find_endpoint(_text(given, "endpointId")).spec.id, "templateId": _text(given, "templateId")}


def _save_template(_request: Request, said: Json) -> Json:
    given = _input(said)
    digest = hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    return {"env": [], **given, "id": given.get("id") or f"tpl{digest[:14]}"}


def _gpus(_request: Request, said: Json) -> list[Json]:
    wanted = (said.get("input") or {}).get("id") if isinstance(said.get("input"), Mapping) else None
    cards = [one for one in GpuType if one is not GpuType.ANY and wanted in (None, one.value)]
    return [{"id": one.value, "displayName": one.value, "memoryInGb": one.memory_gb} for one in cards]


def _input(said: Json) -> Json:
    found = said.get("input")
    if not isinstance(found, dict):
        raise Refused(400, "the mutation needs an input, which is an object")
    return found


def _text(said: Json, name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value:
        raise Refused(400, f"{name} is missing")
    return value


_TAKEN: Final = (
    "templateId", "gpuIds", "gpuCount", "networkVolumeId", "locations", "allowedCudaVersions", "flashBootType",
)  # fmt: skip
"""What is taken of saveEndpoint, and has no effect on one machine."""
_RESOLVERS: Final[dict[str, Callable[[Request, Json], Any]]] = {
    "myself": _myself,
    "saveEndpoint": _save_endpoint,
    "deleteEndpoint": _delete_endpoint,
    "updateEndpointTemplate": _update_template,
    "saveTemplate": _save_template,
    "gpuTypes": _gpus,
    "flash": lambda _request, _said: {"version": __version__},
}
