"""The words of a message: where in the user's code, what a value looks like, what was probably meant."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import FrameType


def call_site() -> str:
    """`file:line` of the nearest caller that is the user's: the place a message should point at.

    Nothing where there is none: on the thread of `.sync`, the user's call is not on the stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in _IN_BETWEEN:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""


def shown(value: object, limit: int = 200) -> str:
    """`repr(value)` as a message can bear it: never very long, and a word also for what cannot be shown."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the user's own __repr__, or nesting without end: the message has to come
        text = f"<{type(value).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def suggestion(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The one of `choices` that `word` probably means: a typo, another case, snake_case for camelCase."""
    from difflib import get_close_matches  # noqa: PLC0415 - only a program that is about to fail pays for it

    known = {_folded(choice): choice for choice in choices}
    close = get_close_matches(_folded(word), known, n=1, cutoff=cutoff)
    return known[close[0]] if close else None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A sentence for the end of a message: ` Did you mean 'workersMax'?`, or nothing."""
    meant = suggestion(word, choices)
    return f" Did you mean {meant!r}?" if meant else ""


# Ours, and what stands between ours and the user's: a dataclass's constructor, a loop that runs a coroutine.
_IN_BETWEEN = frozenset(
    {"runpod_flash", "tetra_rp", "asyncio", "concurrent", "copy", "dataclasses", "threading", "uvloop"}
)


def _folded(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


def first_line(text: str | None) -> str:
    """Of a docstring, as the message of an error that was given none."""
    return (text or "Something went wrong").strip().splitlines()[0]


def labelled(label: str, text: str) -> str:
    """A piece of a message under its label, its further lines below the first."""
    first, *rest = text.strip().splitlines()
    indent = " " * 9
    return "\n".join([f"  {label + ':':<7}{first}", *(indent + line for line in rest)])
