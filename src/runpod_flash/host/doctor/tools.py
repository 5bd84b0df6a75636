"""Programs and devices that workers and their environments need."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

from runpod_flash.host import machine
from runpod_flash.wire.check import OK, PROBLEM, WARNING, Check

_SECONDS: Final = 10.0
_MINORS: Final = range(10, 15)
# What a zygote does: fork without having threads, and hand a descriptor to another process.
_FORK: Final = """
import os, socket
ours, theirs = socket.socketpair()
child = os.fork()
if not child:
    socket.send_fds(theirs, [b"x"], [0])
    os._exit(0)
said, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
assert os.waitpid(child, 0)[1] == 0 and said == b"x" and len(descriptors) == 1
"""


def pythons() -> Iterator[Check]:
    """The interpreter that we run on, and those that a project could choose."""
    version = platform.python_version()
    yield Check("python", OK, f"{version}, {sys.executable}", facts={"version": version, "path": sys.executable})
    found = {f"3.{minor}": shutil.which(f"python3.{minor}") for minor in _MINORS}
    others = {name: path for name, path in found.items() if path and _runs(path)}
    told = ", ".join(f"{name} ({path})" for name, path in others.items()) or "none"
    yield Check("other pythons", OK, told, facts=others)


def _runs(python: str) -> bool:
    """Version managers leave names on the path behind which there is nothing."""
    try:
        return subprocess.run([python, "-V"], capture_output=True, timeout=_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def uv() -> Iterator[Check]:
    """The program that builds environments."""
    found = _uv()
    if not found:
        fix = f"{sys.executable} -m pip install uv"
        yield Check("uv", PROBLEM, "uv is not there, and it builds the environments of functions", fix)
        return
    said = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=False)
    if said.returncode:
        yield Check("uv", PROBLEM, f"{found} does not run: {said.stderr.strip()[:200]}", "install it again")
    else:
        yield Check("uv", OK, f"{said.stdout.strip()}, {found}", facts={"path": found})


def _uv() -> str | None:
    try:
        import uv as package  # noqa: PLC0415 - it may not be there: that is what is asked

        return str(package.find_uv_bin())
    except (ImportError, FileNotFoundError):
        return shutil.which("uv")


def graphics_cards() -> Iterator[Check]:
    """NVIDIA cards, and whether their driver answers."""
    cards, trouble = machine.find_gpus()
    if trouble:
        yield Check("graphics cards", WARNING, trouble, "see what nvidia-smi says; CPU functions run all the same")
        return
    told = ", ".join(f"{name} ({memory / 1024:.0f} GiB)" for _, name, memory in cards)
    facts = {"cards": [{"index": index, "name": name, "memory_mb": memory} for index, name, memory in cards]}
    yield Check("graphics cards", OK, told or "none (no nvidia-smi)", facts=facts)


def fork() -> Iterator[Check]:
    """Whether workers can be forked from a warm interpreter; without that they start more slowly."""
    if sys.platform == "darwin":
        yield Check("fork", OK, "not safe on macOS: each worker is started as a program of its own, in some 100 ms")
        return
    began = time.monotonic()
    command = [sys.executable, "-I", "-S", "-c", _FORK]
    said = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if said.returncode:
        why = said.stderr.strip().splitlines()[-1:] or [f"exit code {said.returncode}"]
        fix = "look at the limits of processes (ulimit -u) and of the container"
        yield Check("fork", PROBLEM, f"a process cannot fork and hand over descriptors: {why[0]}", fix)
    else:
        took = (time.monotonic() - began) * 1000
        yield Check("fork", OK, f"workers can be forked ({took:.0f} ms with a start of Python)")


def package_index() -> Iterator[Check]:
    """Whether an environment could be resolved now, with the caller's own index settings."""
    found = _uv()
    if not found:
        yield Check("package index", WARNING, "not asked: there is no uv")
        return
    command = [found, "pip", "compile", "--quiet", "--no-header", "--no-cache", "--python", sys.executable, "-"]
    began = time.monotonic()
    said = subprocess.run(
        command, input="pip\n", capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ)
    )
    if said.returncode:
        why = " ".join(said.stderr.split())[:300]
        fix = "look at the network, at proxies (HTTPS_PROXY) and at the index that uv is set to (UV_DEFAULT_INDEX)"
        yield Check("package index", PROBLEM, f"it does not answer: {why}", fix)
    else:
        yield Check("package index", OK, f"it answers ({time.monotonic() - began:.1f} s for one package)")
