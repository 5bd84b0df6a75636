"""Galleries to be served: real files, written for one test."""

from __future__ import annotations

import textwrap
from pathlib import Path

WORKER = """
from fastapi import APIRouter
from pydantic import BaseModel

{name} = APIRouter()


class Request(BaseModel):
    {field}: str = ""


@{name}.post("/say")
async def say(request: Request) -> dict[str, str]:
    \"\"\"Say who answers.

    More words.
    \"\"\"
    return {{"example": "{example}", "type": "{type}"}}
"""


def write(root: Path, files: dict[str, str]) -> None:
    """Files by their paths below `root`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text), encoding="utf-8")


def worker(example: str, type: str, field: str = "text", name: str = "") -> str:
    """A module with a router for that worker type."""
    return WORKER.format(example=example, type=type, field=field, name=name or f"{type}_router")
