"""The instances of remote classes that live in a worker.

The engine decides which live where: a call brings the key of its instance, and the keys of those that give way to it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any


class Instances:
    """By key, the least recently used first."""

    def __init__(self) -> None:
        self._live: dict[str, Any] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._live))

    def __bool__(self) -> bool:
        return bool(self._live)

    def get(self, key: str) -> Any:
        """The instance, which is then the one used last; None if it does not live here."""
        instance = self._live.pop(key, None)
        if instance is not None:
            self._live[key] = instance
        return instance

    def add(self, key: str, instance: Any) -> None:
        """One that is ready to be called."""
        self._live[key] = instance

    async def end(self, keys: Iterable[str] | None = None) -> None:
        """Closes these instances, or all; what one raises at its end is printed, and the next one's turn comes."""
        for key in list(self._live if keys is None else keys):
            instance = self._live.pop(key, None)
            try:
                await _close(instance)
            except BaseException:  # noqa: BLE001 — sys.exit() in a `close` ends nobody else's
                traceback.print_exc()


async def enter(instance: Any) -> None:
    """What `with` does at its beginning, for a class that is made for it: a constructor cannot await."""
    kind = type(instance)
    if hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__"):
        await instance.__aenter__()
    elif hasattr(kind, "__enter__") and hasattr(kind, "__exit__"):
        instance.__enter__()


def has_entrance(instance: Any) -> bool:
    """Whether `enter` has anything to do."""
    return hasattr(type(instance), "__aenter__") or hasattr(type(instance), "__enter__")


async def _close(instance: Any) -> None:
    for name, arguments in (("__aexit__", (None,) * 3), ("__exit__", (None,) * 3), ("aclose", ()), ("close", ())):
        closing = getattr(instance, name, None)
        if callable(closing):
            result = closing(*arguments)
            if hasattr(type(result), "__await__"):
                await result
            return


def method_of(instance: Any, name: str) -> Callable[..., Any]:
    """The method that a function's name ends with."""
    method: Callable[..., Any] = getattr(instance, name.rpartition(".")[2])
    return method
