"""Every variable and `[tool.flash]` key, read in one place, each with where its value came from.

Order: environment variable, then `[tool.flash]` of the nearest pyproject.toml, then the default.
Importing reads nothing; `load()` does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from runpod_flash.errors import ConfigError, did_you_mean


class Provenance(NamedTuple):
    """Where a value came from, for people: `FLASH_HOME`, `pyproject.toml [tool.flash] home`, `default`."""

    value: Any
    source: str


@dataclass(frozen=True)
class Option:
    """One setting: its variable, its `[tool.flash]` key (if it may stand there), how it is read."""

    variable: str
    key: str | None
    default: Any
    parse: Callable[[str], Any]
    help: str


def _text(raw: str) -> str:
    return raw


def _seconds(raw: str) -> float:
    value = float(raw)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _flag(raw: str) -> bool:
    if raw.lower() in {"1", "true", "yes", "on"}:
        return True
    if raw.lower() in {"", "0", "false", "no", "off"}:
        return False
    raise ValueError("must be 1 or 0")


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(f"must be {' or '.join(choices)}{did_you_mean(raw, choices)}")
        return raw

    return parse


OPTIONS: Final[dict[str, Option]] = {
    "home": Option("FLASH_HOME", None, None, _text, "folder of store, environments and logs"),
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
    "hardware": Option(
        "FLASH_HARDWARE",
        "hardware",
        "nearest",
        _one_of("nearest", "exact"),
        "what to do when the machine lacks what was asked for",
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
    hardware: str
    debug: bool
    provenance: Mapping[str, Provenance]


def load(environ: Mapping[str, str] | None = None, project: Path | None = None) -> Settings:
    """Reads everything now; ConfigError names the variable or key, its value and the rule."""
    environ = os.environ if environ is None else environ
    table, file = _tool_table(project)
    found = {name: _read(name, option, environ, table, file) for name, option in OPTIONS.items()}
    if found["home"].value is None:
        found["home"] = Provenance(_default_home(environ), "default")
    values = {name: item.value for name, item in found.items()}
    values["home"] = Path(values["home"]).expanduser().absolute()
    return Settings(**values, provenance=found)


def inherited(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's variables that its workers inherit."""
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in environ if name in INHERITED or name.startswith("LC_")}


def project_root(start: Path | None = None) -> Path | None:
    """The nearest folder upwards with a pyproject.toml or .git, or None."""
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder
    return None


def _read(
    name: str, option: Option, environ: Mapping[str, str], table: Mapping[str, Any], file: Path | None
) -> Provenance:
    if raw := environ.get(option.variable, ""):
        return Provenance(_parse(option, raw, option.variable), option.variable)
    if option.key is not None and option.key in table:
        source = f"{file} [tool.flash] {option.key}"
        return Provenance(_parse(option, str(table[option.key]), source), source)
    return Provenance(option.default, "default")


def _parse(option: Option, raw: str, source: str) -> Any:
    try:
        return option.parse(raw)
    except ValueError as error:
        raise ConfigError(
            f"{source} = {raw!r} cannot be used",
            why=str(error),
            fix=f"set {option.variable} to something else ({option.help}), or leave it out",
        ) from None


def _tool_table(project: Path | None) -> tuple[Mapping[str, Any], Path | None]:
    root = project or project_root()
    file = root / "pyproject.toml" if root else None
    if file is None or not file.is_file():
        return {}, None
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415  (only where a pyproject.toml is there)
    else:
        import tomli as tomllib  # noqa: PLC0415
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("flash", {})
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read", why=str(error), fix="mend the file") from None
    known = {option.key for option in OPTIONS.values() if option.key}
    for key in table:
        if key not in known:
            raise ConfigError(
                f"{file}: [tool.flash] has no key {key!r}",
                why=f"known keys: {', '.join(sorted(known))}",
                fix=f"remove the key{did_you_mean(key, known)}",
            )
    return table, file


def _default_home(environ: Mapping[str, str]) -> Path:
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/flash").expanduser()
    data = environ.get("XDG_DATA_HOME", "")
    return Path(data) / "flash" if os.path.isabs(data) else Path("~/.local/share/flash").expanduser()
