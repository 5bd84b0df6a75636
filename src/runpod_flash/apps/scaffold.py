"""The files of a new app: templates with names filled in, and what lies in their way."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from runpod_flash import installation
from runpod_flash.apps.naming import names_of
from runpod_flash.errors import UsageError, shown

_PLACEHOLDER: Final = re.compile(r"\{\{ (\w+) \}\}")
_TEMPLATES: Final = Path(__file__).with_name("templates")
_SUFFIX: Final = ".in"
"""Of templates, so that no tool takes them for what they become."""
_DOT: Final = "dot_"
_PINNED: Final = {"fastapi": "0.115.0", "pydantic": "2.7.0", "structlog": "24.1.0"}
"""What an app runs on beside Flash, and the version where none is installed here."""
_EXTRAS: Final = {"pydantic": "[email]"}

DIRECTORY: Final = "directory"
SINGLE: Final = "single"
_SOURCES: Final = {
    DIRECTORY: {
        "gpu_package": "workers.gpu",
        "cpu_package": "workers.cpu",
        "gpu_module": "workers.gpu.endpoint",
        "cpu_module": "workers.cpu.endpoint",
        "gpu_router_file": "workers/gpu/__init__.py",
        "cpu_router_file": "workers/cpu/__init__.py",
        "workers": """\
    workers/gpu/__init__.py   gpu_router: the routes that GPU workers answer
    workers/gpu/endpoint.py   the functions under @remote that run on them
    workers/cpu/              the same for CPU workers""",
    },
    SINGLE: {
        "gpu_package": "gpu_worker",
        "cpu_package": "cpu_worker",
        "gpu_module": "gpu_worker",
        "cpu_module": "cpu_worker",
        "gpu_router_file": "gpu_worker.py",
        "cpu_router_file": "cpu_worker.py",
        "workers": """\
    gpu_worker.py             gpu_router: the routes that GPU workers answer, and their functions under @remote
    cpu_worker.py             the same for CPU workers""",
    },
}
_LAYOUT: Final = """\
    main.py                   the FastAPI app, for local development
    mothership.py             the endpoint that serves the app when it is deployed
{workers}
    tests/                    of the functions, and of the routes with real workers"""


@dataclass(frozen=True)
class File:
    """One file to be."""

    path: Path
    text: str

    @property
    def state(self) -> str:
        """`new`; `same` or `differs` where there is one."""
        try:
            return "same" if self.path.read_bytes() == self.text.encode() else "differs"
        except FileNotFoundError:
            return "new"
        except OSError:  # a folder of that name, or one that may not be read
            return "differs"


def app_folder(name: str) -> Path:
    """The folder that `flash init NAME` is about; UsageError for a name that can be none."""
    folder = Path(os.path.abspath(os.path.expanduser(name)))
    if not name.strip() or "\0" in name or not folder.name or not folder.name.isprintable():
        raise UsageError(f"{shown(name)} cannot be the name of an app", fix="name a folder: flash init my_app")
    for one in (folder, *folder.parents):
        if one.exists():
            if not one.is_dir():
                raise UsageError(f"{one} is a file", why="an app is a folder", fix="choose another name")
            break
    return folder


def files_of(folder: Path, pattern: str) -> list[File]:
    """The files of a new app in `folder`, by name. `pattern` is DIRECTORY or SINGLE, as the guidelines have them."""
    values = _values(folder, pattern)
    found = [
        File(folder / relative, _filled(template, values))
        for part in ("common", pattern)
        for relative, template in _templates(_TEMPLATES / part)
    ]
    return sorted(found, key=lambda file: file.path)


def write(file: File) -> None:
    """Writes one file, in place of what was there."""
    file.path.parent.mkdir(parents=True, exist_ok=True)
    file.path.write_text(file.text, encoding="utf-8", newline="\n")


# ── filling in ────────────────────────────────────────────────────────────────────────────────────


def _templates(folder: Path, above: str = "") -> Iterator[tuple[str, Path]]:
    for one in folder.iterdir():
        name = f".{one.name.removeprefix(_DOT)}" if one.name.startswith(_DOT) else one.name
        if one.is_dir():
            yield from _templates(one, f"{above}{name}/")
        elif name.endswith(_SUFFIX):
            yield above + name.removesuffix(_SUFFIX), one


def _filled(template: Path, values: dict[str, str]) -> str:
    text = _PLACEHOLDER.sub(lambda found: values[found[1]], template.read_text(encoding="utf-8"))
    return f"{text.rstrip()}\n"


def _values(folder: Path, pattern: str) -> dict[str, str]:
    names = names_of(folder)
    sources = _SOURCES[pattern]
    return {
        **sources,
        "layout": _LAYOUT.format(workers=sources["workers"]),
        "prefix": names.prefix,
        "mothership_name": names.mothership,
        "distribution": names.distribution,
        "title": _quotable(names.title),
        "shell_folder": shlex.quote(folder.name),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "pins": "\n".join(_pins()),
        "sources": _uv_sources(),
    }


def _quotable(title: str) -> str:
    """A title that can stand between quotes in every language of the templates."""
    return re.sub(r"[\"'\\{}`]+", " ", title).strip() or "App"


def _pins() -> Iterator[str]:
    place, installed = _installed_from(), installation.books(*_PINNED)
    yield f"{installation.OURS} @ {place.as_uri()}" if place is not None else installation.OURS
    for name, least in _PINNED.items():
        version = installation.version_of(installed[name]) if name in installed else least
        yield f"{name}{_EXTRAS.get(name, '')}=={version}"


def _uv_sources() -> str:
    """Where uv finds Flash: no index has it, so an app is told where it was installed from."""
    place = _installed_from()
    if place is None:
        return ""
    return f"\n[tool.uv.sources]\n{installation.OURS} = {{ path = {json.dumps(str(place))} }}\n"


def _installed_from() -> Path | None:
    """The folder or wheel that Flash was installed from, if this machine still has it."""
    info = installation.books(installation.OURS).get(installation.OURS)
    url = urlsplit(str(installation.source_of(info).get("url", "")) if info is not None else "")
    place = Path(unquote(url.path))
    return place if url.scheme == "file" and place.exists() else None
