"""The pages of documentation of FastAPI apps from inside the package: they work without a network."""

from __future__ import annotations

from fastapi.openapi import docs
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from runpod_flash.web import offline
from runpod_flash.web.offline import FOLDER, is_asset

__all__ = ["FOLDER", "assets", "is_asset", "use"]


def use() -> None:
    """From here on, apps that say nothing else refer to our copies instead of to a server on the internet."""
    offline.amend(docs)


async def assets(scope: Scope, receive: Receive, send: Send) -> None:
    """The files that those pages load, for paths that `is_asset` knows."""
    found = offline.asset(scope["path"])
    answer: Response
    if found is None or scope["type"] != "http":
        answer = PlainTextResponse("Not Found", 404)
    else:
        answer = Response(found.body, media_type=found.kind, headers={"cache-control": offline.CACHED})
    await answer(scope, receive, send)
