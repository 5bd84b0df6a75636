"""Classes that carry the machinery of a library, as Pydantic's models do, and what to say where its version differs.

Such a class can be read only where that library is of much the same version. Each travels with a note of the version
that made it. The note stands before the rest of it in the pickle: it has been read when the rest proves unreadable.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

from runpod_flash.errors import EncodingError

_noted: dict[str, str] = {}
"""Library → the version that made the classes that were read last."""


class Note:
    """Stands in a pickle; reading it notes the version."""

    def __init__(self, library: str, version: str) -> None:
        self.library = library
        self.version = version

    def __reduce__(self) -> tuple[Any, ...]:
        return note, (self.library, self.version)


def note(library: str, version: str) -> None:
    """Notes what the classes that follow were made with."""
    _noted[library] = version


def make_noted(_note: None, make: Any, *arguments: Any) -> Any:
    """What makes the class, behind a note."""
    return make(*arguments)


def with_note(cls: type, reduced: Any) -> Any:
    """`reduced` with a note before it, if the class was made by a metaclass of a library."""
    library = type(cls).__module__.partition(".")[0]
    version = getattr(sys.modules.get(library), "__version__", None)
    if library in sys.stdlib_module_names or not isinstance(version, str):
        return reduced
    make, arguments, *rest = reduced
    return (make_noted, (Note(library, version), make, *arguments), *rest)


def explain(error: Exception, *, at_the_caller: bool) -> EncodingError | None:
    """The error for classes that cannot be read here because their library is another one; None if it is the same."""
    for library, there in _noted.items():
        here = _installed(library)
        unrelated = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] != library
        if here == there or unrelated:
            continue
        wanted = here if at_the_caller else there
        return EncodingError(
            f"a class that {library} {there} made cannot be read here, where "
            + (f"{library} {here} is installed" if here else f"{library} is not installed"),
            why=f"{type(error).__name__}: {error}",
            fix=f'have one version on both sides, dependencies=["{library}=={wanted}"],'
            " or make such classes inside the function and let plain values travel",
        )
    return None


def _installed(library: str) -> str:
    version = getattr(sys.modules.get(library), "__version__", None)
    if isinstance(version, str):
        return version
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
