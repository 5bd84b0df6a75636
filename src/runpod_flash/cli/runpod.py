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
        "flash runpod env                        to be read",
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


@runpod.command(
    epilog=examples(
        "flash runpod functions older",
        "flash runpod functions older --dependencies numpy --workers-max 5",
        "flash runpod functions older --load-balanced",
    )
)
@click.argument("name")
@click.option("--dependencies", multiple=True, metavar="REQ", help="A package that all workers have. May be repeated.")
@click.option(
    "--workers-max", type=click.IntRange(min=1), default=3, metavar="N", help="Workers at most.  [default: 3]"
)
@click.option("--load-balanced", is_flag=True, help="Answer POST /execute instead of taking jobs.")
def functions(name: str, dependencies: tuple[str, ...], workers_max: int, load_balanced: bool) -> None:
    """Serve clients of the older SDKs, which send functions and classes as source text, until Ctrl-C.

    NAME is that of the endpoint. Whoever has the engine's token may run any code by it, on workers of this machine.
    Packages that a request asks for are installed for workers of their own.
    """
    from runpod_flash.cli.connection import connect
    from runpod_flash.client import background, function_requests
    from runpod_flash.model.resources import CpuLiveLoadBalancer, CpuLiveServerless

    resource = (
        CpuLiveLoadBalancer(name=name, workersMax=workers_max, max_concurrency=1, scalerValue=1)
        if load_balanced
        else CpuLiveServerless(name=name, workersMax=workers_max)
    )
    background.run(function_requests.declare(resource, dependencies))
    with connect() as link:
        gateway = link.status().get("gateway_url")
    where = f"{gateway}/lb/{name}/execute" if load_balanced else f"{gateway}/v2/{name}"
    views.note(f"{name} takes functions at {where}; Ctrl-C ends that")
    background.run(function_requests.for_ever())


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
