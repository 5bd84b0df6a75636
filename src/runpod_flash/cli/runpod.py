"""`flash runpod`: for programs that were written for Runpod's serverless endpoints."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from runpod_flash.cli import views
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.views import json_option


@click.group(cls=Family)
def runpod() -> None:
    """Point programs that were written for Runpod's serverless endpoints at this engine."""


@runpod.command(
    epilog=examples(
        'eval "$(flash runpod env)" && python client.py',
        "flash runpod env --json | jq -r .RUNPOD_ENDPOINT_BASE_URL",
    )
)
@json_option
def env(as_json: bool) -> None:
    """Print the variables that such programs read, as lines for a shell.

    The engine is started if none runs: only then it is known where it listens. The lines have its token, so they belong
    into no file that others can read.
    """
    from runpod_flash.cli.connection import connect
    from runpod_flash.errors import EngineUnavailable

    with connect() as link:
        status = link.status()
    gateway, file = status.get("gateway_url"), status.get("token_file")
    if not gateway or not file:
        raise EngineUnavailable(
            "the engine has no gateway",
            why="it listens for HTTP a moment after it has started, or cannot",
            fix="flash engine status; its reasons are in engine.log",
        )
    found = variables(gateway, Path(file).read_text(encoding="utf-8").strip())
    if as_json:
        views.show_json(found)
        return
    for name, value in found.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def variables(gateway: str, token: str) -> dict[str, str]:
    """What programs of Runpod read, and what a receiver of webhooks needs."""
    from runpod_flash.wire.signing import secret_of

    return {
        "RUNPOD_API_KEY": token,
        "RUNPOD_ENDPOINT_BASE_URL": f"{gateway}/v2",
        "RUNPOD_API_BASE_URL": gateway,
        "RUNPOD_REST_API_URL": f"{gateway}/v1",
        "RUNPOD_HAPI_URL": gateway,
        "RUNPOD_CONSOLE_URL": gateway,
        "FLASH_WEBHOOK_SECRET": secret_of(token),
    }
