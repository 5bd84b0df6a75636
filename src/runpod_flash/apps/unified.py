"""One app that serves every example of a gallery, each under its name, with its own app behind it.

    /{example}{path}                     as the example itself has it, so /{example}/{worker_type}/… for its workers
    /{category}/{example}{path}          the same
    /{category}/{example}/…              without the worker type, where only one has such a route

Examples are loaded when they are asked for, and one after another in the background once the server has started:
hundreds of them delay nobody. Where two categories have an example of one name, both are under their categories alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from runpod_flash._version import __version__
from runpod_flash.apps import bundled, index
from runpod_flash.apps.discovery import Example, find_examples
from runpod_flash.apps.naming import title as title_of
from runpod_flash.apps.outline import Route
from runpod_flash.apps.schema import Merged
from runpod_flash.apps.served import Served, State
from runpod_flash.errors import did_you_mean

_OWN_PATHS: Final = frozenset({"", "_flash", "docs", "health", "lb", "openapi.json"})
"""First pieces of paths that no example can have for its own."""
_PASSED_ON: Final = frozenset({
    "asgi", "client", "extensions", "headers", "http_version", "method", "query_string", "scheme", "server",
    "subprotocols", "type",
})  # fmt: skip
"""What an example's app is told of a request; the rest is what our own app has noted there."""
_BREATH_S: Final = 0.002
"""Between two examples that are loaded in the background, for requests that have come meanwhile."""


_CHOICES: Final = 10
"""Paths that an answer lists."""


class UnifiedApp(FastAPI):
    """The examples of a folder as one app. Routes of its own can be added to it as to any."""

    def __init__(self, root: Path, title: str = "") -> None:
        self.root = root
        examples = find_examples(root)
        names = Counter(example.name for example in examples)
        self.examples = [Served(one, _prefix(one, names)) for one in examples]
        """Every example of the gallery, in the order of its folders."""
        self._by_path = {tuple(one.example.path.split("/")[1:]): one for one in self.examples}
        self._by_name: dict[str, list[Served]] = {}
        for served in self.examples:
            self._by_name.setdefault(served.example.name, []).append(served)
        self._document: tuple[tuple[int, int], dict[str, Any]] | None = None
        self.serves = False
        """Whether a server has started us: only then do examples start, since only then are they ended."""
        bundled.use()
        super().__init__(
            title=title or title_of(root.name),
            version=__version__,
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            lifespan=_lifespan,
        )
        for path, answer in (
            ("/", self._index),
            ("/health", self._health),
            ("/docs", self._docs),
            ("/openapi.json", self._openapi),
        ):
            self.add_api_route(path, answer, include_in_schema=False, response_model=None)
        self.router.default = _Rest(self)

    async def load_all(self) -> None:
        """Loads every example that was not; broken ones are marked."""
        for served in self.examples:
            await served.ready(lifespans=self.serves)
            await asyncio.sleep(0)  # others may ask for something meanwhile

    def openapi(self) -> dict[str, Any]:
        """What all examples that are loaded answer, with all their models."""
        loaded = sum(served.app is not None for served in self.examples), len(self.routes)
        if self._document is None or self._document[0] != loaded:
            self._document = loaded, self._merged()
        return self._document[1]

    def _merged(self) -> dict[str, Any]:
        merged = Merged(self.title, self.version, self.description)
        own = super().openapi()
        merged.document["paths"].update(own.get("paths", {}))
        merged.document["components"].update(own.get("components", {}))
        for served in self.examples:
            if isinstance(served.app, FastAPI):
                about = served.outline.about
                merged.add(served.app.openapi(), prefix=served.prefix, tag=served.example.tag, about=about)
        return merged.document

    # ── its own pages ─────────────────────────────────────────────────────────────────────────────

    async def _index(self, request: Request) -> Response:
        """What there is, for people."""
        root = request.scope.get("root_path", "").rstrip("/")
        return HTMLResponse(index.page(self.title, root, self.examples, loading=self._is_loading()))

    async def _health(self) -> dict[str, object]:
        """How many examples are loaded, and whether any is broken."""
        if not self.serves:
            await self.load_all()
        states = Counter(served.state for served in self.examples)
        status = "loading" if states[State.WAITING] else "degraded" if states[State.BROKEN] else "ok"
        return {
            "status": status,
            "examples_loaded": states[State.LOADED],
            "total_examples": len(self.examples),
        }

    async def _docs(self, request: Request) -> Response:
        """Every route, to try out."""
        root = request.scope.get("root_path", "").rstrip("/")
        return HTMLResponse(index.documentation(self.title, root))

    async def _openapi(self) -> Response:
        """The same for programs."""
        await self.load_all()
        # Models of hundreds of examples take seconds to describe, and others may ask for something meanwhile.
        return JSONResponse(await asyncio.to_thread(self.openapi))

    def _is_loading(self) -> bool:
        return self.serves and any(served.state is State.WAITING for served in self.examples)

    # ── whose a request is ────────────────────────────────────────────────────────────────────────

    def find(self, path: str) -> Found | None:
        """The example that a path is about; None if it is about none, or about several."""
        first, _, after = path.removeprefix("/").partition("/")
        second, _, rest = after.partition("/")
        if (served := self._by_path.get((first, second))) is not None:
            return Found(served, f"/{first}/{second}", f"/{rest}", by_category=True)
        several = self._by_name.get(first, [])
        if len(several) != 1 or first in _OWN_PATHS:
            return None
        return Found(several[0], f"/{first}", f"/{after}", by_category=False)

    def why_none(self, path: str) -> dict[str, Any]:
        """The body of a 404 for a path that is no example's."""
        first, _, rest = path.removeprefix("/").partition("/")
        if len(several := self._by_name.get(first, [])) > 1:
            choices = [f"{one.example.path}/{rest}" for one in several]
            return {"detail": f"{len(several)} categories have an example {first}: choose one", "choices": choices}
        if choices := self._with_route(path):
            here = f"{path} is served as {choices[0]} here" if len(choices) == 1 else f"several have {path}: choose one"
            return {"detail": f"there is no example {first!r}; {here}", "choices": choices}
        names = [*self._by_name, *{served.example.category for served in self.examples}]
        return {"detail": f"there is no example {first!r}.{did_you_mean(first, names)}"}

    def _with_route(self, path: str) -> list[str]:
        """Where the examples are served that have this path: of one that is written about as if it ran alone."""
        found = (served for served in self.examples if any(_fits(route, path) for route in served.routes))
        return [served.prefix + path for served in itertools.islice(found, _CHOICES)]

    async def load_in_background(self) -> None:
        """Loads what nobody has asked for yet, as long as nobody asks for anything else."""
        for served in self.examples:
            await served.ready(lifespans=True)
            await asyncio.sleep(_BREATH_S)


class Found(NamedTuple):
    """An example, the piece of the path that named it, and what is left of it."""

    served: Served
    mount: str
    rest: str
    by_category: bool


def _fits(route: Route, path: str) -> bool:
    return route.path == path or ("{" in route.path and compile_path(route.path)[0].match(path) is not None)


def _below_root(scope: Scope) -> str:
    """The path of a request as the app sees it, wherever it is mounted."""
    path, root = scope["path"], scope.get("root_path", "")
    return str(path.removeprefix(root)) if path == root or path.startswith(f"{root}/") else str(path)


class _Rest:
    """What answers where none of the app's own routes does: the examples."""

    def __init__(self, app: UnifiedApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = _below_root(scope)
        if bundled.is_asset(path):  # of our pages, or of those of an example
            await bundled.assets(scope, receive, send)
            return
        found = self._app.find(path)
        if found is None:
            body = self._app.why_none(path)
            await _refuse(404, body)(scope, receive, send)
            return
        served = found.served
        if not await served.ready(lifespans=self._app.serves):
            body = {"detail": f"the example {served.example.name} is broken", "reason": served.reason}
            await _refuse(503, body)(scope, receive, send)
            return
        child, choices = _child(scope, found)
        if choices:
            body = {"detail": f"several workers of {served.example.name} have this route: choose one"}
            await _refuse(404, {**body, "choices": choices})(scope, receive, send)
            return
        assert served.app is not None
        with served.namespace.active():
            await served.app(child, receive, send)


def _child(scope: Scope, found: Found) -> tuple[Scope, list[str]]:
    """The request as the example's own server would have it; or the paths between which somebody has to choose."""
    served = found.served
    root = scope.get("root_path", "")
    child = {name: scope[name] for name in _PASSED_ON if name in scope}
    child["root_path"] = root + found.mount
    child["state"] = dict(served.lifespan.state) if served.lifespan is not None else {}

    def at(rest: str) -> Scope:
        path = child["root_path"] + rest
        return {**child, "path": path, "raw_path": quote(path).encode()}

    direct = at(found.rest)
    if not found.by_category or served.answers(direct):
        return direct, []
    ways = [f"/{worker.type}{found.rest}" for worker in served.example.workers]
    ways = [way for way in ways if served.answers(at(way))]
    if len(ways) > 1:
        return direct, [served.prefix + way for way in ways]
    return at(ways[0]) if ways else direct, []


def _refuse(status: int, body: dict[str, Any]) -> ASGIApp:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose(code=1011, reason=str(body["detail"])[:120])(scope, receive, send)
        else:
            await JSONResponse(body, status)(scope, receive, send)

    return refuse


def _prefix(example: Example, names: Counter[str]) -> str:
    taken = names[example.name] > 1 or example.name in _OWN_PATHS
    return example.path if taken else f"/{example.name}"


@contextlib.asynccontextmanager
async def _lifespan(app: Any) -> AsyncIterator[None]:
    app.serves = True
    loading = asyncio.create_task(app.load_in_background(), name="loading examples")
    try:
        yield
    finally:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        await _close(app.examples)
        app.serves = False


async def _close(examples: Sequence[Served]) -> None:
    """All at once: each may take its time."""
    await asyncio.gather(*(served.close() for served in examples), return_exceptions=True)
