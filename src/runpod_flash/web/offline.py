"""FastAPI's own pages of documentation, `/docs` and `/redoc`, told to load our copies of what they show.

Such a page asks for `_flash/docs/NAME` beside itself, so that it works wherever its app is mounted and whatever proxy
stands before that. Whoever serves the app answers every path that ends so, with `asset`.
"""

from __future__ import annotations

from types import ModuleType
from typing import Final

from runpod_flash.web import redoc, swagger
from runpod_flash.web.swagger import CACHED, Asset

__all__ = ["CACHED", "FOLDER", "Asset", "amend", "asset", "is_asset"]

FOLDER: Final = "_flash/docs"
_MARK: Final = f"/{FOLDER}/"
_DEFAULTS: Final[dict[str, dict[str, object]]] = {
    "get_swagger_ui_html": {
        "swagger_js_url": f"{FOLDER}/{swagger.SCRIPT}",
        "swagger_css_url": f"{FOLDER}/{swagger.STYLE}",
        "swagger_favicon_url": "data:,",
    },
    "get_redoc_html": {
        "redoc_js_url": f"{FOLDER}/{redoc.SCRIPT}",
        "redoc_favicon_url": "data:,",
        "with_google_fonts": False,
    },
}


def amend(pages: ModuleType) -> None:
    """From here on, apps that say nothing else refer to our copies. `pages` is the module `fastapi.openapi.docs`."""
    for name, wanted in _DEFAULTS.items():
        defaults = getattr(getattr(pages, name, None), "__kwdefaults__", None) or {}
        defaults.update((key, value) for key, value in wanted.items() if key in defaults)


def is_asset(path: str) -> bool:
    """Whether a path is one of those that the pages ask for."""
    return _MARK in path


def asset(path: str) -> Asset | None:
    """What is at such a path; None if nothing is."""
    name = path.rpartition(_MARK)[2]
    return swagger.asset(name) or redoc.asset(name)
