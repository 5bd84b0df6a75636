"""Every variable and `[tool.flash]` key, read in one place, each with where its value came from.

Order: environment variable, then `[tool.flash]` of the nearest pyproject.toml, then the default.
Importing reads nothing; `load()` does.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from runpod_flash.errors import ConfigError, did_you_mean, suggestion


class Provenance(NamedTuple):
    """A value and where it came from, for people: `FLASH_HOME`, `…/pyproject.toml:12 [tool.flash] env`, `default`."""

    value: Any
    source: str


@dataclass(frozen=True)
class Option:
    """One setting: its variable, its `[tool.flash]` key (if it may stand there), how it is read.

    The docstring of `parse` says what it takes.
    """

    variable: str
    key: str | None
    default: Any
    parse: Callable[[str], Any]
    help: str


def _text(raw: str) -> str:
    """text on one line"""
    if not raw.strip() or not raw.isprintable():
        raise ValueError("it must be text on one line")
    return raw


def _folder(raw: str) -> str:
    """a folder"""
    if not os.path.isabs(os.path.expanduser(raw)) and raw.startswith("~"):
        raise ValueError("there is no user of that name")
    try:
        raw.encode()
    except UnicodeEncodeError:  # our programs tell each other of it in JSON
        raise ValueError("its name has bytes that are no UTF-8") from None
    return raw


def _seconds(raw: str) -> float:
    """seconds, 0 or more"""
    try:
        value = float(raw)
    except ValueError:
        value = -1
    if not 0 <= value < math.inf:
        raise ValueError("it must be a number of seconds, 0 or more")
    return value


def _bytes(raw: str) -> int:
    """bytes, or a size such as 500MB"""
    number = raw.strip().lower().rstrip("ib")
    unit = _UNITS.get(number[-1:])
    try:
        value = int(float(number[:-1] if unit else number) * (unit or 1))
    except (ValueError, OverflowError):
        value = 0
    if value < 1:
        raise ValueError("it must be a size of at least one byte, such as 500MB or 2G")
    return value


def _port(raw: str) -> int:
    """a port, or 0"""
    if not raw.isdecimal() or int(raw) >= 1 << 16:
        raise ValueError("it must be a number from 0 to 65535")
    return int(raw)


_UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _flag(raw: str) -> bool:
    """1 or 0"""
    if raw.lower() in {"1", "true", "yes", "on"}:
        return True
    if raw.lower() in {"", "0", "false", "no", "off"}:
        return False
    raise ValueError("it must be 1 or 0")


def _index(raw: str) -> str:
    """the address of a package index, such as https://mirror.example/simple"""
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", raw):
        raise ValueError("it must be the address of a package index, such as https://mirror.example/simple")
    return raw


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"it must be {words}.{did_you_mean(raw, choices)}")
        return raw

    words = parse.__doc__ = " or ".join(choices)
    return parse


OPTIONS: Final[dict[str, Option]] = {
    "home": Option("FLASH_HOME", None, None, _folder, "folder of store, environments and logs"),
    "engine": Option(
        "FLASH_ENGINE",
        None,
        "daemon",
        _one_of("daemon", "child"),
        "daemon: shared; child: ends with the program",
    ),
    "durability": Option(
        "FLASH_DURABILITY",
        "durability",
        "process",
        _one_of("process", "power"),
        "what an acknowledged job survives",
    ),
    "app": Option("FLASH_APP", "app", None, _text, "name of the app, instead of the project's"),
    "env": Option("FLASH_ENV", "env", "dev", _text, "name of the deployment environment"),
    "local_raises": Option(
        "FLASH_LOCAL_RAISES", None, False, _flag, "local=True raises instead of giving a failed JobOutput"
    ),
    "idle_stop": Option(
        "FLASH_IDLE_STOP",
        "idle_stop",
        600.0,
        _seconds,
        "seconds without work and clients after which the engine stops",
    ),
    "lease": Option("FLASH_LEASE", None, 30.0, _seconds, "seconds without a beat after which a host counts as lost"),
    "retention_awaited": Option(
        "FLASH_RETENTION_AWAITED",
        "retention_awaited",
        3600.0,
        _seconds,
        "seconds that results of awaited calls are kept",
    ),
    "retention_spawned": Option(
        "FLASH_RETENTION_SPAWNED",
        "retention_spawned",
        86400.0,
        _seconds,
        "seconds that results of spawned jobs are kept",
    ),
    "max_value": Option(
        "FLASH_MAX_VALUE",
        "max_value",
        8 << 30,
        _bytes,
        "size that the arguments of a call, or its result, may have, such as 500MB",
    ),
    "gateway_port": Option(
        "FLASH_GATEWAY_PORT",
        None,
        0,
        _port,
        "port of the engine's HTTP gateway; 0: one that it chooses and keeps",
    ),
    "host": Option("FLASH_HOST", None, "localhost", _text, "where `flash run` serves"),
    "port": Option("FLASH_PORT", None, 8888, _port, "port of `flash run`; the next free one if it is taken"),
    "gateway_body": Option(
        "FLASH_GATEWAY_BODY", None, 64 << 20, _bytes, "size that the body of an HTTP request may have, such as 200MB"
    ),
    "run_body": Option(
        "FLASH_RUN_BODY", None, 10 << 20, _bytes, "size of a job of `/run`, or of its output (64 KiB more are let pass)"
    ),
    "runsync_body": Option("FLASH_RUNSYNC_BODY", None, 20 << 20, _bytes, "the same of a job of `/runsync`"),
    "webhook_pause": Option(
        "FLASH_WEBHOOK_PAUSE",
        None,
        10.0,
        _seconds,
        "seconds until a webhook that was not taken is tried again; doubled each time",
    ),
    "hardware": Option(
        "FLASH_HARDWARE",
        "hardware",
        "nearest",
        _one_of("nearest", "exact"),
        "what to do when the machine lacks what was asked for",
    ),
    "scope": Option(
        "FLASH_SCOPE",
        "scope",
        "lenient",
        _one_of("lenient", "strict"),
        "lenient: what can travel with a function does; strict: it may use nothing from outside itself",
    ),
    "mirror": Option(
        "FLASH_MIRROR",
        "mirror",
        None,
        _index,
        "package index that functions with accelerate_downloads=True fetch from first",
    ),
    "debug": Option("FLASH_DEBUG", None, False, _flag, "tracebacks of our own, for people who work on Flash"),
}

INHERITED: Final = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy",
    "https_proxy", "all_proxy", "no_proxy", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME", "LOG_LEVEL",
    "LD_LIBRARY_PATH", "CUDA_HOME", "XDG_CACHE_HOME",
)  # fmt: skip
"""Variables of the caller that its workers see; everything else stays with the caller."""


@dataclass(frozen=True)
class Settings:
    """All settings of one program; `provenance` says where each came from."""

    home: Path
    engine: str
    durability: str
    app: str | None
    env: str
    local_raises: bool
    idle_stop: float
    lease: float
    retention_awaited: float
    retention_spawned: float
    max_value: int
    gateway_port: int
    gateway_body: int
    run_body: int
    runsync_body: int
    host: str
    port: int
    webhook_pause: float
    hardware: str
    scope: str
    mirror: str | None
    debug: bool
    provenance: Mapping[str, Provenance]


def load(environ: Mapping[str, str] | None = None, project: Path | None = None) -> Settings:
    """Reads everything now; ConfigError names the variable or key, its value and the rule."""
    environ = os.environ if environ is None else environ
    table = _tool_table(project)
    found = {name: _read(option, environ, table) for name, option in OPTIONS.items()}
    if found["home"].value is None:
        found["home"] = Provenance(_default_home(environ), "default")
    values = {name: item.value for name, item in found.items()}
    values["home"] = Path(values["home"]).expanduser().absolute()
    return Settings(**values, provenance=found)


def misspelled(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables that are no setting but look like one, and the one that is probably meant."""
    known = [option.variable for option in OPTIONS.values()]
    names = [name for name in (os.environ if environ is None else environ) if name.upper().startswith("FLASH_")]
    return {name: meant for name in names if name not in known and (meant := suggestion(name, known, cutoff=0.85))}


def inherited(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's variables that its workers inherit."""
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in environ if name in INHERITED or name.startswith("LC_")}


def project_root(start: Path | None = None) -> Path | None:
    """The nearest folder upwards with a pyproject.toml or .git that this user may look into, or None."""
    try:
        here = (start or Path.cwd()).absolute()
    except OSError:  # the current folder was deleted
        return None
    for folder in (here, *here.parents):
        # Not by Path, which raises where a folder may not be looked into.
        if os.path.isfile(folder / "pyproject.toml") or os.path.exists(folder / ".git"):
            return folder
    return None


@dataclass(frozen=True)
class _Table:
    """The table [tool.flash] of a pyproject.toml, and where its keys stand in it."""

    values: Mapping[str, Any]
    file: Path | None = None
    text: str = ""

    def where(self, key: str) -> str:
        """Such as `/project/pyproject.toml:12`; without the line where TOML has another way to write it."""
        pattern = rf"^\s*\[\s*tool\s*\.\s*flash\s*\](?:(?!^\s*\[).)*?^\s*[\"']?{re.escape(key)}[\"']?\s*="
        found = re.search(pattern, self.text, re.MULTILINE | re.DOTALL)
        return f"{self.file}:{self.text.count(chr(10), 0, found.end()) + 1}" if found else str(self.file)


def _read(option: Option, environ: Mapping[str, str], table: _Table) -> Provenance:
    if raw := environ.get(option.variable, ""):
        return Provenance(_parse(option, raw, option.variable, ""), option.variable)
    if option.key is not None and option.key in table.values:
        where, raw = table.where(option.key), str(table.values[option.key])
        value = _parse(option, raw, f"[tool.flash] {option.key}", where)
        return Provenance(value, f"{where} [tool.flash] {option.key}")
    return Provenance(option.default, "default")


def _parse(option: Option, raw: str, source: str, where: str) -> Any:
    try:
        return option.parse(raw)
    except ValueError as error:
        raise ConfigError(
            f"{source} = {raw!r} cannot be used",
            where=where or "the environment of this program",
            why=str(error),
            fix=f"set {option.variable if not where else 'it'} to something else ({option.help}), or leave it out",
        ) from None


def _tool_table(project: Path | None) -> _Table:
    root = project or project_root()
    file = root / "pyproject.toml" if root else None
    if file is None or not file.is_file():
        return _Table({})
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  (only where a pyproject.toml is there)
    else:
        import tomli as tomllib  # noqa: PLC0415
    try:
        text = file.read_text(encoding="utf-8")
        tool = tomllib.loads(text).get("tool", {})
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} cannot be read",
            where=str(file),
            why=str(error),
            fix="mend the file: its table [tool.flash] may hold settings",
        ) from None
    table = _Table(tool.get("flash", {}) if isinstance(tool, dict) else {}, file, text)
    _check_keys(table)
    return table


def _check_keys(table: _Table) -> None:
    known = sorted(option.key for option in OPTIONS.values() if option.key)
    if not isinstance(table.values, dict):
        raise ConfigError(
            f"tool.flash = {table.values!r} cannot be used",
            where=str(table.file),
            why="it must be a table, with a setting on each line",
            fix=f"write [tool.flash], and below it {known[0]} = …",
        )
    for key in table.values:
        if key not in known:
            variable = next((option.variable for name, option in OPTIONS.items() if name == key), None)
            instead = f"{key} is set by the variable {variable} alone; " if variable else ""
            raise ConfigError(
                f"[tool.flash] has no key {key!r}.{did_you_mean(key, known)}",
                where=table.where(key),
                why=f"{instead}its keys are {', '.join(known)}",
                fix="change the key, or remove the line",
            )


def _default_home(environ: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/flash").expanduser()
    data = environ.get("XDG_DATA_HOME", "")
    return Path(data) / "flash" if os.path.isabs(data) else Path("~/.local/share/flash").expanduser()
