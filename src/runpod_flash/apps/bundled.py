"""The pages of documentation of FastAPI apps with Swagger UI from inside the package: they work without a network."""

from __future__ import annotations

from typing import Any, Final, cast

from fastapi.openapi import docs
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from runpod_flash.web import swagger

PATH: Final = "/_flash/swagger-ui"
"""Where whoever serves such an app answers with `assets`."""


def use() -> None:
    """From here on, apps that say nothing else refer to our copy instead of to a server on the internet."""
    defaults: Any = cast("Any", docs.get_swagger_ui_html).__kwdefaults__
    defaults["swagger_js_url"] = f"{PATH}/{swagger.SCRIPT}"
    defaults["swagger_css_url"] = f"{PATH}/{swagger.STYLE}"
    defaults["swagger_favicon_url"] = "data:,"


async def assets(scope: Scope, receive: Receive, send: Send) -> None:
    """The files that those pages load."""
    found = swagger.asset(scope["path"].rpartition("/")[2])
    answer: Response
    if found is None or scope["type"] != "http":
        answer = PlainTextResponse("Not Found", 404)
    else:
        answer = Response(found.body, media_type=found.kind, headers={"cache-control": swagger.CACHED})
    await answer(scope, receive, send)
