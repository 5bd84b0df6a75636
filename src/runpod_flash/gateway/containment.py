"""A mistake of ours costs one connection; in the engine, which calls us, it would cost a restart."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

logger = logging.getLogger(__name__)

P = ParamSpec("P")


class Connected(Protocol):
    """What has a connection that can be cut."""

    def cut_off(self) -> None:
        """Cuts it."""


C = TypeVar("C", bound=Connected)


def contained(method: Callable[Concatenate[C, P], None]) -> Callable[Concatenate[C, P], None]:
    """Logs whatever the method raises, and cuts the connection that it was for."""

    def run(self: C, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception:
            logger.exception("a connection could not go on")
            self.cut_off()

    return functools.update_wrapper(run, method)
