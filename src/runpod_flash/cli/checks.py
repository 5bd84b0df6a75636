"""What `flash doctor` looks at in this program: our installation, the settings, the engine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from runpod_flash import settings
from runpod_flash._version import __version__
from runpod_flash.errors import ConfigError, FlashError
from runpod_flash.wire import kinds, rundir
from runpod_flash.wire.check import OK, PROBLEM, WARNING, Check

_SECRET: Final = re.compile(r"KEY|TOKEN|SECRET|PASSW", re.IGNORECASE)
_CREDENTIALS: Final = re.compile(r"(://)[^/@\s]+@")
LOCK: Final = "engine.lock"


def home() -> Path:
    """The data folder, also where some other setting cannot be read; else the usual one."""
    with contextlib.suppress(ConfigError):
        return settings.load().home
    environ = {name: os.environ[name] for name in ("FLASH_HOME", "XDG_DATA_HOME") if name in os.environ}
    with contextlib.suppress(ConfigError):
        return settings.load(environ, Path("/")).home
    return settings.load({}, Path("/")).home


def all_checks() -> Iterator[Check]:
    """Each by itself: one that fails says so."""
    probes: dict[str, Callable[[], Iterator[Check]]] = {
        "flash": _installation,
        "settings": _settings,
        ".env": _env_file,
        "engine": _engine,
    }
    for name, probe in probes.items():
        try:
            yield from list(probe())
        except Exception as error:  # noqa: BLE001 - a page about what is odd must survive it
            yield Check(name, WARNING, f"it cannot be told: {type(error).__name__}: {error}")


def settings_rows() -> list[dict[str, str]]:
    """Every setting with its value and where that came from; then what the caller says of indexes and proxies."""
    try:
        provenance = settings.load().provenance
    except ConfigError:
        provenance = {}
    found = [(settings.OPTIONS[name].variable, *item) for name, item in provenance.items()]
    found += [(name, os.environ[name], name) for name in sorted(_surroundings()) if os.environ.get(name)]
    return [{"name": name, "value": _masked(name, value), "source": source} for name, value, source in found]


def _surroundings() -> set[str]:
    from runpod_flash.client.environment import INDEX_VARIABLES

    proxies = {name for name in settings.INHERITED if name.lower().endswith("_proxy")}
    return {*INDEX_VARIABLES, *proxies, "XDG_RUNTIME_DIR", "XDG_DATA_HOME"}


def _masked(name: str, value: object) -> str:
    if value is None:
        return ""
    return "•••" if _SECRET.search(name) else _CREDENTIALS.sub(r"\1•••@", str(value))


# ── checks ────────────────────────────────────────────────────────────────────────────────────────


def _installation() -> Iterator[Check]:
    from runpod_flash import installation

    package = Path(__file__).parents[1]
    facts = {"version": __version__, "path": str(package), "from": installation.origin()}
    yield Check("flash", OK, f"version {__version__}, {package}", facts=facts)
    for claim in installation.claims():
        yield Check("flash", PROBLEM, f"{claim.what}: {claim.why}", claim.fix, {"distribution": claim.distribution})


def _settings() -> Iterator[Check]:
    try:
        found = settings.load()
    except ConfigError as error:
        why = " ".join(filter(None, (error.what, error.why, f"({error.where})" if error.where else "")))
        yield Check("settings", PROBLEM, why, error.fix or "")
    else:
        chosen = [item.source for item in found.provenance.values() if item.source != "default"]
        told = f"{', '.join(chosen)} set, the rest as by default" if chosen else "all as by default"
        yield Check("settings", OK, told)
    for name, meant in settings.misspelled().items():
        yield Check("settings", WARNING, f"the variable {name} means nothing; {meant} does", f"rename it to {meant}")


def _env_file() -> Iterator[Check]:
    """What calls from here would read; its values are shown to nobody."""
    from runpod_flash.client import environment

    file = environment.project_folder() / ".env"
    if not file.is_file():
        yield Check(".env", OK, f"none ({file})", facts={"path": str(file), "names": []})
        return
    try:
        names = sorted(environment.dotenv(file))
    except FlashError as error:
        yield Check(".env", PROBLEM, f"{error.what}: {error.why}", error.fix or "")
        return
    facts = {"path": str(file), "names": names}
    if stat.S_IMODE(file.stat().st_mode) & 0o004:
        yield Check(".env", WARNING, f"{file} can be read by everybody on this machine", f"chmod 600 {file}", facts)
    else:
        yield Check(".env", OK, f"{file} ({len(names)} variables)", facts=facts)


def _engine() -> Iterator[Check]:
    """The one of our data folder: is there one, does it answer, and if not, what is left of one."""
    from runpod_flash.cli.connection import connect_running

    try:
        link = connect_running()
    except ConfigError:
        yield Check("engine", WARNING, "not asked: the settings cannot be read", "mend them first")
        return
    except FlashError as error:
        yield Check("engine", PROBLEM, " ".join(filter(None, (error.what, error.why))), error.fix or "")
        return
    if link is None:
        yield from _no_engine(home())
        return
    with link:
        facts = link.status()
    told = f"process {facts['pid']}, version {facts['version']}, protocol {facts.get('protocol', 'unknown')}"
    if facts["version"] != __version__:
        fix = "flash engine restart: jobs and workers go on"
        yield Check("engine", WARNING, f"{told}; this program is version {__version__}", fix, facts)
    else:
        yield Check("engine", OK, told, facts=facts)
    host = facts.get("host")
    if host and not host.get("connected", True):
        yield Check("host", WARNING, f"process {host['pid']} is not connected", "if it stays so: flash engine restart")
    else:
        yield Check("host", OK, f"process {host['pid']}" if host else "none: the first call starts it")


def _no_engine(folder: Path) -> Iterator[Check]:
    facts = {"running": False, "protocol": kinds.PROTO_MAX, "socket": str(rundir.socket_path(folder))}
    for place in (folder, rundir.rundir(folder)):
        if holder := _lock_holder(place / LOCK):
            pid, where = holder.get("pid", "unknown"), holder.get("host", "an unknown machine")
            doing = f" ({holder['doing']})" if holder.get("doing") else ""
            here = where == socket.gethostname()
            fix = f"wait until it is done, or end it: kill {pid}" if here else f"end it on {where}"
            what = f"none answers, but process {pid} on {where} holds {place / LOCK}{doing}"
            yield Check("engine", PROBLEM, what, fix, facts)
            return
    left = [path for path in (rundir.socket_path(folder), folder / rundir.ENGINE_FILE) if path.exists()]
    note = f"; a dead one left {', '.join(map(str, left))}, which the next one replaces" if left else ""
    yield Check("engine", OK, f"not running: the first call starts it{note}", facts=facts)


def _lock_holder(path: Path) -> dict[str, Any]:
    """What whoever holds a lock wrote into it; {} if nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return {}
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            found = json.loads(os.read(fd, 4096))
        except ValueError:
            found = {}
        return found if isinstance(found, dict) and found else {"pid": "unknown"}
    except OSError:  # a file system without locks
        return {}
    finally:
        os.close(fd)
    return {}
