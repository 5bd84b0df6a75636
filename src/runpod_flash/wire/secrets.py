"""Secrets of an app's environment: `<data folder>/secrets/<name>.json`, readable by its owner alone.

`flash secret` writes them, the engine reads them when it starts a worker of something deployed. They are in no
manifest, no artifact, no log and not in the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FOLDER: Final = "secrets"
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What a variable of an environment may be called."""


class Secrets:
    """Those of one environment of one app; there may be none."""

    def __init__(self, home: Path, app: str, env: str) -> None:
        self.app = app
        self.env = env
        # By a digest: an app's name may have characters that no file's name has.
        digest = hashlib.sha256(f"{app}\0{env}".encode()).hexdigest()[:32]
        self.file = home / FOLDER / f"{digest}.json"

    def values(self) -> dict[str, str]:
        """All of them. OSError or ValueError for a file that cannot be read."""
        return {name: str(one["value"]) for name, one in self.facts().items()}

    def facts(self) -> dict[str, dict[str, Any]]:
        """By name: {value, set_at_ms}."""
        try:
            text = self.file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        found = json.loads(text).get("secrets", {})
        if not isinstance(found, dict):
            raise ValueError(f"{self.file} does not hold secrets")
        return found

    def set(self, name: str, value: str, now_ms: int) -> bool:
        """Keeps a value; whether the name is new. ValueError for what cannot be the name of a variable."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a variable: letters, digits and _, no digit first")
        if "\0" in value:
            raise ValueError("a variable cannot hold a byte 0")
        with self._held():
            facts = self.facts()
            new = name not in facts
            self._write({**facts, name: {"value": value, "set_at_ms": now_ms}})
        return new

    def remove(self, name: str) -> bool:
        """Forgets one; whether it was there."""
        with self._held():
            facts = self.facts()
            if name not in facts:
                return False
            del facts[name]
            self._write(facts)
        return True

    def clear(self) -> None:
        """Forgets all of them."""
        self.file.unlink(missing_ok=True)

    def seal(self, key: bytes) -> str:
        """Changes whenever one of them does, and tells nobody what they are; "" if there are none."""
        values = self.values()
        if not values:
            return ""
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hmac.new(key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        """Two commands at once keep the changes of both."""
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, facts: dict[str, dict[str, Any]]) -> None:
        if not facts:
            self.clear()
            return
        text = json.dumps({"app": self.app, "env": self.env, "secrets": facts})
        temporary = self.file.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            temporary.replace(self.file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
