"""What the gateway shows by itself: which endpoints there are, whether they are ready, and how they are asked.

Nothing here acts, so nothing here needs the token; but only who has it is told which endpoints there are.
"""

from __future__ import annotations

from typing import Final

from runpod_flash._version import __version__
from runpod_flash.engine.exchanges import Exchanges
from runpod_flash.engine.records import Endpoint
from runpod_flash.gateway.reply import Reply, fact, page

PING: Final = "/ping"
_STYLE: Final = "<style>body{font:16px system-ui;margin:3rem auto;max-width:44rem;padding:0 1rem}</style>"


def of_gateway(exchanges: Exchanges, path: str, *, may: bool) -> Reply | None:
    """Pages that are no endpoint's."""
    if path == "/health":
        return fact({"status": "ok", "version": __version__})
    if path == "/":
        return _index(exchanges, may=may)
    if path == "/openapi.json" or path == "/docs" or path.startswith("/docs/"):
        from runpod_flash.gateway import documentation  # noqa: PLC0415 - few ask for it

        return documentation.of_jobs(path)
    return None


def of_endpoint(exchanges: Exchanges, endpoint: Endpoint, path: str, prefix: str) -> Reply | None:
    """Pages that every endpoint has, unless a function answers there."""
    if path == PING:
        return Reply(200 if exchanges.is_ready(endpoint) else 204)
    if path == "/openapi.json" or path == "/docs" or path.startswith("/docs/"):
        from runpod_flash.gateway import documentation  # noqa: PLC0415 - few ask for it

        return documentation.find(endpoint, path, prefix)
    return None


def _index(exchanges: Exchanges, *, may: bool) -> Reply:
    if may:
        return fact({"endpoints": [_facts(exchanges, one) for one in exchanges.endpoints()]})
    text = "This is the gateway of a Flash engine. With the token of <code>flash engine token</code> it lists its "
    text += "endpoints here; <a href='/docs'>/docs</a> has how they are asked for jobs."
    return page(f"<!doctype html><title>Flash</title>{_STYLE}<h1>Flash</h1><p>{text}")


def _facts(exchanges: Exchanges, endpoint: Endpoint) -> dict[str, object]:
    spec = endpoint.spec
    return {
        "id": spec.id,
        "app": spec.app,
        "env": spec.env,
        "name": spec.name,
        "ready": exchanges.is_ready(endpoint),
        "path": f"/lb/{spec.id}",
        "routes": [f"{route.method} {route.path}" for fn in endpoint.served.values() for route in fn.spec.routes],
    }
