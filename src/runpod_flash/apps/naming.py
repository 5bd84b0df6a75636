"""The names of an example, from its folder and the category that it lies in.

`01_getting_started/01_hello_world` gives `01_01_hello_world_gpu`, `01_01_hello_world-mothership` and the title
"01 Hello World". Without numbers, or outside a category, what is missing is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NUMBERED: Final = re.compile(r"(\d+)[_ -]*(.*)", re.DOTALL)
_ACRONYMS: Final = frozenset({"ai", "api", "cpu", "gpu", "http", "llm", "ml", "ocr", "pdf", "tts"})
_NO_WORD: Final = re.compile(r"\W+")


@dataclass(frozen=True)
class Names:
    """What one example is called where."""

    prefix: str
    """Before `_gpu` and `_cpu`: the names of its resources begin with it."""
    mothership: str
    distribution: str
    title: str


def names_of(folder: Path) -> Names:
    """The names of the example in `folder`, which need not exist."""
    category = number_of(folder.parent.name)
    number, rest = split(folder.name)
    word = _NO_WORD.sub("_", rest).strip("_") or "app"
    prefix = "_".join(part for part in (category, number, word) if part)
    return Names(
        prefix=prefix,
        mothership=f"{prefix}-mothership",
        distribution=re.sub(r"[^a-z0-9]+", "-", prefix.lower()).strip("-") or "app",
        title=title(folder.name),
    )


def number_of(name: str) -> str:
    """The number that a category begins with: `01` of `01_getting_started`; "" for a folder that is none."""
    return split(name)[0]


def split(name: str) -> tuple[str, str]:
    """`01_hello_world` as `01` and `hello_world`; without a number, "" and the name."""
    found = _NUMBERED.fullmatch(name)
    return (found[1], found[2]) if found and found[2] else ("", name)


def title(name: str) -> str:
    """A folder's name for people: `01_hello_world` is "01 Hello World"."""
    words = re.split(r"[\s_-]+", name.strip())
    return " ".join(_capital(word) for word in words if word) or name


def _capital(word: str) -> str:
    return word.upper() if word.lower() in _ACRONYMS else word[:1].upper() + word[1:]
