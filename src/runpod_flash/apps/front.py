"""What stands before an app that `flash run` serves: pages that work offline, `/lb/`, and a line for each request."""

from __future__ import annotations

import logging
import time
import traceback

from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose, WebSocketDisconnect

from runpod_flash.apps import bundled, namespace, relay, stream
from runpod_flash.client.import_failure import is_users, last_line
from runpod_flash.errors import FlashError
from runpod_flash.web import trust


class Front:
    """The app as the server has it."""

    def __init__(self, app: ASGIApp, endpoints: relay.Endpoints, *, loopback: bool) -> None:
        self.failure: FlashError | None = None
        """Why the app's lifespan did not begin."""
        self._app = app
        self._relay = relay.Relay(endpoints)
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        elif self._loopback and not (_names_this_machine(scope) and _is_asked_by_it(scope)):
            await WebSocketClose(1008, "this Host or Origin is not of this machine")(scope, receive, send)
        else:
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status, started, whole = time.perf_counter(), 500, False, False

        async def sent(message: Message) -> None:
            nonlocal status, started, whole
            if message["type"] == "http.response.start":
                status, started = message["status"], True
            else:
                whole = not message.get("more_body")
            await send(message)

        try:
            await self._answer(scope, receive, sent)
        except Exception as error:  # noqa: BLE001 - the user's own code; a server answers the next request all the same
            tell(error)
            if not started:
                await JSONResponse({"detail": "Internal Server Error"}, 500)(scope, receive, sent)
            elif not whole:
                raise Broken from None  # which the client has to see
        finally:
            if not bundled.is_asset(scope["path"]):  # which are not worth a line
                took = stream.duration(time.perf_counter() - began)
                stream.write(stream.line(f"{scope['method']} {scope['path']}", end=str(status), rest=took))

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, end = time.perf_counter(), "closed"
        try:
            await self._app(scope, receive, send)
        except WebSocketDisconnect:
            pass  # how an app that only listens learns that nobody talks any more
        except Exception as error:  # noqa: BLE001 - as above
            end = "500"
            tell(error)
            raise Broken from None
        finally:
            took = stream.duration(time.perf_counter() - began)
            stream.write(stream.line(f"WS {scope['path']}", end=end, rest=took))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if self._loopback and not _names_this_machine(scope):
            await PlainTextResponse("this Host is not of this machine", 403)(scope, receive, send)
        elif bundled.is_asset(path):
            await bundled.assets(scope, receive, send)
        elif path.startswith(relay.PATH):
            await self._relay(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed = False

        async def sent(message: Message) -> None:
            nonlocal failed
            failed = failed or message["type"] == "lifespan.startup.failed"
            await send({"type": message["type"]})

        try:
            await self._app(scope, receive, sent)
        except Exception as error:
            if not failed:
                raise  # an app without a lifespan; its server knows what that means
            what = f"the app did not start: {type(error).__name__}: {error}"
            self.failure = FlashError(what, where=last_line(error), fix="mend its lifespan")


class Broken(Exception):
    """An answer ended before it was whole; what happened was told."""


def tell(error: BaseException) -> None:
    """Shows an error of the app with the user's own lines; ours and those of frameworks are left out."""
    if isinstance(error, FlashError):
        stream.write(str(error))
        return
    told = traceback.TracebackException.from_exception(error)
    frames = [frame for frame in told.stack if is_users(frame.filename)]
    told.stack = traceback.StackSummary.from_list(frames or told.stack[-1:])
    stream.write(namespace.plain("".join(told.format()).rstrip()))


def _names_this_machine(scope: Scope) -> bool:
    """Against pages of the web whose own name was made to point here (DNS rebinding)."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    names = [trust.host_name(host) for host in hosts]
    return len(names) == 1 and all(name is not None and trust.is_trusted(name) for name in names)


def _is_asked_by_it(scope: Scope) -> bool:
    """Against pages of the web that open a WebSocket here: browsers let them, whatever the server says of CORS."""
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    return all(map(trust.is_trusted_origin, origins))


def is_news(record: logging.LogRecord) -> bool:
    """Whether a record of the server says what was not told here."""
    told = record.exc_info is not None and isinstance(record.exc_info[1], Broken)
    return not told and not record.getMessage().startswith("Application startup failed")
