"""Environments as folders: each is named by what is in it, and one that has its final name is complete.

::

    environments/requests/<request key>.json   which packages a request was resolved to, once and for all
    environments/<id>/                         a virtual environment, with its facts in flash-env.json
    environments/tmp.<pid>.<n>/                one that is being built, or what is left of that
    environments/locks/<request key>           held by the host that builds it
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

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


class Request(msgspec.Struct, kw_only=True):
    """A request, resolved: the lines of the lock, and the environment that they make."""

    id: str
    lock: list[str]
    requirements: list[str]


class Environments:
    """The folder of environments."""

    def __init__(self, home: Path) -> None:
        self.folder = home / FOLDER
        self._count = 0

    def path(self, name: str) -> Path:
        """Where the environment of that id lies, if it does."""
        return self.folder / name

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
            return msgspec.json.decode(self._request_file(key).read_bytes(), type=Request)
        except (OSError, msgspec.MsgspecError):
            return None

    def remember(self, key: str, request: Request) -> None:
        """From now on, this request means this."""
        file = self._request_file(key)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f"tmp.{os.getpid()}.{key}")
        temporary.write_bytes(msgspec.json.encode(request))
        temporary.rename(file)

    def new_folder(self) -> Path:
        """A place to build in, on the same disk."""
        self._count += 1
        path = self.folder / f"tmp.{os.getpid()}.{self._count}"
        path.mkdir(mode=0o700, parents=True)
        return path

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

    def retire(self, name: str) -> Path:
        """Takes the name from an environment, at once; what is left is for deletion."""
        aside = self.new_folder()
        self.path(name).rename(aside / "env")
        return aside

    def touch(self, path: str) -> None:
        """It was used now."""
        with suppress(OSError):
            os.utime(Path(path) / MARKER)

    def names(self) -> list[str]:
        """The complete ones."""
        if not self.folder.is_dir():
            return []
        return sorted(path.parent.name for path in self.folder.glob(f"*/{MARKER}"))

    def rows(self) -> list[dict[str, Any]]:
        """One row each, for people."""
        return [self.row(name, facts) for name in self.names() if (facts := self.facts(name))]

    def row(self, name: str, facts: Facts) -> dict[str, Any]:
        """The facts of one, for people."""
        used = int((self.path(name) / MARKER).stat().st_mtime * 1000)
        return {
            "id": name,
            "requirements": facts.requirements,
            "lock": facts.lock,
            "python": facts.python,
            "size": self.size(name),
            "created_at_ms": facts.created_at_ms,
            "used_at_ms": used,
            "state": "ready",
        }

    def sweep(self) -> list[Path]:
        """What dead builds left behind, for deletion: their host is gone, or is this process anew."""
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.glob("tmp.*") if not _is_another_host(path.name)]

    def lock(self, key: str) -> int | None:
        """The right to build for that request: a descriptor to close afterwards. None: another has it."""
        folder = self.folder / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder / key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return None
        return fd

    def _request_file(self, key: str) -> Path:
        if not key.isalnum():
            raise ValueError(f"{key!r} is no request key")
        return self.folder / "requests" / f"{key}.json"


def environment_id(abi: str, interpreter: str, lock: Sequence[str], system: Sequence[str]) -> str:
    """32 hex digits for what will be in an environment."""
    identity = msgspec.json.encode([abi, os.path.realpath(interpreter), sorted(lock), sorted(system)])
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


def _is_another_host(name: str) -> bool:
    pid = name.split(".")[1]
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        return b"runpod_flash.host" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
