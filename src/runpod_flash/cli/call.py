"""`flash call`: one remote function of a file, as a command."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runpod_flash.cli import views
from runpod_flash.cli.failures import FAILED
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import Column
from runpod_flash.errors import FlashError

if TYPE_CHECKING:
    from runpod_flash.client.function import RemoteFunction
    from runpod_flash.model.output import JobOutput

FUNCTIONS = (
    Column("FUNCTION", lambda row: row["name"]),
    Column("RESOURCE", lambda row: row["resource"]),
    Column("WHAT IT DOES", lambda row: row["summary"], flexible=True),
)

OWN = (
    click.Option(["--timeout", "timeout"], type=float, metavar="SECONDS",
                 help="Of one attempt, instead of the function's own."),
    click.Option(["--detach", "detach"], is_flag=True, help="Print the job's id and leave; the job goes on."),
    click.Option(["--local", "local"], is_flag=True, help="Run in this process: no engine, no worker."),
    click.Option(["--json", "as_json"], is_flag=True, help="Print the job as JSON: id, status, output, error, times."),
    click.Option(["--raw", "raw"], is_flag=True, help="Print a result that is text or bytes as it is."),
)  # fmt: skip
"""Options of every call; they may stand before the target or, where the function has no such flag, after it."""


@click.command(
    cls=Page,
    codes={1: "the job failed"},
    see=("job", "logs", "jobs"),
    params=list(OWN),
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog=examples(
        "flash call app.py                             list the remote functions of a file",
        "flash call app.py::train --help               the flags of one",
        "flash call app.py::train --epochs 3 --fast    run it",
        "flash call app.py::embed @texts.json > vectors.json",
        "cat photo.png | flash call --timeout 60 app.py::label --image -",
    ),
)
@click.argument("target", metavar="FILE.py[::FUNCTION]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[FLAGS]...")
@click.pass_context
def call(context: click.Context, /, target: str, words: tuple[str, ...], **options: Any) -> None:
    """Run one remote function of a file, or of a module (package.module::function).

    Its parameters are flags, or values by position. The result is printed as JSON; what the job prints while it runs
    is on standard error. Exit code 1 if the job failed. The project's .env is read first; variables that are set
    already stay as they are.
    """
    from runpod_flash.cli import target as targets

    source, name = targets.split(target)
    _settle(targets.folder_of(source))
    module = targets.load(source)
    if not name:
        _list(source, targets.remote_functions(module), options, words)
        return
    function = targets.find(module, name, source)
    _run(context, function, f"{context.command_path} {target}", words, options)


def _settle(folder: Path) -> None:
    """The surroundings that the user's program would have: its project, and the variables of its `.env`."""
    from runpod_flash.client import environment

    environment.stand_in_for(folder)
    environment.load_dotenv()


def _list(
    source: str, functions: Mapping[str, RemoteFunction[Any, Any, Any]], options: dict[str, Any], words: tuple[str, ...]
) -> None:
    from runpod_flash.cli.flags import summary

    if words not in ((), ("--json",)):
        raise click.UsageError(f"Which function? Name it: {source}::FUNCTION. See which there are: flash call {source}")
    rows = [
        {
            "name": name,
            "resource": function.__remote_config__.resource.name,
            "summary": summary(function.__wrapped__),
        }
        for name, function in functions.items()
    ]
    if options["as_json"] or words:
        views.show_json(rows)
    elif rows:
        views.show_table(FUNCTIONS, rows)
        views.note(f"flags of one: flash call {source}::{rows[0]['name']} --help")
    else:
        views.note(f"{source} has no remote functions: none of its functions is under @remote")


# ── one call ──────────────────────────────────────────────────────────────────────────────────────


def _run(
    context: click.Context,
    function: RemoteFunction[Any, Any, Any],
    program: str,
    words: tuple[str, ...],
    options: dict[str, Any],
) -> None:
    from runpod_flash.cli import flags

    asked = flags.read_call(function.__wrapped__, program, words, OWN)
    how = {name: asked.options.get(name) or value for name, value in options.items()}
    if how["local"] and how["detach"]:
        raise click.UsageError("--detach leaves a job behind, and --local makes none.")
    if how["timeout"] is not None:
        function = function.with_options(timeout=how["timeout"])
    if how["detach"]:
        handle = function.sync.spawn(*asked.args, **asked.kwargs)
        views.show_json({"id": handle.id, "status": "IN_QUEUE"}) if how["as_json"] else click.echo(handle.id)
        return
    call = _locally if how["local"] else _on_a_worker
    context.exit(_report(call(function, asked.args, asked.kwargs), how))


def _on_a_worker(function: RemoteFunction[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function.sync(*args, **kwargs)


def _locally(function: RemoteFunction[Any, Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """On the main thread, as in a worker, and reported on as if it had been a job. What it prints is no result."""
    import asyncio

    from runpod_flash.client.local import failure
    from runpod_flash.model.job import new_job_id
    from runpod_flash.model.output import JobOutput

    try:
        with contextlib.redirect_stdout(sys.stderr):
            done = asyncio.run(function.local(*args, **kwargs))
    except FlashError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - load-balanced functions raise what the user's code raised
        return JobOutput(id=new_job_id(), **failure(error))
    return done if isinstance(done, JobOutput) else JobOutput(id=new_job_id(), output=done)


def _report(done: JobOutput[Any], how: dict[str, Any]) -> int:
    """Prints what became of it; the exit code."""
    if how["as_json"]:
        _show_job(done)
    elif done.error is None:
        _show_value(done.output, raw=how["raw"])
    else:
        views.note(f"flash: job {done.id} {done.status}: {done.error}")
        if done.traceback:
            views.note(f"\n{done.traceback.rstrip()}")
    return FAILED if done.error is not None else 0


def _show_job(done: JobOutput[Any]) -> None:
    found, problem = _json(done.output)
    views.show_json(
        {
            "id": done.id,
            "status": done.status,
            "output": found,
            "error": done.error,
            "traceback": done.traceback,
            "started_at": done.started_at,
            "ended_at": done.ended_at,
            "delay_time": done.delay_time,
            "execution_time": done.execution_time,
            "attempts": done.attempts,
            "worker_id": done.worker_id,
        }
    )
    if problem:
        views.note(problem)


def _show_value(value: Any, *, raw: bool) -> None:
    if raw and isinstance(value, (str, bytes, bytearray)):
        click.echo(value)  # bytes go out as they are
        return
    found, problem = _json(value)
    if problem:
        click.echo(found)
        views.note(problem)
    elif views.on_terminal():
        views.show_json(found)
    else:
        click.echo(json.dumps(found, ensure_ascii=False, separators=(",", ":")))


def _json(value: Any) -> tuple[Any, str]:
    """The value as JSON has it; else its repr, and a word about why."""
    from runpod_flash.client.job import json_view

    try:
        return json.loads(json_view(value)), ""
    except ValueError as error:
        return repr(value), f"flash: the result is no JSON, this is its repr: {error}"
