"""`flash engine`: the program that keeps jobs and starts workers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import upkeep, views
from runpod_flash.cli.failures import ENGINE
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.unit import unit
from runpod_flash.cli.views import json_option

if TYPE_CHECKING:
    from runpod_flash.cli.connection import Connection

ENDING_SECONDS = 15.0
"""How long an engine that was told to stop may take, beyond the time that was left to its jobs."""
DEFAULT_GRACE = 5.0


@click.group(cls=Family)
def engine() -> None:
    """Start, stop and look at the engine.

    The engine keeps the jobs and starts the workers. It starts by itself with the first call, and stops by
    itself when nothing has happened for long enough.
    """


@engine.command(epilog=examples("flash engine start", "FLASH_HOME=/srv/flash flash engine start --json"))
@json_option
def start(as_json: bool) -> None:
    """Start the engine, unless it runs."""
    from runpod_flash.cli.connection import connect_running

    running = connect_running()
    _report_start(running or _start(), as_json, started=running is None)


@engine.command(
    epilog=examples(
        "flash engine stop",
        "flash engine stop --grace 60        give the jobs that run a minute",
        "flash engine stop --drain           give them as long as they need",
    )
)
@click.option("--drain", is_flag=True, help="Wait for the jobs that run, however long they take.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help=f"Time for the jobs that run to finish.  [default: {DEFAULT_GRACE:g}]",
)
@json_option
def stop(drain: bool, grace: float | None, as_json: bool) -> None:
    """Stop the engine and its workers.

    Nothing is lost: what waits, and what did not finish in time, goes on with the next start.
    """
    from runpod_flash.cli.connection import connect_running

    if drain and grace is not None:
        raise click.UsageError("--drain waits without a limit, so --grace has no meaning beside it.")
    link = connect_running()
    if link is None:
        _report_stop(None, as_json)
        return
    grace_s = DEFAULT_GRACE if grace is None else grace
    with link:
        leave(link, "stop", None if drain else grace_s + ENDING_SECONDS, drain=drain, grace_s=grace_s)
    _report_stop(link.welcome.pid, as_json)


@engine.command(
    epilog=examples(
        "flash engine restart",
        "flash engine restart --grace 60     give load-balanced calls a minute",
    )
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=DEFAULT_GRACE,
    help=f"Time for load-balanced calls to finish.  [default: {DEFAULT_GRACE:g}]",
)
@json_option
def restart(grace: float, as_json: bool) -> None:
    """Replace the engine by a new one, or start it.

    Workers and the jobs that they run are not disturbed. Load-balanced calls, which go through the engine, may finish
    within the grace; new ones wait for the new engine, or are told to come again. To start workers anew as well, stop
    and start.
    """
    from runpod_flash.cli.connection import connect_running

    link = connect_running()
    if link is None:
        _report_start(_start(), as_json, started=True)
        return
    with link:
        _leave(link, "handover", grace + ENDING_SECONDS, grace_s=grace)
    successor = _start()
    # It lives until its successor has taken the gateway's port over.
    _await_end(link)
    _report_start(successor, as_json, started=True)


@engine.command(epilog=examples("flash engine status", "flash engine status --json | jq -r .socket"))
@json_option
def status(as_json: bool) -> None:
    """Show whether the engine runs, where, and what it has to do. Exit code 4 if it does not run."""
    from runpod_flash.cli.connection import connect_running

    link = connect_running()
    if link is None:
        facts = _nothing_runs()
    else:
        with link:
            facts = _facts(link)
    if as_json:
        views.show_json(facts)
    else:
        _show(facts)
    click.get_current_context().exit(0 if facts["running"] else ENGINE)


@engine.command(epilog=examples("flash engine token", 'curl -H "Authorization: Bearer $(flash engine token)" …'))
@json_option
def token(as_json: bool) -> None:
    """Print the token that requests over HTTP need.

    It was made by the first engine of this data folder. To get another, remove its file and restart the engine.
    """
    from runpod_flash.errors import EngineUnavailable

    file = _token_file()
    if file is None:
        raise EngineUnavailable(
            "there is no token yet", why="an engine makes it when it starts", fix="flash engine start"
        )
    text = Path(file).read_text(encoding="utf-8").strip()
    if as_json:
        views.show_json({"token": text})
    else:
        click.echo(text)


def _token_file() -> str | None:
    from runpod_flash.settings import load

    file = load().home / "token"
    return str(file) if file.is_file() else None


def _facts(link: Connection) -> dict[str, Any]:
    return {"running": True, "gateway_url": None, "token_file": None, **link.status()}


def _nothing_runs() -> dict[str, Any]:
    from runpod_flash._version import __version__
    from runpod_flash.settings import load
    from runpod_flash.wire.rundir import socket_path

    home = load().home
    return {
        "running": False,
        "pid": None,
        "version": __version__,
        "socket": str(socket_path(home)),
        "gateway_url": None,
        "token_file": _token_file(),
        "data_dir": str(home),
    }


def _show(facts: dict[str, Any]) -> None:
    if not facts["running"]:
        click.echo(f"engine is not running (data in {facts['data_dir']})")
        return
    host = facts.get("host") or {}
    machine = facts.get("machine") or {}
    waiting = {status: number for status, number in (facts.get("jobs") or {}).items() if number}
    views.show_facts(
        {
            "engine": f"running, pid {facts['pid']}, version {facts['version']}",
            "up": views.duration(facts["uptime_s"]),
            "data": f"{facts['data_dir']} (durability {facts['durability']}, start {facts['start_no']})",
            "socket": facts["socket"],
            "gateway": facts["gateway_url"] or "",
            "host": f"pid {host['pid']}" if host else "none",
            "machine": _machine(machine),
            "workers": str(facts["workers"]),
            "clients": str(facts["clients"]),
            "jobs": ", ".join(f"{number} {status}" for status, number in waiting.items()) or "none",
        }
    )


def _machine(machine: dict[str, Any]) -> str:
    told = []
    if machine.get("cpus"):
        told.append(views.count(machine["cpus"], "CPU"))
    if machine.get("memory_mb"):
        told.append(views.size(machine["memory_mb"] * 1e6))
    if machine.get("gpus"):
        told.append(views.count(len(machine["gpus"]), "GPU"))
    return ", ".join(told)


def _start() -> Connection:
    from runpod_flash.cli.connection import connect
    from runpod_flash.errors import UsageError
    from runpod_flash.settings import load

    if load().engine == "child":
        raise UsageError(
            "an engine of its own would end with this command",
            why="FLASH_ENGINE=child makes it a child of the program that starts it",
            fix="unset FLASH_ENGINE, or let your program start it",
        )
    return connect()


def leave(link: Connection, verb: str, patience: float | None, **how: float) -> None:
    """Tells the engine to leave, and returns when its process is gone."""
    _leave(link, verb, patience, **how)
    _await_end(link)


def _leave(link: Connection, verb: str, patience: float | None, **how: float) -> None:
    from runpod_flash.wire import messages

    link.ask(messages.Admin(verb=verb, args=how))
    link.wait_until_closed(patience)


def _await_end(link: Connection) -> None:
    from runpod_flash.errors import EngineError

    if not _gone(link.welcome.pid):
        raise EngineError(
            f"engine {link.welcome.pid} did not end",
            why=f"it hung up, but its process is still there after {ENDING_SECONDS:.0f} s",
            fix=f"look at engine.log in {link.welcome.data_dir}; kill -9 {link.welcome.pid} loses nothing",
        )


def _gone(pid: int) -> bool:
    """Whether the process ends within a while; one that nobody has reaped has ended."""
    import psutil

    end = time.monotonic() + ENDING_SECONDS
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


def _report_start(link: Connection, as_json: bool, *, started: bool) -> None:
    with link:
        facts = {**_facts(link), "started": started}
    if as_json:
        views.show_json(facts)
        return
    if not started:
        views.note("it was running")
    click.echo(f"engine {facts['pid']} runs (version {facts['version']}, data in {facts['data_dir']})")


def _report_stop(pid: int | None, as_json: bool) -> None:
    if as_json:
        views.show_json({"stopped": pid is not None, "pid": pid})
    elif pid is None:
        views.note("no engine was running")
    else:
        click.echo(f"engine {pid} stopped")


for verb in (unit, upkeep.verify, upkeep.backup, upkeep.restore):
    engine.add_command(verb)
