"""How the functions of an endpoint are asked: OpenAPI, and a page that shows it, without a byte from elsewhere.

What a function takes and gives was described where it was declared, in its own environment; here these descriptions
are put together as they are.
"""

from __future__ import annotations

import gzip
import json
import logging
from html import escape
from importlib import resources
from typing import Any, Final

from runpod_flash.engine.records import Endpoint, Function
from runpod_flash.engine.routes import without_types
from runpod_flash.gateway.reply import Reply, fact, page
from runpod_flash.wire.messages import Route

logger = logging.getLogger(__name__)

_ASSETS: Final = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "show.js": "text/javascript; charset=utf-8",
}
_SHOW: Final = b"""window.onload = () => SwaggerUIBundle({
  url: document.body.dataset.openapi, dom_id: "#docs", deepLinking: true, persistAuthorization: false,
});
"""
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,"><link rel="stylesheet" href="{base}/swagger-ui.css"></head>
<body data-openapi="{openapi}"><div id="docs"></div>
<script src="{base}/swagger-ui-bundle.js"></script><script src="{base}/show.js"></script></body></html>
"""


def find(endpoint: Endpoint, path: str, prefix: str) -> Reply | None:
    """The page at `path` of an endpoint; None if there is none."""
    if path == "/openapi.json":
        return openapi(endpoint, prefix)
    if path == "/docs":
        title = escape(endpoint.spec.name)
        return page(_PAGE.format(title=title, base=f"{prefix}/docs", openapi=f"{prefix}/openapi.json"))
    return _asset(path.removeprefix("/docs/"))


def _asset(name: str) -> Reply | None:
    kind = _ASSETS.get(name)
    if kind is None:
        return None
    cache = ("cache-control", "max-age=86400")
    return Reply(200, (("content-type", kind), cache), _SHOW if name == "show.js" else _unpacked(name))


def _unpacked(name: str) -> bytes:
    packed = (resources.files("runpod_flash.gateway") / "swagger_ui" / f"{name}.gz").read_bytes()
    return gzip.decompress(packed)


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
