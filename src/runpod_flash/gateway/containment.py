"""A mistake of ours in an answer costs one connection; in the engine, which calls us, it would cost a restart."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class Breakable(Protocol):
    """What has a connection that can be cut."""

    def break_off(self) -> None:
        """Cuts it."""


B = TypeVar("B", bound=Breakable)


def contained(method: Callable[Concatenate[B, P], None]) -> Callable[Concatenate[B, P], None]:
    """Logs whatever the method raises, and cuts the connection that it was for."""

    def run(self: B, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.exception("an answer could not be written")
            self.break_off()

    return functools.update_wrapper(run, method)
