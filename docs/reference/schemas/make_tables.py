"""Writes the tables of fields in cli.md from the schemas beside this file.

    python docs/reference/schemas/make_tables.py

A table stands between `<!-- schema NAME -->` and `<!-- end -->`; a test holds both equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PAGE = FOLDER.parent / "cli.md"
_PLACE = re.compile(r"(<!-- schema ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def filled(text: str) -> str:
    """The page with its tables as the schemas have them now."""
    return _PLACE.sub(lambda found: f"{found[1]}{table(found[2])}{found[3]}", text)


def table(name: str) -> str:
    """The fields that one command prints."""
    schema = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    shape = "an array; of each" if schema["type"] == "array" else "an object"
    head = f"`--json` prints {shape} ([schema](schemas/{name}.json)):\n\n| field | |\n|---|---|\n"
    return head + "".join(f"| `{field}` | {words} |\n" for field, words in _fields(schema.get("items", schema)))


def _fields(schema: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for name, each in schema.get("properties", {}).items():
        yield f"{path}{name}", _words(each)
        inner = each.get("items", each)
        if "properties" in inner:
            yield from _fields(inner, f"{path}{name}{'[]' if 'items' in each else ''}.")


def _words(schema: Mapping[str, Any]) -> str:
    words = schema["description"].replace("|", "\\|")
    values = [f"`{value}`" for value in schema.get("enum", ()) if value]
    return words if len(values) < 3 else f"{words} {', '.join(values)}"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
