"""What a resource may bring along: network volumes, pod templates, variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Final, TypeAlias

from runpod_flash.errors import ConfigError, call_site
from runpod_flash.model.hardware import DataCenter
from runpod_flash.model.value import MASK, Value, is_count, is_duration, is_text, refusal, sealed

DEFAULT_MOUNT_PATH: Final = "/runpod-volume"
HIGHEST_PORT: Final = 65_535


@dataclass(frozen=True)
class KeyValuePair:
    """One variable, as the list form of `env` has it."""

    key: str
    value: str | None = None

    def __repr__(self) -> str:
        return f"KeyValuePair(key={self.key!r}, value={None if self.value is None else MASK!r})"


Env: TypeAlias = Mapping[str, str | None] | Sequence[KeyValuePair | Mapping[str, str | None]]
"""Variables: a dict, or a list of pairs. None stands for the caller's own value at the time of the call."""


def read_env(env: Env | None, owner: str = "env") -> dict[str, str | None]:
    """The variables of either form as one new dict; a `ConfigError` names what cannot be a variable."""
    if env is None:
        return {}
    pairs = env.items() if isinstance(env, Mapping) else [_pair(item, owner) for item in _listed(env, owner)]
    return {name: value for name, value in pairs if _is_variable(name, value, owner)}


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


def _is_variable(name: object, value: object, owner: str) -> bool:
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ConfigError(
            f"{owner}: {name!r} cannot be the name of a variable",
            where=call_site(),
            why="a name must be a non-empty string without '='",
        )
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise ConfigError(
            f"{owner}: the value of variable {name} is of type {type(value).__name__}",
            where=call_site(),
            why="a value must be a string without NUL, or None for the caller's own",
            fix=f"write {name!r}: str(…)",
        )
    return True


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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name and not self.id:
            raise self._refuse_field("name", "a non-empty string, unless id= names a volume that exists")
        if not is_text(self.mount_path) or not self.mount_path.startswith("/") or self.mount_path == "/":
            raise self._refuse_field("mount_path", "an absolute path below /, such as /models")
        if self.size is not None and not is_count(self.size, 1):
            raise self._refuse_field("size", "a whole number of GB, at least 1")
        if self.datacenter and self.dataCenterId and str(self.datacenter) != str(self.dataCenterId):
            raise self._refuse_field("dataCenterId", f"the same as datacenter={self.datacenter!s}")
        object.__setattr__(self, "id", VolumeId(self.id or self.name, self))


# ── templates ─────────────────────────────────────────────────────────────────────────────────────


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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("memory_gb", "cpu_count"):
            value = getattr(self, name)
            if value is not None and not (is_duration(value) and value > 0):
                raise self._refuse_field(name, "a number above 0")
        if self.containerDiskInGb is not None and not is_count(self.containerDiskInGb, 1):
            raise self._refuse_field("containerDiskInGb", "a whole number of GB, at least 1")
        if isinstance(self.expose_ports, str) or None in [port_number(port) for port in self.expose_ports]:
            raise self._refuse_field("expose_ports", "a list of numbers from 1 to 65535", 'write ["8080"]')
        read_env(self.env, type(self).__name__)


def port_number(port: object) -> int | None:
    """The number of `8080`, `"8080"` or `"8080/http"`, or None if it is none."""
    digits = str(port).partition("/")[0].strip()
    number = int(digits) if digits.isdecimal() and digits.isascii() else 0
    return number if 1 <= number <= HIGHEST_PORT else None
