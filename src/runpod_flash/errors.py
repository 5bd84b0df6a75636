"""Everything that can go wrong, as one tree.

    FlashError
    ├── ConfigError (ValueError)       a resource, volume or setting has a value that cannot be
    ├── UsageError (TypeError)         the SDK was called in a way that it does not have
    │   └── ImmutableError (AttributeError)  … a configuration was to be changed
    ├── ScopeError                     a function needs something that cannot travel to its worker
    ├── EncodingError                  a value cannot be pickled, or cannot be read back
    ├── MissingVariableError           a variable that a function asks for is set nowhere
    ├── DependencyError                an environment could not be built
    │   └── SystemPackageError         … because of a system package
    ├── EngineError                    the engine did not do what it was asked
    │   ├── EngineUnavailable          … it cannot be started or reached
    │   ├── EngineRefused              … it is there and said no
    │   ├── StoreError                 … its store cannot be read or written
    │   └── QueueFull                  … an endpoint has as many waiting jobs as it may have
    ├── JobNotFound                    there is no such job (any more)
    ├── InvalidTransition              a job was told to change in a way that jobs never do (a bug of ours)
    └── RemoteError                    a job did not complete; also an instance of the original exception type
        ├── JobTimeout (TimeoutError)  … it took longer than its timeout
        ├── JobCancelled               … somebody cancelled it
        └── WorkerLost                 … its workers died under it

A message has up to four pieces: *what* happened, *where* in the user's code, *why*, and a *fix*: what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import FrameType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, ClassVar

__all__ = [
    "ConfigError",
    "DependencyError",
    "EncodingError",
    "EngineError",
    "EngineRefused",
    "EngineUnavailable",
    "FlashError",
    "ImmutableError",
    "InvalidTransition",
    "JobCancelled",
    "JobNotFound",
    "JobTimeout",
    "MissingVariableError",
    "QueueFull",
    "RemoteError",
    "ScopeError",
    "StoreError",
    "SystemPackageError",
    "UsageError",
    "WorkerLost",
    "call_site",
    "did_you_mean",
    "error_from_code",
    "shown",
    "suggestion",
]


class FlashError(Exception):
    """Something that Flash was asked for did not happen."""

    code: ClassVar[str] = "error"
    """The name this kind of error has in frames and in `--json` output."""

    def __init__(
        self, what: str = "", *, where: str | None = None, why: str | None = None, fix: str | None = None
    ) -> None:
        self.what = what.strip() or _first_line(type(self).__doc__)
        self.where = where
        self.why = why
        self.fix = fix
        # Not super(): the next class may be a user's own, with a constructor of its own (see RemoteError.of).
        Exception.__init__(self, self.what)

    def __str__(self) -> str:
        # What goes over several paragraphs is told apart from the rest by one more.
        pieces = [self.what, ""] if "\n\n" in self.what else [self.what]
        for label, text in (("where", self.where), ("why", self.why), ("fix", self.fix)):
            if text:
                pieces.append(_labelled(label, text))
        return "\n".join(pieces)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by pieces: the builtin bases would call the constructor in their own way."""
        return _rebuild, (type(self), self.args, dict(vars(self)))


class ConfigError(FlashError, ValueError):
    """A configuration has a value that cannot be."""

    code = "config"


class UsageError(FlashError, TypeError):
    """The SDK was called in a way that it does not have."""

    code = "usage"


class ImmutableError(UsageError, AttributeError):
    """A configuration cannot be changed."""

    code = "immutable"


class ScopeError(FlashError):
    """A function needs something that cannot travel to its worker; `names` are the names that it uses."""

    code = "scope"
    names: tuple[str, ...] = ()


class EncodingError(FlashError):
    """A value cannot travel: it cannot be pickled here, or not be read there."""

    code = "encoding"


class MissingVariableError(FlashError):
    """A variable that a function asks for is set nowhere."""

    code = "missing_variable"


class DependencyError(FlashError):
    """The environment of a function could not be built."""

    code = "dependency"


class SystemPackageError(DependencyError):
    """A system package is missing and cannot be provided."""

    code = "system_package"


class EngineError(FlashError):
    """The engine did not do what it was asked. `retry_after_ms`: when asking again makes sense."""

    code = "engine"

    def __init__(
        self,
        what: str = "",
        *,
        where: str | None = None,
        why: str | None = None,
        fix: str | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(what, where=where, why=why, fix=fix)
        self.retry_after_ms = retry_after_ms


class EngineUnavailable(EngineError):
    """The engine cannot be started or reached."""

    code = "engine_unavailable"


class EngineRefused(EngineError):
    """The engine is there and refused."""

    code = "engine_refused"


class StoreError(EngineError):
    """The engine's store cannot be read or written."""

    code = "store_unavailable"


class QueueFull(EngineError):
    """An endpoint has as many waiting jobs as it may have."""

    code = "queue_full"


class JobNotFound(FlashError):
    """There is no such job: its id is wrong, or it ended so long ago that it was removed."""

    code = "job_not_found"


class InvalidTransition(FlashError):
    """A job was told to change in a way that jobs never do. This is a bug of Flash."""

    code = "invalid_transition"


class RemoteError(FlashError):
    """A job did not complete, and its result was used as a value.

    Made by `RemoteError.of(...)`, it is an instance of the original exception's type as well, so that
    `except ValueError` works; `original` (also its `__cause__`) is that exception where it could be rebuilt.
    """

    code = "remote"

    def __init__(
        self,
        what: str = "",
        *,
        where: str | None = None,
        why: str | None = None,
        fix: str | None = None,
        original: BaseException | None = None,
        traceback: str | None = None,
    ) -> None:
        super().__init__(what, where=where, why=why, fix=fix)
        self.original = original
        self.traceback = traceback
        if original is not None:
            self.__cause__ = original

    @classmethod
    def of(
        cls,
        what: str,
        *,
        where: str | None = None,
        why: str | None = None,
        fix: str | None = None,
        original: BaseException | None = None,
        traceback: str | None = None,
        never: tuple[type[BaseException], ...] = (),
    ) -> RemoteError:
        """The error for `original`: also an instance of its type, unless that is one of `never`.

        Its `args` and attributes are the original's, so `except MyError as e: e.code` works. What would end
        the program or an iteration is never imitated: `SystemExit`, `KeyboardInterrupt`, `StopIteration`.
        """
        pieces: dict[str, Any] = {
            "where": where,
            "why": why,
            "fix": fix,
            "original": original,
            "traceback": traceback,
        }
        return _first_that_works(lambda kind: kind(what, **pieces), _blends(cls, original, never))

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text}\n\n{self.traceback.rstrip()}" if self.traceback else text

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without the blended class, which no module holds: it is made again where this is read."""
        plain = next(base for base in type(self).__mro__ if globals().get(base.__name__) is base)
        return _rebuild_remote, (plain, plain is not type(self), self.args, dict(vars(self)))


class JobTimeout(RemoteError, TimeoutError):
    """A job, or waiting for it, took longer than it may."""

    code = "timeout"


class JobCancelled(RemoteError):
    """A job was cancelled."""

    code = "cancelled"


class WorkerLost(RemoteError):
    """The workers that ran a job died under it."""

    code = "lost"


def error_from_code(
    code: str,
    what: str,
    *,
    where: str | None = None,
    why: str | None = None,
    fix: str | None = None,
    retry_after_ms: int | None = None,
) -> FlashError:
    """The error that a frame described by its `code`; an unknown code is an `EngineRefused` that shows it."""
    kind = _by_code(FlashError).get(code, EngineRefused)
    if kind is EngineRefused and code != EngineRefused.code:
        what = f"{what} ({code})"
    if issubclass(kind, EngineError):
        return kind(what, where=where, why=why, fix=fix, retry_after_ms=retry_after_ms)
    return kind(what, where=where, why=why, fix=fix)


def call_site() -> str:
    """`file:line` of the nearest caller that is the user's: the place a message should point at.

    Nothing where there is none: on the thread of `.sync`, the user's call is not on the stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _IN_BETWEEN:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def shown(value: object, limit: int = 200) -> str:
    """`repr(value)` as a message can bear it: never very long, and a word also for what cannot be shown."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the user's own __repr__, or nesting without end: the message has to come
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def suggestion(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `choices` that `word` probably means: a typo, another case, snake_case for camelCase."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a program that is about to fail pays for it

    known = {_folded(choice): choice for choice in choices}
    close = get_close_matches(_folded(word), known, n=1, cutoff=cutoff)
    return known[close[0]] if close else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence for the end of a message: ` Did you mean 'workersMax'?`, or nothing."""
    meant = suggestion(word, choices)
    return f" Did you mean {meant!r}?" if meant else ""


# Ours, and what stands between ours and the user's: a dataclass's constructor, a loop that runs a coroutine.
_IN_BETWEEN = frozenset(
    {"runpod_flash", "tetra_rp", "asyncio", "concurrent", "copy", "dataclasses", "threading", "uvloop"}
)


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def _first_line(text: str | None) -> str:
    return (text or "Something went wrong").strip().splitlines()[0]


def _labelled(label: str, text: str) -> str:
    first, *rest = text.strip().splitlines()
    indent = " " * 9
    return "\n".join([f"  {label + ':':<7}{first}", *(indent + line for line in rest)])


def _by_code(root: type[FlashError]) -> dict[str, type[FlashError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        if globals().get(child.__name__) is child:  # neither another room's, nor one that imitates an original
            found.update(_by_code(child))
    return found


# These steer loops, so an error that is one of them would end the caller's loop in silence.
_NEVER_IMITATED = (StopIteration, StopAsyncIteration)


def _blends(
    kind: type[RemoteError], original: BaseException | None, never: tuple[type[BaseException], ...]
) -> Iterator[type[RemoteError]]:
    """`kind` as the type of `original` too, as each exception among its bases, and last just `kind`."""
    if isinstance(original, kind):
        yield type(original)
    elif isinstance(original, Exception) and not isinstance(original, (*never, *_NEVER_IMITATED)):
        bases = type(original).__mro__
        for base in bases[: bases.index(Exception)]:
            with suppress(TypeError):  # a final class, a metaclass or memory layout that does not mix
                yield type(kind.__name__, (kind, base), {"__module__": kind.__module__})
    yield kind


def _first_that_works(
    make: Callable[[type[RemoteError]], RemoteError], kinds: Iterable[type[RemoteError]]
) -> RemoteError:
    """An error of the first class that can be made.

    Exceptions of users may want arguments in `__new__` (as pydantic's do) or forbid to set attributes.
    """
    *imitations, plain = kinds
    for kind in imitations:
        with suppress(Exception):
            error = make(kind)
            if isinstance(error, type(error.original)):
                _copy_attributes(error.original, error)
            return error
    return make(plain)


def _copy_attributes(original: BaseException | None, error: BaseException) -> None:
    """Give `error` the arguments and attributes of `original`, also those that C or `__slots__` keep."""
    for kind in reversed(type(error).__mro__):
        for name, member in vars(kind).items():
            if isinstance(member, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__"):
                with suppress(Exception):
                    setattr(error, name, getattr(original, name))
    for name, value in getattr(original, "__dict__", {}).items():
        vars(error).setdefault(name, value)


def _rebuild(kind: type[FlashError], args: tuple[Any, ...], state: dict[str, Any]) -> FlashError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(state)
    return error


def _rebuild_remote(
    plain: type[RemoteError], blended: bool, args: tuple[Any, ...], state: dict[str, Any]
) -> RemoteError:
    original = state.get("original") if blended else None
    error = _first_that_works(lambda kind: kind(original=original), _blends(plain, original, ()))
    error.args = args
    vars(error).update(state)
    error.__cause__ = error.original
    return error
