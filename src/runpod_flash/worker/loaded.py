"""The functions that a worker has: loaded by their first call, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from runpod_flash.errors import EncodingError
from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import load_function
from runpod_flash.wire import blobs
from runpod_flash.wire.frame import Buffer

_VERSIONS_KEPT: Final = 4

Function = Callable[..., Any]


class Functions:
    """By name, and of each name the last few versions."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, Function]] = {}

    def get(self, name: str, digest: str) -> Function | None:
        """One that is loaded."""
        return self._by_name.get(name, {}).get(digest)

    def load(self, name: str, digest: str) -> Function:
        """Loads one from its definition, which may run user code at its top level."""
        function = load_function(digest)
        versions = self._by_name.setdefault(name, {})
        versions[digest] = function
        if len(versions) > _VERSIONS_KEPT:
            oldest = next(iter(versions))
            del versions[oldest]
            TABLE.forget(oldest)
        return function


def arguments(
    encoding: str, parts: Sequence[Buffer], moved: Sequence[Sequence[int | str]], blob_dir: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and named arguments of a call, from the parts of its frame."""
    if encoding != "pickle":  # what is "json" does not come here: see json_input.py
        raise EncodingError(
            f"this worker does not read arguments encoded as {encoding!r}",
            why="the program that calls is of another version than the one that declared the function",
        )
    if moved:
        parts = blobs.gather(Path(blob_dir), parts, moved)
    args, kwargs = codec.decode(parts)
    return args, kwargs
