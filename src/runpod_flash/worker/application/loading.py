"""From "main:app" to the application that is meant, or a word about why there is none."""

from __future__ import annotations

import difflib
import importlib.util
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from runpod_flash.payload import failures
from runpod_flash.web import offline
from runpod_flash.worker.failing import CannotStart
from runpod_flash.worker.program import furnish

Message = dict[str, Any]
Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

_CALL: Final = "()"


def load(target: str, folder: str) -> Asgi:
    """The application, whose module is imported with `folder` as the place of the program. CannotStart says why not."""
    module_name, _, name = target.partition(":")
    if not module_name or not name:
        raise CannotStart(f"{target!r} names no application: it is written module:name, such as main:app")
    if not os.path.isdir(folder):
        raise CannotStart(f"the folder of the application {target} is not there: {folder}")
    furnish(os.getcwd(), folder)
    sys.path.insert(0, folder)
    found: Any = _import(target, module_name, folder)
    for piece in name.removesuffix(_CALL).split("."):
        if not hasattr(found, piece):
            raise CannotStart(f"{module_name} has no {name.removesuffix(_CALL)}{_did_you_mean(piece, dir(found))}")
        found = getattr(found, piece)
    if name.endswith(_CALL):
        found = _run(target, found)
    if (pages := sys.modules.get("fastapi.openapi.docs")) is not None:
        offline.amend(pages)  # the gateway has what they load
    return _checked(target, found)


def _import(target: str, name: str, folder: str) -> Any:
    first = name.partition(".")[0]
    try:
        there = importlib.util.find_spec(first) is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        others = [one.stem for one in Path(folder).glob("*.py")]
        raise CannotStart(f"the application {target} has no module {first!r} in {folder}{_did_you_mean(first, others)}")
    # Not by importlib.import_module, which would stand above the user's own lines in a traceback.
    _run(target, lambda: __import__(name))
    return sys.modules[name]


def _run(target: str, code: Callable[[], Any]) -> Any:
    """Runs code of the user's that makes the application, and tells in his own lines what went wrong in it."""
    try:
        return code()
    except BaseException as error:  # noqa: BLE001 - sys.exit() while a module is imported is no way to say goodbye
        raise CannotStart(f"{trace_of(error)}\nthe application {target} cannot be loaded: {_brief(error)}") from None


def trace_of(error: BaseException) -> str:
    """The traceback without our frames."""
    return failures.record(error).error["traceback"].rstrip()


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _checked(target: str, found: Any) -> Asgi:
    if callable(getattr(found, "wsgi_app", None)):
        raise CannotStart(
            f"{target} is a WSGI application ({type(found).__module__.partition('.')[0]}), and what is served here "
            "is ASGI: wrap it, for instance by a2wsgi.WSGIMiddleware(app)"
        )
    if not callable(found):
        raise CannotStart(f"{target} is no application but {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # it is callable: that was just asked


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
