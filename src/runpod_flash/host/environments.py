"""Environments as folders: each is named by what is in it, and one that has its final name is complete.

::

    environments/requests/<request key>.json   which packages a request was resolved to, once and for all
    environments/<id>/                         a virtual environment, with its facts in flash-env.json
    environments/tmp.<pid>.<n>/                one that is being built, or what is left of that
    environments/locks/<request key>           held by the host that builds it
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from runpod_flash.host.folders import Folders

FOLDER = "environments"
MARKER = "flash-env.json"
SIZE = "flash-env.size"
_NAMED_URL = re.compile(r"[\w.\-]+\s*(?:\[[^\]]*\])?\s*@\s*(.+)")


class Facts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What an environment says about itself, in its marker."""

    id: str
    requirements: list[str]
    lock: list[str]
    interpreter: str
    python: str
    created_at_ms: int
    prefix: str = ""  # the system packages that it was built with; see prefixes.py


class Request(msgspec.Struct, kw_only=True):
    """A request, resolved: the lines of the lock, and the environment that they make."""

    id: str
    lock: list[str]
    requirements: list[str]


class Environments(Folders):
    """The folder of environments."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / FOLDER, MARKER)

    def facts(self, name: str) -> Facts | None:
        """What is known of a complete environment whose interpreter is still there."""
        path = self.path(name)
        try:
            facts = msgspec.json.decode((path / MARKER).read_bytes(), type=Facts)
        except (OSError, msgspec.MsgspecError):
            return None
        return facts if os.access(path / "bin" / "python", os.X_OK) else None

    def size(self, name: str) -> int:
        """Bytes on disk; 0 until that was measured, some time after the build."""
        try:
            return int((self.path(name) / SIZE).read_text())
        except (OSError, ValueError):
            return 0

    def request(self, key: str) -> Request | None:
        """What that request was resolved to, if it ever was."""
        try:
            return msgspec.json.decode(self.request_file(key).read_bytes(), type=Request)
        except (OSError, msgspec.MsgspecError):
            return None

    def publish(self, built: Path, facts: Facts) -> None:
        """Gives a built environment its name; loses to one that was there first, which is just as good."""
        (built / MARKER).write_bytes(msgspec.json.encode(facts))
        target = self.path(facts.id)
        if target.exists() and self.facts(facts.id) is None:
            self.retire(facts.id)  # its interpreter is gone, or somebody tampered with it
        try:
            built.rename(target)
        except OSError:
            if self.facts(facts.id) is None:
                raise

    def rows(self) -> list[dict[str, Any]]:
        """One row each, for people."""
        return [self.row(name, facts) for name in self.names() if (facts := self.facts(name))]

    def row(self, name: str, facts: Facts) -> dict[str, Any]:
        """The facts of one, for people."""
        return {
            "id": name,
            "kind": "python",
            "requirements": facts.requirements,
            "lock": facts.lock,
            "python": facts.python,
            "prefix": facts.prefix,
            "size": self.size(name),
            "created_at_ms": facts.created_at_ms,
            "used_at_ms": self.used_at_ms(name),
            "state": "ready",
        }


def environment_id(abi: str, interpreter: str, lock: Sequence[str], prefix: str) -> str:
    """32 hex digits for what will be in an environment, and the prefix of system packages that it was built with."""
    identity = msgspec.json.encode([abi, os.path.realpath(interpreter), sorted(lock), [prefix] if prefix else []])
    return hashlib.sha256(identity).hexdigest()[:32]


def refusal(requirements: Iterable[str]) -> str:
    """Why these cannot be installed on a worker, whatever an installer would do with them; or ""."""
    for text in requirements:
        named = _NAMED_URL.match(text)
        target = named[1] if named else text
        if text.startswith("-"):
            return f"{text!r} is an option of an installer, not a requirement; write the requirement alone"
        if target.startswith((".", "/", "~", "file:")) or (os.sep in target and "://" not in target):
            return (
                f"{text!r} is a path on this machine, which workers elsewhere do not have; "
                "functions bring the code of your own modules along by themselves, so leave it out"
            )
    return ""
