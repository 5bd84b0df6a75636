"""How far a job is, said from inside it."""

from __future__ import annotations

import json
import sys


def progress(value: object) -> None:
    """Says how far the job is: one line of its output, which its caller sees at once, and `flash logs` later.

    `value` is a text, a number or anything that JSON has; other things are shown as they print. Outside of a job, as
    in a function that is called with `local=True`, the line goes to this program's standard error.
    """
    sys.stderr.write(f"progress: {_line(value)}\n")
    sys.stderr.flush()


def _line(value: object) -> str:
    text = value if isinstance(value, str) else _json(value)
    return " ".join(text.split())


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(value)
