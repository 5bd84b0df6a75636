"""What lies beside installed packages and describes them: which distribution put a module where it is found."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

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


def required_name(requirement: str) -> str:
    """The distribution that a requirement asks for, normalised; "" where it does not say (a bare URL or path)."""
    found = _NAME.match(requirement)
    if found is not None:
        return normalise(found[1])
    egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", requirement)
    return normalise(egg[1]) if egg else ""


def names_of(module: str) -> set[str]:
    """Names that a distribution of that module may have: google.cloud.storage may come as google-cloud-storage."""
    parts = module.split(".")
    names = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return {*map(normalise, names), *(common for name in names for common in COMMON_NAMES.get(name, ()))}


def distributions_of(module: str, place: str) -> tuple[Distribution, ...]:
    """The distributions that list a module found at the path `place`: some replace each other file by file."""
    module, folder = _listed_as(module, place)
    try:
        return tuple(map(_read, _listing(module, folder, os.stat(folder).st_mtime_ns)))
    except OSError:
        return ()


def is_from_folder(module: str, place: str) -> bool:
    """Whether a module was installed from a folder of this machine. Rarely anything was, and then it is told fast."""
    module, folder = _listed_as(module, place)
    try:
        return _is_from_folder(module, folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return False


def is_listed(module: str, place: str) -> bool:
    """Whether an installer put a module where it is. Of an editable installation it put only the description there."""
    module, folder = _listed_as(module, place)
    try:
        return _is_listed(module, folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return False


def named(name: str, folder: str) -> Distribution | None:
    """The distribution of that normalised name among those of a folder."""
    try:
        info = _infos(folder, os.stat(folder).st_mtime_ns).get(name)
    except OSError:
        return None
    return _read(info) if info is not None else None


def _listed_as(module: str, place: str) -> tuple[str, str]:
    """The module to look for, and the folder on the path in which it lies.

    That is the outermost package with code of its own: what is in it came with it.
    """
    steps = module.count(".") + (2 if os.path.basename(place).startswith("__init__.") else 1)
    folder = os.path.abspath(place)
    for _ in range(steps):
        folder = os.path.dirname(folder)
    top = module.partition(".")[0]
    return (top if os.path.isfile(os.path.join(folder, top, "__init__.py")) else module), folder


# The time of a folder is an argument of what follows so that a new installation is noticed.


@functools.lru_cache(maxsize=1024)
def _listing(module: str, folder: str, mtime: int) -> tuple[str, ...]:
    infos = _infos(folder, mtime)
    likely = tuple(info for name in sorted(names_of(module)) if (info := infos.get(name)) and _lists(info, module))
    return likely or tuple(info for info in infos.values() if _lists(info, module))


@functools.lru_cache(maxsize=32)
def _infos(folder: str, _mtime: int) -> dict[str, str]:
    """Normalised name → the folder that describes it."""
    entries = (entry for entry in sorted(os.listdir(folder)) if entry.endswith(_INFO))
    return {normalise(entry.rpartition(".")[0].partition("-")[0]): os.path.join(folder, entry) for entry in entries}


@functools.lru_cache(maxsize=1024)
def _is_from_folder(module: str, folder: str, mtime: int) -> bool:
    return any(_lists(info, module) for info in _from_folders(folder, mtime))


@functools.lru_cache(maxsize=1024)
def _is_listed(module: str, folder: str, mtime: int) -> bool:
    return any(info.endswith(".dist-info") and _lists(info, module) for info in _infos(folder, mtime).values())


@functools.lru_cache(maxsize=32)
def _from_folders(folder: str, mtime: int) -> tuple[str, ...]:
    return tuple(info for info in _infos(folder, mtime).values() if _origin(info)[1])


def _lists(info: str, module: str) -> bool:
    """Whether the list of files of a distribution has the module."""
    path = re.escape(module.replace(".", "/").encode())
    for name, start in (("RECORD", b""), ("installed-files.txt", rb"\.\./")):
        listed = _bytes(os.path.join(info, name))
        if listed is not None:
            return re.search(rb"(?:^|\n)" + start + path + rb"[/.]", listed) is not None
    top = _bytes(os.path.join(info, "top_level.txt"))
    return top is not None and module.partition(".")[0] in top.decode(errors="replace").split()


@functools.lru_cache(maxsize=1024)
def _read(info: str) -> Distribution:
    # The head alone, line by line: importlib.metadata parses the whole as e-mail, description included, which takes
    # milliseconds.
    described = _bytes(os.path.join(info, "METADATA")) or _bytes(os.path.join(info, "PKG-INFO")) or b""
    fields: dict[str, list[str]] = {}
    for line in described.partition(b"\n\n")[0].decode(errors="replace").splitlines():
        field, _, value = line.partition(": ")
        fields.setdefault(field, []).append(value.strip())
    always = {required_name(one) for one in fields.get("Requires-Dist", ()) if ";" not in one}
    name, _, version = os.path.basename(info).rpartition(".")[0].partition("-")
    name, version = fields.get("Name", [name])[0], fields.get("Version", [version])[0]
    return Distribution(name, version, *_origin(info), frozenset(always))


def _origin(info: str) -> tuple[str, bool]:
    """Where it was installed from, if not from an index, and whether that is a folder."""
    text = _bytes(os.path.join(info, "direct_url.json"))
    if text is None:
        return "", False
    try:
        said = json.loads(text)
        url = urlsplit(str(said["url"]))
    except (ValueError, KeyError, TypeError):
        return "", False
    if url.scheme == "file" and not os.path.exists(unquote(url.path)):
        return "", False  # the machine of whoever built it: every package of conda says so
    if isinstance(said.get("dir_info"), dict):
        return url.geturl(), url.scheme == "file"
    if isinstance(vcs := said.get("vcs_info"), dict):
        return f"{vcs.get('vcs', 'git')}+{url.geturl()}@{vcs.get('commit_id', '')}".rstrip("@"), False
    return url.geturl(), False


def _bytes(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
