"""Exceptions of user code to records and back.

A record is the plain facts (type, message, the traceback as text) and, where it can be pickled, the
exception itself. The traceback shows the user's code and that of libraries, not ours.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from runpod_flash.errors import EncodingError, RemoteError
from runpod_flash.payload import codec
from runpod_flash.wire.frame import Buffer

_OURS: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_ABOVE_USER: Final = (f"{os.sep}asyncio{os.sep}", f"{os.sep}selectors.py")
_LONGEST_MESSAGE: Final = 64 * 1024
_LONGEST_TRACEBACK: Final = 256 * 1024
_PRIVATE: Final = ("_flash_cloudpickle.py", "<frozen importlib")


class Failure(NamedTuple):
    """An exception as it travels: the fields of an error record, and its pickle (no parts if it has none)."""

    error: dict[str, str]
    parts: list[Buffer]
    defs: list[str]


class ErrorRecord(Protocol):
    """The plain facts of a failure, as the wire has them."""

    @property
    def type(self) -> str:
        """The name of its class, without the module."""

    @property
    def message(self) -> str:
        """What it says."""

    @property
    def module(self) -> str:
        """Where its class is defined; "" where nobody said."""

    @property
    def traceback(self) -> str:
        """As the worker would have printed it; "" if there is none."""


class RemoteTraceback(Exception):
    """Carries the traceback of the worker; stands as the cause of the exception, so that it is shown first."""

    def __init__(self, text: str, worker: str = "") -> None:
        super().__init__(text, worker)
        self.text = text
        self.worker = worker

    def __str__(self) -> str:
        border = f" in worker {self.worker} " if self.worker else " in the worker "
        return f"\n{border:─^78}\n{self.text.rstrip()}\n{' here ':─^78}"


def record(error: BaseException, kind: str = "user", *, define: bool = False) -> Failure:
    """The exception as a record; this cannot fail, at worst it says little."""
    facts = {
        "type": type(error).__qualname__,
        "module": type(error).__module__,
        "message": _cut(_text(error), _LONGEST_MESSAGE) + _hint(error),
        "kind": kind,
        "traceback": _cut(_traceback(error), _LONGEST_TRACEBACK),
    }
    try:
        encoded = codec.encode(error, define=define)
    except Exception:  # noqa: BLE001 — see the docstring
        encoded = _without_what_cannot_travel(error, define)
    return Failure(facts, encoded.parts, encoded.defs)


def _hint(error: BaseException) -> str:
    """What to do about the error that this way of working makes likely; "" for all others."""
    if type(error) is not ModuleNotFoundError or not error.name:
        return ""
    package = error.name.partition(".")[0]
    return (
        f"\n  why:   a worker has the packages that its function declares, and nothing of the caller's"
        f'\n  fix:   @remote(…, dependencies=["{package}"]), or the name under which {package} is published'
    )


def restore(error: ErrorRecord, parts: Sequence[Buffer], *, worker: str = "", attach: bool = True) -> BaseException:
    """The exception behind a record: the original where it can be made here, otherwise a RemoteError.

    With `attach` the worker's traceback is shown above the caller's when nobody catches it. A definition
    that is not here (`codec.decode` raises MissingDefinition) has to be fetched before.
    """
    original = _original(parts)
    if original is None:
        what = f"{error.type}: {error.message}" if error.message else error.type
        return RemoteError.of(what, traceback=error.traceback or None)
    if attach and error.traceback:
        _attach(original, RemoteTraceback(error.traceback, worker))
    return original


def _original(parts: Sequence[Buffer]) -> BaseException | None:
    if not parts:
        return None
    try:
        found = codec.decode(parts)
    except EncodingError:  # its class lives in a package that only the worker has
        return None
    return found if isinstance(found, BaseException) else None


def _attach(error: BaseException, remote: RemoteTraceback) -> None:
    """Puts `remote` at the far end of the causes, so that the causes of the original stay."""
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    error.__cause__ = remote


def _without_what_cannot_travel(error: BaseException, define: bool) -> codec.Encoded:
    """The exception without the attributes and causes that cannot be pickled; nothing if its arguments cannot."""
    try:
        slim = type(error).__new__(type(error), *error.args)
        slim.args = error.args
        for name, value in vars(error).items():
            if _travels(value, define):
                vars(slim)[name] = value
        return codec.encode(slim, define=define)
    except Exception:  # noqa: BLE001 — constructors of user code
        return codec.Encoded([], [], small=True)


def _travels(value: Any, define: bool) -> bool:
    try:
        codec.encode(value, define=define)
    except Exception:  # noqa: BLE001 — whatever user code raises while it is pickled, that is the answer
        return False
    return True


def _cut(text: str, longest: int) -> str:
    """The text as the head of a frame can have it: without its middle, if it is too long, and no half characters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n… {len(text) - longest} characters left out …\n{text[-half:]}"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as unprintable:  # noqa: BLE001 — user code
        return f"<its text cannot be made: {type(unprintable).__name__}>"


# ── the traceback as text ────────────────────────────────────────────────────────────────────────


def _traceback(error: BaseException) -> str:
    try:
        found = traceback.TracebackException.from_exception(error)
        _for_all(found, _trim)
        return "".join(found.format()).rstrip()
    except Exception as broken:  # noqa: BLE001 — a traceback is never worth losing the failure for
        return f"{type(error).__qualname__} (its traceback cannot be shown: {broken!r})"


def _for_all(found: traceback.TracebackException, change: Callable[[traceback.TracebackException], None]) -> None:
    waiting, seen = [found], {id(found)}
    while waiting:
        current = waiting.pop()
        change(current)
        for other in (current.__cause__, current.__context__, *(getattr(current, "exceptions", None) or ())):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


def _trim(found: traceback.TracebackException) -> None:
    frames = [frame for frame in found.stack if not _ours(frame.filename)]
    while frames and any(part in frames[0].filename for part in _ABOVE_USER):
        del frames[0]
    found.stack[:] = frames


def _ours(filename: str) -> bool:
    return filename.startswith(_OURS) or any(part in filename for part in _PRIVATE)
