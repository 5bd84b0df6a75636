"""One example as it is served: not loaded yet, loaded with an app of its own, or broken, with the reason."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi import routing as fastapi_routing
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Scope

from runpod_flash.apps.discovery import Example, Worker
from runpod_flash.apps.lifespan import Lifespan, LifespanFailed
from runpod_flash.apps.namespace import Namespace
from runpod_flash.apps.outline import Outline, Route, first_line, read_outline
from runpod_flash.client.import_failure import import_failed
from runpod_flash.errors import FlashError

logger = logging.getLogger(__name__)

_PAGES: Final = ("docs_url", "redoc_url", "openapi_url", "swagger_ui_oauth2_redirect_url")


class State(Enum):
    """Of one example."""

    WAITING = "waiting"  # nobody has asked for it yet
    LOADED = "loaded"
    BROKEN = "broken"


class Served:
    """One example and its app."""

    def __init__(self, example: Example, prefix: str) -> None:
        self.example = example
        self.prefix = prefix
        """Where it is served first of all: `/{example}`, or its whole path where that is taken."""
        self.state = State.WAITING
        self.error: FlashError | None = None
        """Why it is broken."""
        self.app: ASGIApp | None = None
        self.lifespan: Lifespan | None = None
        self._lock: asyncio.Lock | None = None
        self._namespace: Namespace | None = None

    @functools.cached_property
    def outline(self) -> Outline:
        """What its sources say."""
        return read_outline(self.example)

    @property
    def routes(self) -> tuple[Route, ...]:
        """What it answers, below its prefix: as it is, where it is loaded, otherwise as it is written."""
        if isinstance(self.app, FastAPI):
            return tuple(routes_of(self.app))
        return self.outline.routes

    @property
    def namespace(self) -> Namespace:
        """Its modules."""
        if self._namespace is None:
            self._namespace = Namespace(f"{self.example.category}__{self.example.name}", self.example.folder)
        return self._namespace

    async def ready(self, *, lifespans: bool) -> bool:
        """Loads it unless that was done, with its lifespan if those are to run; whether it can be asked."""
        if self.state is State.WAITING or (lifespans and self.state is State.LOADED and self.lifespan is None):
            self._lock = self._lock or asyncio.Lock()
            async with self._lock:
                await self._load(lifespans)
        return self.state is State.LOADED

    async def _load(self, lifespans: bool) -> None:
        if self.state is State.WAITING:
            self.load()
        if not lifespans or self.state is not State.LOADED or self.lifespan is not None or self.app is None:
            return
        try:
            with self.namespace.active():
                self.lifespan = await Lifespan.begin(self.app)
        except LifespanFailed as error:
            self._break(FlashError(f"{self.example.name} did not start: {error}", fix="mend its lifespan"))

    def load(self) -> None:
        """Imports it, here and now, on the thread that asks: as its author's own server would."""
        try:
            self.app = self._assembled()
            self.state = State.LOADED
        except FlashError as error:
            self._break(error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever an example does, it costs only itself
            self._break(import_failed(self.example.name, error))

    async def close(self) -> None:
        """Ends its lifespan."""
        if self.lifespan is not None:
            lifespan, self.lifespan = self.lifespan, None
            await lifespan.end()

    def answers(self, scope: Scope) -> bool:
        """Whether one of its routes is for that path, with whatever method."""
        return self.app is None or any(one.matches(scope)[0] is not Match.NONE for one in _route_objects(self.app))

    @property
    def reason(self) -> str:
        """Why it is broken, in words of several lines; "" if it is not."""
        return self.namespace.plain(str(self.error)) if self.error is not None else ""

    def _break(self, error: FlashError) -> None:
        self.state = State.BROKEN
        self.app = None
        self.error = error
        logger.warning("the example %s is broken: %s", self.example.name, self.reason)

    # ── its app ───────────────────────────────────────────────────────────────────────────────────

    def _assembled(self) -> ASGIApp:
        """The app of its main.py, or an empty one, with the routers of all its workers."""
        app: Any = None
        if self.example.main is not None:
            app = vars(self.namespace.load("main")).get("app")
        if app is None:
            app = FastAPI(title=self.example.title)
        for worker in self.example.workers:
            router = vars(self.namespace.load(worker.module)).get(worker.router)
            if isinstance(router, APIRouter) and isinstance(app, FastAPI):
                _include(app, router, worker)
        if not callable(app):
            raise FlashError(
                f"`app` in main.py of {self.example.name} is a {type(app).__name__}",
                where=str(self.example.main),
                why="it has to be a FastAPI app, or another ASGI app",
                fix="write app = FastAPI()",
            )
        served: ASGIApp = app
        return served


def _include(app: FastAPI, router: APIRouter, worker: Worker) -> None:
    """Puts the routes of a worker below `/{worker_type}`, unless its main.py has done so."""
    there = {(route.path, route.endpoint) for route in _contexts(app.routes) if hasattr(route, "endpoint")}
    wanted = [route for route in _contexts(router.routes) if hasattr(route, "endpoint")]
    if any((f"/{worker.type}{route.path}", route.endpoint) not in there for route in wanted):
        app.include_router(router, prefix=f"/{worker.type}")


def _contexts(routes: list[BaseRoute]) -> Iterator[Any]:
    """Routes, also those of routers that newer versions of FastAPI keep as one."""
    several = getattr(fastapi_routing, "iter_route_contexts", None)
    return iter(routes) if several is None else several(routes)


def _route_objects(app: ASGIApp) -> list[BaseRoute]:
    return list(getattr(app, "routes", ()))


def routes_of(app: ASGIApp) -> Iterator[Route]:
    """The routes that an app answers, as far as it lists them; its pages of documentation are none."""
    own = {getattr(app, name, None) for name in _PAGES}
    for route in _contexts(_route_objects(app)):
        endpoint, path = getattr(route, "endpoint", None), getattr(route, "path", None)
        if endpoint is None or path is None or path in own or getattr(route, "include_in_schema", True) is False:
            continue
        methods = sorted(set(getattr(route, "methods", None) or {"WS"}) - {"HEAD"}) or ["HEAD"]
        summary = first_line(getattr(route, "summary", None) or inspect.getdoc(endpoint))
        operation = getattr(route, "operation_id", None) or getattr(route, "unique_id", None) or ""
        yield Route(", ".join(methods), path, summary, operation)
