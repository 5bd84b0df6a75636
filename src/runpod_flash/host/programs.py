"""What is special about workers that are programs of the user's own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runpod_flash.model.endpoint import Program

CLOUD_FOLDER = ".runpod"
"""In a home folder: the cloud's key. A worker that finds it shows it to whoever it asks for jobs, us instead of the
cloud, and keeps the key that it was given for this to itself."""


def order(program: Program | None) -> Mapping[str, Any]:
    """What a zygote is told of it."""
    if program is None:
        return {}
    told = {"command": list(program.command), "folder": program.folder}
    # One that serves HTTP has a worker of ours beside it, which brings it its requests.
    return {"relayed": told} if program.protocol == "http" else {"program": told}


def hidden_from(home: str) -> list[str]:
    """The folders of a user's home that such a worker does not see."""
    folder = os.path.join(home, CLOUD_FOLDER)
    return [folder] if home and os.path.isdir(folder) else []
