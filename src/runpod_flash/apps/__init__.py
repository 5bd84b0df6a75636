"""Applications of users: made from templates, found in folders, served as one.

    naming       what an app and its resources are called
    scaffold     flash init: the files of a new app, from templates/
    discovery    which examples a folder has
    outline      what their sources say, without running them
    namespace    modules of its own for each
    served       one example: waiting, loaded or broken
    lifespan     … and its lifespan
    schema       one OpenAPI document out of many
    unified      the app that serves them all
    index        … and its first page
    bundled      pages of documentation that need no network

    target       flash run: what there is to serve
    supervisor   … who starts and replaces the process that serves
    serving      … that process; loading, front, relay, stream: its parts
    apology      … what answers where there is nothing to serve

Importing this loads no web framework.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runpod_flash.apps.unified import UnifiedApp

__all__ = ["unified_app"]


def unified_app(place: str | os.PathLike[str], title: str = "") -> UnifiedApp:
    """One FastAPI app that serves every example of a gallery; `place` is its folder, or a file in it.

    A gallery's whole main.py:

        from runpod_flash.apps import unified_app

        app = unified_app(__file__)
    """
    from runpod_flash.apps.unified import UnifiedApp  # noqa: PLC0415 - loads FastAPI

    root = Path(place).resolve()
    return UnifiedApp(root.parent if root.is_file() else root, title)
