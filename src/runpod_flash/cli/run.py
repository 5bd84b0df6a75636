"""`flash run`: serves the project of a folder, and again after every change."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runpod_flash.cli.pages import Page, examples

if TYPE_CHECKING:
    import socket

    from runpod_flash.apps.target import Target
    from runpod_flash.settings import Settings


@click.command(
    cls=Page,
    codes={1: "the app cannot be loaded, or ended by itself"},
    see=("init", "call", "check"),
    epilog=examples(
        "flash run                       the app of this folder, on http://localhost:8888",
        "flash run --port 9000 --no-reload",
        "flash run service.py:api        another file, another name",
        "flash run --host 0.0.0.0        also for other machines",
        "flash run --auto-provision      start the least workers of every endpoint now",
    ),
)
@click.argument("target", metavar="[FOLDER|FILE.py[:NAME]]", default=".")
@click.option("--host", metavar="HOST", help="Where to listen. [default: FLASH_HOST, or localhost]")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="[default: FLASH_PORT, or 8888]")
@click.option("--reload/--no-reload", default=True, help="Serve changes as they are saved. [default: reload]")
@click.option("--auto-provision", is_flag=True, help="Declare all endpoints now, and start their least workers.")
def run(target: str, host: str | None, port: int | None, reload: bool, auto_provision: bool) -> None:
    """Serve an app on this machine, and again after every change.

    Looks for `app` in main.py, app.py or server.py, then for a gallery: categories such as 01_getting_started with
    examples in them, which are served as one app. Load-balanced functions of the project answer below /lb/ without a
    token. Everything that happens is one stream of lines on standard error. Workers stay warm over a reload.
    """
    from runpod_flash.apps.target import find_target
    from runpod_flash.cli import port as ports

    found = find_target(target)
    settings = _settings(found.folder)
    with ports.listen(host or settings.host, settings.port if port is None else port) as listener:
        sys.exit(_serve(found, listener, reload=reload, provision=auto_provision))


def _settings(folder: Path) -> Settings:
    """With what the project's `.env` says; it is not put into our environment, for it may change while we serve."""
    from runpod_flash import settings
    from runpod_flash.client import environment

    environment.stand_in_for(folder)
    written = environment.dotenv(environment.project_folder() / ".env")
    said = {name: value for name, value in written.items() if value is not None}
    return settings.load(
        {**said, **{name: value for name, value in os.environ.items() if value}}, settings.project_root(folder)
    )


def _serve(target: Target, listener: socket.socket, *, reload: bool, provision: bool) -> int:
    import asyncio

    from runpod_flash.apps.supervisor import Supervisor, Wishes
    from runpod_flash.cli import port as ports
    from runpod_flash.cli.narration import Narration
    from runpod_flash.web import trust

    host = listener.getsockname()[0]
    wishes = Wishes(
        reload=reload,
        patient=sys.stderr.isatty(),
        provision=provision,
        loopback=trust.is_trusted(f"[{host}]" if ":" in host else host),
    )
    return asyncio.run(Supervisor(target, listener, wishes, Narration(target, ports.url(listener))).run())
