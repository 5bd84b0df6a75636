"""How an error of ours is an instance of the original exception's type as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runpod_flash.errors import RemoteError

# These steer loops, so an error that is one of them would end the caller's loop in silence.
_NEVER_IMITATED = (StopIteration, StopAsyncIteration)


def blends(
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


def first_that_works(
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
