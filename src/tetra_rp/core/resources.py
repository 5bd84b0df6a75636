"""The same as `runpod_flash.core.resources`."""

from runpod_flash.core.resources import *  # noqa: F403
from runpod_flash.core.resources import __all__ as __all__
