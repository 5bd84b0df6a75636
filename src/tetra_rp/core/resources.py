"""The same as `runpod_flash.core.resources`."""

from __future__ import annotations

from runpod_flash.core import resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runpod_flash.core.resources import *  # noqa: F403

__all__ = resources.__all__


def __getattr__(name: str) -> object:
    return getattr(resources, name)
