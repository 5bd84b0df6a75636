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

from typing import Any, ClassVar

from runpod_flash.errors.imitation import blends, first_that_works
from runpod_flash.errors.words import call_site, did_you_mean, first_line, labelled, shown, suggestion

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
        self.what = what.strip() or first_line(type(self).__doc__)
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
                pieces.append(labelled(label, text))
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
        return first_that_works(lambda kind: kind(what, **pieces), blends(cls, original, never))

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


def _by_code(root: type[FlashError]) -> dict[str, type[FlashError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        if globals().get(child.__name__) is child:  # neither another room's, nor one that imitates an original
            found.update(_by_code(child))
    return found


def _rebuild(kind: type[FlashError], args: tuple[Any, ...], state: dict[str, Any]) -> FlashError:
    error = kind.__new__(kind)
    error.args = args
    vars(error).update(state)
    return error


def _rebuild_remote(
    plain: type[RemoteError], blended: bool, args: tuple[Any, ...], state: dict[str, Any]
) -> RemoteError:
    original = state.get("original") if blended else None
    error = first_that_works(lambda kind: kind(original=original), blends(plain, original, ()))
    error.args = args
    vars(error).update(state)
    error.__cause__ = error.original
    return error
