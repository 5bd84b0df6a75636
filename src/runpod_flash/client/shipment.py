"""A function made ready to travel: judged, packed, and with all that its workers will need.

Everything that cannot travel is told at once, in one ScopeError, before anything is sent.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from itertools import chain
from typing import Any, Final, NamedTuple

from runpod_flash.analysis.modules import remembering
from runpod_flash.client import offences
from runpod_flash.client.captures import MOST_DATA, too_large
from runpod_flash.client.imports import Imports, imports_of_scope, total_size
from runpod_flash.client.offences import Offence
from runpod_flash.client.requirements import Requirements, complete
from runpod_flash.client.scope import Root, Scope, location
from runpod_flash.errors import EncodingError, ScopeError
from runpod_flash.model.endpoint import normalise_requirements
from runpod_flash.payload import codec, functions
from runpod_flash.payload.functions import Packed

MOST_SOURCE: Final = 8 << 20
"""Bytes of source of the user's own modules that may travel with a function."""


class Shipment(NamedTuple):
    """What is sent of a function, and what its workers need for it."""

    scope: Scope
    packed: Packed
    version: str
    requirements: tuple[str, ...]
    notice: str
    """What the user should know about it; "" if nothing."""
    modules: tuple[str, ...]
    """The user's own modules that go along as source."""


def prepare(root: Root, declared: tuple[str, ...], *, strict: bool = False) -> Shipment:
    """Judges and packs a function or a remote class; ScopeError names everything that cannot travel."""
    with remembering():
        return _prepare(root, declared, strict)


def _prepare(root: Root, declared: tuple[str, ...], strict: bool) -> Shipment:
    scope = Scope(root)
    imports = imports_of_scope(scope)
    found = list(offences.in_names(scope))
    found += _of_modules(imports)
    packed = _pack(scope, imports, found)
    needs = complete(declared, imports.others, packed.imports if packed is not None else (), scope.named_modules())
    if strict:
        found = [*chain.from_iterable(offences.of_the_letter(one, declared) for one in scope.entries), *found]
    found += offences.missing(needs.missing, declared)
    if found or packed is None:
        raise refusal(root, found)
    requirements = normalise_requirements((*declared, *needs.added))
    notice = _notice(root, declared, needs)
    return Shipment(scope, packed, _version(scope, imports), requirements, notice, tuple(imports.sources))


def refusal(root: Root, found: Iterable[Offence]) -> ScopeError:
    """The error that tells everything that is in the way of a function, or of a remote class."""
    offending: dict[str, Offence] = {}
    for one in found:
        offending.setdefault(one.name, one)  # of two words about one name, the first
    listed = sorted(offending.values(), key=_place)
    name = _titled(root)
    where = location(root)
    file = where.rpartition(":")[0]
    count = "a name" if len(listed) == 1 else f"{len(listed)} names"
    error = ScopeError(
        "\n".join([f"{name} uses {count} that cannot travel to its worker:", *map(_told, listed)]),
        where=where or None,
        why="a worker is another process: it has what the function holds and brings along, and nothing else of "
        "this program",
        fix=f"mend what is listed; flash check {file} finds such things without running them"
        if os.path.isfile(file)
        else None,
    )
    error.names = tuple(one.name for one in listed)
    return error


def _titled(root: Root) -> str:
    """`f()`, or `the class C`."""
    name = root.__qualname__.rpartition("<locals>.")[2]
    return f"the class {name}" if isinstance(root, type) else f"{name}()"


def _place(one: Offence) -> tuple[str, int, str]:
    file, _, number = (*one.used, ":0")[0].rpartition(":")
    return file, int(number), one.name


def _told(one: Offence) -> str:
    pieces = [f"\n  {one.name}  {one.what}"]
    if one.defined:
        pieces.append(f"    defined  {one.defined}")
    if one.used:
        pieces.append(f"    used     {_together(one.used)}")
    pieces.append(f"    fix      {one.mend}")
    return "\n".join(pieces)


def _together(used: tuple[str, ...]) -> str:
    """`file.py:3, 7`: lines of one file after its name."""
    files: dict[str, list[str]] = {}
    for place in used:
        file, _, number = place.rpartition(":")
        files.setdefault(file, []).append(number)
    return "; ".join(f"{file}:{', '.join(numbers)}" for file, numbers in files.items())


def _of_modules(imports: Imports) -> Iterable[Offence]:
    yield from offences.compiled(imports.compiled)
    size = total_size(imports.sources.values())
    if size > MOST_SOURCE:
        largest = max(imports.sources.values(), key=lambda source: len(source.text))
        yield Offence(
            largest.name,
            f"and the other modules of yours that it imports are {size / (1 << 20):.0f} MiB of source, and at most "
            "8 MiB may travel",
            "import only what the function needs, or install the package from an index",
            defined=largest.file,
        )


def _pack(scope: Scope, imports: Imports, found: list[Offence]) -> Packed | None:
    """The function as bytes; None if it cannot be pickled, with the reasons in `found`."""
    if any(too_large(capture.value) for capture in scope.captures):  # refused already; pickling it would take long
        found += offences.in_values(scope)
        return None
    try:
        if isinstance(scope.root, type):
            packed = functions.pack_class(scope.root, modules=imports.sources.values())
        else:
            packed = functions.pack_function(scope.root, modules=imports.sources.values())
    except EncodingError as error:
        reasons = list(offences.in_values(scope))
        found += reasons or [_unexplained(scope, error)]
        return None
    if packed.size > MOST_DATA:
        found += offences.in_sizes(scope, _size)
    return packed


def _unexplained(scope: Scope, error: EncodingError) -> Offence:
    """What stands in a default, an annotation or an attribute has no name of its own."""
    return Offence(scope.root.__name__, error.what, error.fix or "make it inside the function")


def _size(value: Any) -> int:
    return codec.size(codec.encode(value).parts)


def _version(scope: Scope, imports: Imports) -> str:
    """The version of what is reached by value, with the modules that go as source."""
    if not imports.sources:
        return scope.version
    whole = hashlib.sha256(scope.version.encode())
    for name in sorted(imports.sources):
        whole.update(f"\0{name}\0{imports.sources[name].text}".encode("utf-8", "surrogatepass"))
    return whole.hexdigest()


def _notice(root: Root, declared: tuple[str, ...], needs: Requirements) -> str:
    if not needs.added:
        return ""
    modules = ", ".join(dict.fromkeys(needs.undeclared))
    listed = ", ".join(f'"{one}"' for one in (*declared, *needs.added))
    return (
        f"{root.__name__} uses {modules} without declaring it; its workers get the version installed here. "
        f"Write: dependencies=[{listed}]"
    )
