"""uv, which resolves and installs packages: what it sees of the caller's variables, and what its words mean."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

_ERROR_LENGTH = 4000
_NETWORK = re.compile(
    r"dns error|failed to lookup address|error sending request|could not connect|connection (refused|reset)"
    r"|operation timed out|network is unreachable|tcp connect error",
    re.IGNORECASE,
)
_DISABLED = re.compile(r"network was disabled|network connectivity is disabled", re.IGNORECASE)
_NOISE = re.compile(
    r"^(Using |Resolved |Prepared |Installed |Downloading | Downloaded |Creating virtual|Activate with)"
)


def python_of(abi: str) -> str:
    """`3.11` of `cpython-311-x86_64-linux-gnu`."""
    found = re.search(r"\b(?:cpython|pypy)-?(\d)(\d+)", abi)
    return f"{found[1]}.{found[2]}" if found else ""


def uv_environment(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """What uv sees: the caller's paths, proxies, certificates and indexes, and nothing else of anybody's."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env |= variables
    env |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
    home = Path(env.get("HOME") or "/")
    cache = env.get("XDG_CACHE_HOME") or home / ".cache"
    if "UV_CACHE_DIR" not in env and not _can_write(Path(cache) / "uv"):
        env["UV_CACHE_DIR"] = str(folder.parent / "cache" / "uv")
    return env


def explain(stderr: str, folder: Path) -> str:
    """uv's own words about a failure, with what they mean put first where that is not plain."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip() and not _NOISE.match(line)]
    start = next((at for at, line in enumerate(lines) if is_error(line)), 0)
    text = "\n".join(lines[start:])[-_ERROR_LENGTH:].strip() or "uv ended without a word"
    if "No space left on device" in text or "os error 28" in text:
        return f"the disk is full where environments are built ({folder}) or packages are cached:\n{text}"
    if "invalid peer certificate" in text:
        return f"the package index shows a certificate that is not trusted here (SSL_CERT_FILE names others):\n{text}"
    if _DISABLED.search(text):
        fix = _fix("unset UV_OFFLINE once")
        return f"not all is in the cache, and the network is not to be used (UV_OFFLINE):\n{text}\n{fix}"
    if _NETWORK.search(text):
        fix = _fix("see what can be reached: flash doctor --online")
        return f"the package index cannot be reached, and not all is in the cache:\n{text}\n{fix}"
    return text


def is_error(line: str) -> bool:
    """Whether uv begins to say here why it failed; that is the end of what it says."""
    return re.match(r"\s*(error|×)", line) is not None


def _fix(words: str) -> str:
    return f"  fix:   {words}"


def version_in(config: Path) -> str:
    """The version of Python that a virtual environment says it has."""
    for line in config.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition("=")
        if name.strip() in ("version_info", "version"):
            return value.strip()
    return ""


def _can_write(path: Path) -> bool:
    while not path.exists():
        path = path.parent
    return os.access(path, os.W_OK)
