"""The earlier name of `runpod_flash`: the same objects, loaded when they are first used."""

from __future__ import annotations

import runpod_flash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runpod_flash import *  # noqa: F403

__all__ = runpod_flash.__all__  # the same list, so that neither name can forget one


def __getattr__(name: str) -> object:
    if name in __all__:
        value: object = getattr(runpod_flash, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
