"""How the functions of an endpoint are asked: OpenAPI, and a page that shows it, without a byte from elsewhere.

What a function takes and gives was described where it was declared, in its own environment; here these descriptions
are put together as they are.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from runpod_flash.engine.records import Endpoint, Function
from runpod_flash.engine.routes import without_types
from runpod_flash.gateway.reply import Reply, fact, page
from runpod_flash.gateway.runpod import openapi as job_api
from runpod_flash.web import swagger
from runpod_flash.wire.messages import Route

logger = logging.getLogger(__name__)


def find(endpoint: Endpoint, path: str, prefix: str) -> Reply | None:
    """The page at `path` of an endpoint; None if there is none."""
    if path == "/openapi.json":
        return openapi(endpoint, prefix)
    return _shown(endpoint.spec.name, path, prefix)


def of_jobs(path: str) -> Reply | None:
    """The same for the Job API, which all endpoints with a queue have."""
    if path == "/openapi.json":
        return fact(job_api.document())
    return _shown("Flash: jobs over HTTP", path, "")


def _shown(title: str, path: str, prefix: str) -> Reply | None:
    if path == "/docs":
        return page(swagger.page(title, base=f"{prefix}/docs", openapi=f"{prefix}/openapi.json"))
    found = swagger.asset(path.removeprefix("/docs/"))
    return found and Reply(200, (("content-type", found.kind), ("cache-control", swagger.CACHED)), found.body)


def openapi(endpoint: Endpoint, prefix: str) -> Reply:
    """The OpenAPI document of an endpoint."""
    paths: dict[str, dict[str, Any]] = {}
    for function in endpoint.served.values():
        for route in function.spec.routes:
            paths.setdefault(without_types(route.path), {})[route.method.lower()] = _operation(function, route)
    return fact(
        {
            "openapi": "3.1.0",
            "info": {"title": endpoint.spec.name, "version": endpoint.spec.env},
            "servers": [{"url": prefix or "/"}],
            "paths": dict(sorted(paths.items())),
            "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
            "security": [{"token": []}],
        }
    )


def _operation(function: Function, route: Route) -> dict[str, Any]:
    name = function.spec.name.rpartition(":")[2]
    usual: dict[str, Any] = {
        "operationId": f"{name}_{route.method.lower()}",
        "responses": {"200": {"description": "OK"}},
    }
    try:
        said = json.loads(function.spec.schema) if function.spec.schema else {}
    except ValueError:
        logger.warning("the schema of %s is no JSON", function.spec.name)
        said = {}
    return {**usual, **said} if isinstance(said, dict) else usual
