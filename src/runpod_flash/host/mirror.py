"""Packages from a mirror: another index that is asked first, for the very files that the usual one has.

What is installed was resolved without it. Its files have to have the hashes that the usual index tells, and nothing is
built from source here, so a mirror can make a download faster and nothing else. Whatever is wrong with it, the usual
index does the work.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Final

from runpod_flash.host.commands import Command, Result
from runpod_flash.model.endpoint import without_credentials

DOWNLOADS: Final = 100
"""Files that are fetched at once: twice what uv does by itself."""
SYSTEM_DOWNLOADS: Final = 4
"""The same of system packages, whose servers are for everybody."""
_PATIENCE_S: Final = 3
_KEEPS_TO_ITSELF: Final = ("UV_OFFLINE", "UV_NO_INDEX")
# Any answer will do but one that tells of trouble: whether it has the package is for uv to find out.
_ASK: Final = f"""
import sys, urllib.error, urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout={_PATIENCE_S}).close()
except urllib.error.HTTPError as error:
    error.close()
    sys.exit(f"HTTP {{error.code}}" if error.code >= 500 else 0)
except Exception as error:
    sys.exit(str(getattr(error, "reason", error)))
"""

Run = Callable[..., Generator["Command", "Result | None", "Result"]]
"""Runs uv with these arguments; `more` are variables beyond the usual."""


def at_once() -> dict[str, str]:
    """Variables by which uv does more at the same time."""
    return {"UV_CONCURRENT_DOWNLOADS": str(DOWNLOADS), "UV_CONCURRENT_INSTALLS": str(2 * (os.cpu_count() or 1))}


class Mirror:
    """A mirror, for one build. `variables` are those of the build, `run` runs uv there, `say` tells the caller."""

    def __init__(self, url: str, folder: Path, variables: Mapping[str, str], run: Run, say: Callable[[str], None]):
        self._url = url
        self._shown = without_credentials(url)
        self._folder = folder
        self._variables = variables
        self._run = run
        self._say = say

    def install(self, python: str, lock: list[str]) -> Generator[Command, Result | None, bool]:
        """Installs what is in the file `lock`; whether that is done."""
        if any(self._variables.get(name) for name in _KEEPS_TO_ITSELF):
            return False
        if why := (yield from self._unreachable(lock)):
            self._say(f"the mirror {self._shown} does not answer ({why}): the usual index is asked")
            return False
        hashed = yield from self._run("pip", "compile", "lock", "--no-deps", "--generate-hashes", "--no-header",
                                      "--no-annotate", "--no-strip-extras", "--python", python)  # fmt: skip
        if hashed.code:
            return False
        (self._folder / "hashed").write_text(hashed.out, encoding="utf-8")
        indexes = f"{self._url} {self._variables.get('UV_INDEX', '')}".strip()
        result = yield from self._run(
            "pip", "install", "--python", python, "--no-deps", "--no-build", "--require-hashes",
            "--requirements", "hashed", more={"UV_INDEX": indexes, "UV_INDEX_STRATEGY": "unsafe-best-match"},
        )  # fmt: skip
        if result.code == 0:
            self._say(f"packages came from the mirror {self._shown}, where it has them")
            return True
        self._say(f"the mirror {self._shown} does not serve ({_reason(result.err)}): the usual index is asked")
        return False

    def _unreachable(self, lock: list[str]) -> Generator[Command, Result | None, str]:
        """Why it cannot be asked; "" if it can."""
        name = lock[0].partition("=")[0].partition("[")[0].strip() or "pip"
        environ = {name: value for name, value in self._variables.items() if name.lower().endswith("_proxy")}
        address = f"{self._url.rstrip('/')}/{name}/"
        ask = [sys.executable, "-I", "-S", "-c", _ASK, without_credentials(address)]
        result = yield Command(ask, {"PATH": os.defpath, **environ}, self._folder)
        assert result is not None
        return result.err.strip() if result.code else ""


def _reason(text: str) -> str:
    lines = [line.strip(" ×│├╰─▶") for line in text.splitlines()]
    return next((line[:200] for line in reversed(lines) if line), "uv ended without a word")
