"""What a resource may bring along: network volumes, pod templates, variables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Final, TypeAlias

from runpod_flash.errors import ConfigError, call_site, shown
from runpod_flash.model.hardware import DataCenter
from runpod_flash.model.value import (
    MASK,
    Rule,
    Value,
    is_count,
    is_duration,
    is_flag,
    is_name,
    is_text,
    is_unicode,
    refusal,
    sealed,
)

DEFAULT_MOUNT_PATH: Final = "/runpod-volume"
HIGHEST_PORT: Final = 65_535


@sealed
@dataclass(frozen=True, repr=False)
class KeyValuePair(Value):
    """One variable, as the list form of `env` has it. Its repr keeps the value to itself."""

    key: str
    value: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_variable(self.key, self.value, type(self).__name__)

    def __repr__(self) -> str:
        return f"KeyValuePair(key={self.key!r}, value={None if self.value is None else MASK!r})"


Env: TypeAlias = Mapping[str, str | None] | Sequence[KeyValuePair | Mapping[str, str | None]]
"""Variables: a dict, or a list of pairs. None stands for the caller's own value at the time of the call."""


def read_env(env: Env | None, owner: str = "env") -> dict[str, str | None]:
    """The variables of either form as one new dict; a `ConfigError` names what cannot be a variable."""
    if env is None:
        return {}
    pairs = env.items() if isinstance(env, Mapping) else [_pair(item, owner) for item in _listed(env, owner)]
    for name, value in pairs:
        _check_variable(name, value, owner)
    return dict(pairs)


def _listed(env: object, owner: str) -> Sequence[Any]:
    if isinstance(env, Sequence) and not isinstance(env, str):
        return env
    raise refusal(owner, "env", env, 'a dict, or a list of {"key": …, "value": …}')


def _pair(item: Any, owner: str) -> tuple[str, str | None]:
    if isinstance(item, KeyValuePair):
        return item.key, item.value
    if isinstance(item, Mapping) and set(item) in ({"key"}, {"key", "value"}):
        return item["key"], item.get("value")
    raise refusal(owner, "env", [item], 'a dict, or a list of {"key": …, "value": …}')


def _check_variable(name: object, value: object, owner: str) -> None:
    if not isinstance(name, str) or not name or "=" in name or not is_unicode(name):
        raise ConfigError(
            f"{owner}: {shown(name)} cannot be the name of a variable",
            where=call_site(),
            why="a name must be a non-empty string without '='",
        )
    if value is not None and (not isinstance(value, str) or not is_unicode(value)):
        raise ConfigError(
            f"{owner}: the value of variable {name} is {_kind_of(value)}",
            where=call_site(),
            why="a value must be a string that other programs can read, or None for the caller's own",
            fix=f"write {name!r}: str(…)",
        )


def _kind_of(value: object) -> str:
    return "not valid Unicode without NUL" if isinstance(value, str) else f"of type {type(value).__name__}"


# ── volumes ───────────────────────────────────────────────────────────────────────────────────────


class VolumeId(str):
    """The id of a volume; unlike other strings it remembers which volume that is."""

    volume: NetworkVolume

    def __new__(cls, text: str, volume: NetworkVolume) -> VolumeId:
        made = super().__new__(cls, text)
        made.volume = volume
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _id_of, (self.volume,)


def _id_of(volume: NetworkVolume) -> str:
    return volume.id


VOLUME_NAME: Final = "a name of up to 200 bytes without '/' or line breaks, that does not begin with '.' or a blank"


def is_volume_name(value: object) -> bool:
    """Whether a volume can be called so. Its name is the name of a folder, and must not lead out of the others."""
    if not is_name(value):
        return False
    name = str(value)
    return "/" not in name and name[0] not in ". " and len(name.encode()) <= _LONGEST_NAME


def variable_of(volume: str) -> str:
    """The variable that says where a worker finds a volume: `FLASH_VOLUME_MODEL_STORAGE` for `model-storage`."""
    return "FLASH_VOLUME_" + re.sub(r"[^A-Z0-9]", "_", volume.upper())


_LONGEST_NAME: Final = 200
_SYSTEM: Final = frozenset(
    {
        *("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "proc"),
        *("root", "run", "sbin", "sys", "tmp", "usr", "var"),
    }
)
"""Folders at the top that programs need: what is in them would be hidden. Folders in them are fine, but for these."""
_KERNEL: Final = frozenset({"dev", "proc", "sys"})


def _is_mount_path(value: object) -> bool:
    if not is_name(value) or not str(value).startswith("/"):
        return False
    parts = [part for part in str(value).split("/") if part not in ("", ".")]
    return bool(parts) and ".." not in parts and parts[0] not in _KERNEL and (len(parts) > 1 or parts[0] not in _SYSTEM)


_LABEL: Final = Rule(VOLUME_NAME, lambda value: (isinstance(value, str) and not value) or is_volume_name(value))


@sealed
@dataclass(frozen=True, repr=False)
class NetworkVolume(Value):
    """Storage that outlives workers, seen by all that mount it. `size` in GB.

    Give it a name to have it made when it is first needed, or the id of one that exists.
    """

    name: str = ""
    _: KW_ONLY
    mount_path: str = DEFAULT_MOUNT_PATH
    size: int | None = None
    datacenter: DataCenter | str | None = None
    dataCenterId: DataCenter | str | None = None
    id: str = ""

    rules: ClassVar[Mapping[str, Rule]] = {
        "name": _LABEL,
        "mount_path": Rule(
            "an absolute path such as /models, without '..' and outside of what the system needs", _is_mount_path
        ),
        "size": Rule("a whole number of GB, at least 1", lambda value: is_count(value, 1)),
        "datacenter": Rule('a DataCenter, such as "EU-RO-1"', is_text),
        "dataCenterId": Rule('a DataCenter, such as "EU-RO-1"', is_text),
        "id": _LABEL,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name and not self.id:
            raise self._refuse_field("name", "a non-empty string, unless id= names a volume that exists")
        if self.datacenter and self.dataCenterId and str(self.datacenter) != str(self.dataCenterId):
            raise self._refuse_field("dataCenterId", f"the same as datacenter={self.datacenter!s}")
        object.__setattr__(self, "id", VolumeId(self.id or self.name, self))


# ── templates ─────────────────────────────────────────────────────────────────────────────────────


def _are_ports(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and None not in map(port_number, value)


def _is_json(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, (str, int, float))


def port_number(port: object) -> int | None:
    """The number of `8080`, `"8080"` or `"8080/http"`, or None if it is none."""
    if not isinstance(port, str) and not is_count(port, 1):
        return None
    digits = str(port).partition("/")[0].strip()
    number = int(digits) if digits.isdecimal() and digits.isascii() else 0
    return number if 1 <= number <= HIGHEST_PORT else None


_TEMPLATE_TEXTS: Final = ("name", "imageName", "ports", "startScript", "dockerArgs", "containerRegistryAuthId")


@sealed
@dataclass(frozen=True, repr=False)
class PodTemplate(Value):
    """The share of a machine that one worker gets, its open ports, and what only containers know.

    `memory_gb` and `cpu_count` are limits; `expose_ports` are numbers or strings of numbers.
    """

    _: KW_ONLY
    memory_gb: float | None = None
    cpu_count: float | None = None
    expose_ports: Sequence[str | int] = ()
    name: str | None = None
    imageName: str | None = None
    containerDiskInGb: int | None = None
    env: Env | None = None
    ports: str | None = None
    startScript: str | None = None
    dockerArgs: str | None = None
    advancedStart: bool | None = None
    config: Mapping[str, Any] | None = None
    containerRegistryAuthId: str | None = None

    rules: ClassVar[Mapping[str, Rule]] = {
        "memory_gb": Rule("a number of GB above 0", lambda value: is_duration(value) and value > 0),
        "cpu_count": Rule("a number above 0", lambda value: is_duration(value) and value > 0),
        "expose_ports": Rule("a list of numbers from 1 to 65535", _are_ports, 'write ["8080"]'),
        "containerDiskInGb": Rule("a whole number of GB, at least 1", lambda value: is_count(value, 1)),
        "advancedStart": Rule("True or False", is_flag),
        "config": Rule(
            "a dict of what JSON has", lambda value: isinstance(value, Mapping) and _is_json(value), "leave it out"
        ),
        **dict.fromkeys(_TEMPLATE_TEXTS, Rule("a non-empty string", is_text)),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        read_env(self.env, type(self).__name__)
