"""Prefixes: folders with the system packages that a machine lacks, seen by the workers that asked for them alone.

::

    system/requests/<key>.json   which packages a set of names was resolved to, here
    system/<id>/                 the unpacked packages, with their facts in flash-prefix.json
    system/apt/                  lists of packages, apart from those of the machine
    system/tmp.<pid>.<n>/        one that is being built, or what is left of that
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from runpod_flash.host.folders import Folders
from runpod_flash.host.unpack import VARIABLES, merged

FOLDER = "system"
MARKER = "flash-prefix.json"
_FORMAT: Final = 1
"""Of what `unpack.py` makes: a prefix of another one is built anew."""


class Facts(msgspec.Struct, kw_only=True):
    """What a prefix says about itself, in its marker."""

    id: str
    names: list[str]
    packages: list[str]
    size: int
    created_at_ms: int


class Request(msgspec.Struct, kw_only=True):
    """Names of packages, resolved: the prefix that has them; "" if the machine has them all."""

    prefix: str


class Prefixes(Folders):
    """The folder of prefixes."""

    def __init__(self, home: Path) -> None:
        super().__init__(home / FOLDER, MARKER)

    def facts(self, name: str) -> Facts | None:
        """What is known of a complete one."""
        try:
            return msgspec.json.decode((self.path(name) / MARKER).read_bytes(), type=Facts)
        except (OSError, msgspec.MsgspecError):
            return None

    def known(self, key: str) -> str:
        """The complete prefix that a request means, or ""."""
        try:
            prefix = msgspec.json.decode(self.request_file(key).read_bytes(), type=Request).prefix
        except (OSError, msgspec.MsgspecError):
            return ""
        return prefix if prefix and self.facts(prefix) else ""

    def publish(self, built: Path, facts: Facts) -> None:
        """Gives a built one its name."""
        (built / MARKER).write_bytes(msgspec.json.encode(facts))
        try:
            built.rename(self.path(facts.id))
        except OSError:
            if self.facts(facts.id) is None:
                raise

    def with_variables(self, prefix: str, variables: Mapping[str, str]) -> dict[str, str]:
        """`variables`, by which programs also find what lies in that prefix; "" is none."""
        if not prefix:
            return dict(variables)
        return merged(json.loads((self.path(prefix) / VARIABLES).read_bytes()), variables)

    def rows(self) -> list[dict[str, Any]]:
        """One row each, for people."""
        return [self.row(facts) for name in self.names() if (facts := self.facts(name))]

    def row(self, facts: Facts) -> dict[str, Any]:
        """The facts of one, for people."""
        return {
            "id": facts.id,
            "kind": "system",
            "requirements": facts.names,
            "lock": facts.packages,
            "python": "",
            "prefix": facts.id,
            "size": facts.size,
            "created_at_ms": facts.created_at_ms,
            "used_at_ms": self.used_at_ms(facts.id),
            "state": "ready",
        }


def request_key(names: Sequence[str]) -> str:
    """Names a request for packages on this release of the machine's system."""
    return _digest([_release(), sorted(names)])


def prefix_id(packages: Sequence[str]) -> str:
    """32 hex digits for what will be in a prefix: packages with their versions."""
    return _digest([_FORMAT, platform.machine(), _release(), sorted(packages)])


def _release() -> str:
    try:
        found = platform.freedesktop_os_release()
    except OSError:
        return ""
    return f"{found.get('ID', '')} {found.get('VERSION_ID', '')}"


def _digest(identity: object) -> str:
    return hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:32]
