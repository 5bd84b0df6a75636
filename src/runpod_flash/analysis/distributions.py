"""Which distribution provides a module, at the caller and by common knowledge, and whether a requirement covers it.

`importlib.metadata.packages_distributions` answers the first, by reading the list of files of everything installed: a
second or more beside a large framework. Here one module is looked for, first in the distribution of its own name.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from runpod_flash.analysis.modules import find
from runpod_flash.analysis.published import COMMON_NAMES

_NAME: Final = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?=$|[\[<>=!~;@( ])")
_INFO: Final = (".dist-info", ".egg-info")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Something installed at the caller."""

    name: str
    version: str
    origin: str = ""
    """The URL that it was installed from; "" for an index."""
    from_folder: bool = False
    """Whether it was installed from a folder of this machine: the user's own project."""
    requires: frozenset[str] = frozenset()
    """What comes with it, normalised; not what it asks for in some cases only."""

    @property
    def requirement(self) -> str:
        """What asks for exactly this."""
        if self.origin and not self.from_folder:
            return f"{self.name} @ {self.origin}"
        # A local version (`2.1.0+cu118`) is of one index; `==2.1.0` accepts it, and its likes of the others.
        return f"{self.name}=={self.version.partition('+')[0]}"


def normalise(name: str) -> str:
    """The name of a distribution in its one spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def provider(module: str) -> Distribution | None:
    """The installed distribution that a module comes from; None if it is not installed, or nobody says so."""
    found = providers(module)
    return found[0] if found else None


def providers(module: str) -> tuple[Distribution, ...]:
    """All installed distributions that claim a module: some replace each other file by file."""
    known = None
    for name in reversed(list(_longest_first(module))):
        found = find(name)
        if found is None:
            break
        if found.owner not in ("installed", "own"):
            return ()
        known = name, found.file or next(iter(found.folders), "")
        if found.file:  # what is in it comes with it; a folder without code of its own may be shared by many
            break
    return providing(*known) if known is not None and known[1] else ()


def providing(module: str, place: str) -> tuple[Distribution, ...]:
    """The installed distributions to which a module found at the path `place` belongs."""
    folder = _site(module, place)
    try:
        return _providing(module, folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return ()


def installed(requirement: str) -> Distribution | None:
    """What is installed here of the distribution that a requirement names."""
    name = required_name(requirement)
    for folder in sys.path if name else ():
        if os.path.isdir(folder) and (info := _infos_of(folder).get(name)):
            return _read(os.path.join(folder, info))
    return None


def likely_name(module: str) -> str:
    """The name under which a module that is not installed is probably published."""
    names = _common(module)
    return names[0] if names else normalise(module.partition(".")[0])


def required_name(requirement: str) -> str:
    """The distribution that a requirement asks for, normalised; "" where it does not say (a bare URL or path)."""
    found = _NAME.match(requirement)
    if found is not None:
        return normalise(found[1])
    egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", requirement)
    return normalise(egg[1]) if egg else ""


def covers(requirements: Iterable[str], module: str) -> bool:
    """Whether one of `requirements` brings `module`, as far as names tell."""
    requirements = tuple(requirements)
    asked = {required_name(one) for one in requirements} - {""}
    if asked & {*_names_of(module), *_common(module)}:
        return True
    if asked and any(normalise(one.name) in asked for one in providers(module)):
        return True
    nameless = [normalise(one) for one in requirements if not required_name(one)]
    return any(normalise(module.partition(".")[0]) in one for one in nameless)


def unaccounted(requirements: Iterable[str], modules: Iterable[str]) -> tuple[str, ...]:
    """Those of `requirements` of which nobody here knows what they bring: not installed, and the name of no module."""
    modules = tuple(modules)
    strange = (one for one in requirements if installed(one) is None)
    return tuple(one for one in strange if not any(covers((one,), module) for module in modules))


def _longest_first(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:count]) for count in range(len(parts), 0, -1))


def _names_of(module: str) -> set[str]:
    """`google.cloud.storage` may come as google, google-cloud or google-cloud-storage."""
    return {normalise(name) for name in _longest_first(module)}


def _common(module: str) -> tuple[str, ...]:
    return next((COMMON_NAMES[name] for name in _longest_first(module) if name in COMMON_NAMES), ())


# ── what lies beside the packages ─────────────────────────────────────────────────────────────────


def _site(module: str, place: str) -> str:
    """The folder on the path in which `module`, found at `place`, lies."""
    steps = module.count(".") + (2 if os.path.basename(place).startswith("__init__.") else 1)
    for _ in range(steps):
        place = os.path.dirname(place)
    return place


@functools.lru_cache(maxsize=1024)
def _providing(module: str, folder: str, _mtime: int) -> tuple[Distribution, ...]:
    infos = _infos(folder, _mtime)
    likely = [infos[name] for name in (*_names_of(module), *_common(module)) if name in infos]
    found = tuple(info for info in likely if _claims(os.path.join(folder, info), module))
    if not found:
        found = tuple(info for info in infos.values() if _claims(os.path.join(folder, info), module))
    return tuple(_read(os.path.join(folder, info)) for info in found)


def _infos_of(folder: str) -> dict[str, str]:
    return _infos(folder, os.stat(folder).st_mtime_ns)


@functools.lru_cache(maxsize=32)
def _infos(folder: str, _mtime: int) -> dict[str, str]:
    """Normalised name → the folder that describes it. The time of the folder makes a new installation known."""
    entries = (entry for entry in sorted(os.listdir(folder)) if entry.endswith(_INFO))
    return {normalise(entry.rpartition(".")[0].partition("-")[0]): entry for entry in entries}


def _claims(info: str, module: str) -> bool:
    """Whether the list of files of a distribution has the module."""
    path = module.replace(".", "/")
    for name in ("RECORD", "installed-files.txt"):
        listed = _bytes(os.path.join(info, name))
        if listed is not None:
            return re.search(rb"(?:^|\n|/)" + re.escape(path.encode()) + rb"[/.]", listed) is not None
    top = _bytes(os.path.join(info, "top_level.txt"))
    return top is not None and module.partition(".")[0] in top.decode(errors="replace").split()


@functools.lru_cache(maxsize=1024)
def _read(info: str) -> Distribution:
    # The head alone, line by line: importlib.metadata parses the whole as e-mail, description included, which takes
    # milliseconds.
    described = _bytes(os.path.join(info, "METADATA")) or _bytes(os.path.join(info, "PKG-INFO")) or b""
    fields: dict[str, list[str]] = {}
    for line in described.partition(b"\n\n")[0].decode(errors="replace").splitlines():
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value.strip())
    always = {required_name(one) for one in fields.get("Requires-Dist", ()) if ";" not in one}
    named, _, version = os.path.basename(info).rpartition(".")[0].partition("-")
    name, version = fields.get("Name", [named])[0], fields.get("Version", [version])[0]
    return Distribution(name, version, *_origin(info), frozenset(always))


def _origin(info: str) -> tuple[str, bool]:
    """Where it was installed from, if not from an index, and whether that is a folder."""
    text = _bytes(os.path.join(info, "direct_url.json"))
    if text is None:
        return "", False
    try:
        said = json.loads(text)
        url = str(said["url"])
    except (ValueError, KeyError, TypeError):
        return "", False
    if isinstance(said.get("dir_info"), dict):
        return url, url.startswith("file:")
    if isinstance(vcs := said.get("vcs_info"), dict):
        return f"{vcs.get('vcs', 'git')}+{url}@{vcs.get('commit_id', '')}".rstrip("@"), False
    return url, False


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
