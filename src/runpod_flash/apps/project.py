"""A project as its files describe it: what it is called, and what it needs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from runpod_flash.errors import ConfigError

_MARKS: Final = ("pyproject.toml", "main.py", "app.py", "server.py", "mothership.py")

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def find_project(start: Path) -> Path:
    """The folder itself, if there is something to serve or to deploy in it; else the nearest project around it.

    A repository alone is no project: what is built may be a folder of one, and never all of it by mistake.
    """
    here = start.absolute()
    if any((here / name).is_file() for name in _MARKS) or not here.is_dir():
        return here
    return next((folder for folder in here.parents if (folder / "pyproject.toml").is_file()), here)


def project_name(root: Path) -> str:
    """[project].name of its pyproject.toml, else the name of its folder."""
    named = _table(root).get("name")
    return named if isinstance(named, str) and named.strip() else root.absolute().name or "app"


def project_requirements(root: Path) -> list[str]:
    """[project].dependencies and requirements.txt together, as they are written there."""
    found = [_checked(one, root / "pyproject.toml", "") for one in _table(root).get("dependencies", ())]
    file = root / "requirements.txt"
    if file.is_file():
        found += _lines(file, ())
    return list(dict.fromkeys(found))


def _table(root: Path) -> dict[str, Any]:
    file = root / "pyproject.toml"
    if not file.is_file():
        return {}
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read", where=str(file), why=str(error), fix="mend the file") from None
    return table if isinstance(table, dict) else {}


def _lines(file: Path, within: tuple[Path, ...]) -> Iterator[str]:
    """The requirements in a file, and in those that it names with `-r`."""
    if file in within:
        return
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read", where=str(file), why=str(error)) from None
    for number, written in enumerate(_joined(text), 1):
        line = re.sub(r"(^|\s)#.*$", "", written).strip()
        where = f"{file}:{number}"
        if other := re.match(r"(?:-r|--requirement)[ =]\s*(.+)", line):
            yield from _lines((file.parent / other[1].strip()).resolve(), (*within, file))
        elif line.startswith(("-e", "--editable")):
            raise ConfigError(
                f"{line!r} cannot be a requirement of what is deployed",
                where=where,
                why="workers install from a package index, and know nothing of this machine's folders",
                fix="the project's own modules travel anyway: remove the line, or name a distribution",
            )
        elif line and not line.startswith("-"):
            yield _checked(re.sub(r"\s--hash[= ]\S+", "", line).strip(), file, f":{number}")


def _joined(text: str) -> list[str]:
    """Lines, with those that a backslash continues in one, and empty ones in the place of the rest."""
    found: list[str] = []
    open_at = -1
    for line in text.splitlines():
        continued = line.endswith("\\")
        body = line[:-1] if continued else line
        if open_at >= 0:
            found[open_at] += body
            found.append("")
        else:
            found.append(body)
        open_at = (open_at if open_at >= 0 else len(found) - 1) if continued else -1
    return found


def _checked(text: object, file: Path, line: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement  # noqa: PLC0415 - slow to load, seldom needed

    try:
        Requirement(str(text))
    except InvalidRequirement as error:
        raise ConfigError(
            f"{text!r} is no requirement", where=f"{file}{line}", why=str(error).partition("\n")[0], fix="mend the line"
        ) from None
    return str(text)
