"""The pipe to whoever started an engine: one line of JSON, `{"ok": true}` or the error, and it closes."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from runpod_flash.errors import FlashError


class Starter:
    """Whoever started this engine, and waits to hear how that went: told once."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_inheritable(fd, False)

    def ok(self) -> None:
        """An engine is ready, this one or another."""
        self._say({"ok": True})

    def failed(self, error: FlashError) -> None:
        """There is none, and why."""
        words = {"code": error.code, "what": error.what, "why": error.why or "", "fix": error.fix or ""}
        self._say({"error": words})

    def _say(self, words: dict[str, Any]) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):  # it may have given up waiting
                os.write(fd, json.dumps(words).encode() + b"\n")
            os.close(fd)
