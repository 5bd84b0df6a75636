"""The code blocks of the specification, by their names in blocks.txt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).with_name("blocks.txt")
_FENCED: Final = re.compile(r"^## (\S+)\n\n```python\n(.*?\n)```$", re.MULTILINE | re.DOTALL)
BLOCKS: Final[dict[str, str]] = dict(_FENCED.findall(PAGE.read_text(encoding="utf-8")))
"""Name to text, word for word."""


def piece(name: str, start: str = "", stop: str = "") -> str:
    """A block from the line that begins with `start` to before the next that begins with `stop`."""
    text = BLOCKS[name]
    begin = text.index(start)
    return text[begin : text.index(stop, begin + 1) if stop else None]
