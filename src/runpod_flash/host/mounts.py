"""Volumes for one worker: made, held while it lives, and what it has to be told so that it sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runpod_flash.model.endpoint import Mount
from runpod_flash.model.volumes import DEFAULT_MOUNT_PATH, variable_of
from runpod_flash.wire.volumes import FOLDER, Volume


@dataclass(frozen=True)
class View:
    """What a worker sees of volumes: a part of its order, and variables. Nothing of both without volumes."""

    order: Mapping[str, Any]
    variables: Mapping[str, str]


def prepare(home: Path, mounts: Sequence[Mount], needed: Iterable[str], leases: ExitStack, *, possible: bool) -> View:
    """Makes and holds the volumes of a worker; `possible`: whether it can have a view of the files of its own.

    `needed`: folders that it cannot do without, and that no volume may hide. ValueError for one that would.
    """
    if not mounts:
        return View({}, {})
    places: dict[str, str] = {}
    variables: dict[str, str] = {}
    for mount in mounts:
        volume = Volume(home, mount.volume)
        leases.callback(os.close, volume.hold())
        files, place = str(volume.files), os.path.normpath(mount.path)
        _check_place(place, needed)
        places[place] = files
        variables[variable_of(mount.volume)] = place if possible else files
    places.setdefault(DEFAULT_MOUNT_PATH, str(Volume(home, mounts[0].volume).files))
    variables["RUNPOD_VOLUME_ID"] = mounts[0].volume
    if possible:
        view = [[files, place] for place, files in places.items()]
        return View({"mounts": view, "hidden": [str(home / FOLDER)]}, variables)
    return View({"links": [[files, os.path.basename(place)] for place, files in places.items()]}, variables)


def _check_place(place: str, needed: Iterable[str]) -> None:
    real = os.path.realpath(place)
    for folder in needed:
        if os.path.commonpath([real, os.path.realpath(folder)]) == real:
            raise ValueError(f"a volume at {place} would hide {folder}, which its workers need: use another mount_path")
