"""The volumes that a pool mounts: there, or made, before anybody is told that it is declared."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from runpod_flash.errors import ConfigError, EngineRefused
from runpod_flash.model.endpoint import Mount
from runpod_flash.wire.volumes import Volume


def take_volumes(home: Path, name: str, mounts: Iterable[Mount]) -> None:
    """Makes the volumes that are declared; ConfigError for one that is only named, and is not there."""
    for mount in mounts:
        volume = _volume(home, mount)
        if not mount.make and not volume.exists:
            raise ConfigError(
                f"endpoint {name!r} mounts the volume {mount.volume!r}, and there is none",
                why="an id only names a volume that exists; nothing says that a new one is meant",
                fix=f"flash volume create {shlex.quote(mount.volume)}, or declare NetworkVolume({mount.volume!r})",
            )
        try:
            volume.ensure(mount.size_gb)
        except OSError as error:
            raise EngineRefused(
                f"the volume {mount.volume!r} cannot be made",
                why=f"{volume.folder}: {error.strerror}",
                fix="see the disk of the data folder: flash doctor",
            ) from error


def _volume(home: Path, mount: Mount) -> Volume:
    try:
        return Volume(home, mount.volume)
    except ValueError as error:
        raise ConfigError(f"{error}", why="it is the name of a folder, which must not lead out of the others") from None
