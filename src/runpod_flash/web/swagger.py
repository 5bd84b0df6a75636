"""Swagger UI from inside the package: a page of documentation that fetches nothing from elsewhere."""

from __future__ import annotations

import gzip
from html import escape
from typing import Final, NamedTuple

CACHED: Final = "max-age=86400"
"""How long browsers may keep an asset."""
SCRIPT: Final = "swagger-ui-bundle.js"
STYLE: Final = "swagger-ui.css"
_SHOW: Final = "show.js"
JAVASCRIPT: Final = "text/javascript; charset=utf-8"
_KINDS: Final = {STYLE: "text/css; charset=utf-8", SCRIPT: JAVASCRIPT, _SHOW: JAVASCRIPT}
_SHOW_TEXT: Final = b"""const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();
window.onload = () => SwaggerUIBundle({
  url: document.body.dataset.openapi, dom_id: "#docs", deepLinking: true, persistAuthorization: false,
});
"""
_MORE_STYLE: Final = b"""
.back { display: block; padding: .9rem 1.25rem; font: 600 15px system-ui; color: #0b57d0; text-decoration: none; }
.dark-mode .back { color: #7ab5ff; }
/* Flash: on a phone, what a tag is about stands below its name, and not beside it in a column of letters. */
@media (max-width: 40rem) {
  .swagger-ui .wrapper { padding: 0 12px; }
  .swagger-ui .info { margin: 20px 0; }
  .swagger-ui .opblock-tag { flex-wrap: wrap; font-size: 20px; padding-left: 0; }
  .swagger-ui .opblock-tag > a { flex: 1 1 calc(100% - 3rem); }
  .swagger-ui .opblock-tag small { flex: 1 0 100%; order: 1; padding: 4px 0 0; }
  .swagger-ui .opblock .opblock-summary-path { max-width: 100%; }
}
"""
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,"><link rel="stylesheet" href="{base}/swagger-ui.css"></head>
<body data-openapi="{openapi}">{above}<div id="docs"></div>
<script src="{base}/swagger-ui-bundle.js"></script><script src="{base}/show.js"></script></body></html>
"""


class Asset(NamedTuple):
    """One file of the page."""

    kind: str
    body: bytes


def page(title: str, *, base: str, openapi: str, above: str = "") -> str:
    """The page that shows the document at `openapi`; its assets are at `base`/name. `above` is HTML before it."""
    return _PAGE.format(title=escape(title), base=escape(base), openapi=escape(openapi), above=above)


def asset(name: str) -> Asset | None:
    """An asset of the page; None if it has none of that name."""
    kind = _KINDS.get(name)
    if kind is None:
        return None
    if name == _SHOW:
        return Asset(kind, _SHOW_TEXT)
    return Asset(kind, unpacked("swagger_ui", name) + (_MORE_STYLE if name == STYLE else b""))


def unpacked(folder: str, name: str) -> bytes:
    """A file that is packed in a folder beside this one."""
    from importlib import resources  # noqa: PLC0415 - slow to load, and workers load this

    packed = (resources.files("runpod_flash.web") / folder / f"{name}.gz").read_bytes()
    return gzip.decompress(packed)
