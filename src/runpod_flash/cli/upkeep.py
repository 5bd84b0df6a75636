"""`flash engine verify`, `backup`, `restore`: the store looked through, kept elsewhere, and made again.

The work is done by a program of its own (`runpod_flash.daemon.upkeep`); here it is started, and told about.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from runpod_flash.cli import views
from runpod_flash.cli.failures import FAILED, INTERRUPTED
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

PROGRAM: Final = ("-m", "runpod_flash.daemon.upkeep")
STORE: Final = "store.sqlite"


@click.command(
    cls=Page,
    codes={1: "something is wrong"},
    see=("engine backup", "engine restore"),
    epilog=examples("flash engine verify", "flash engine verify --json | jq '.findings[].what'"),
)
@json_option
@click.pass_context
def verify(context: click.Context, /, as_json: bool) -> None:
    """Look through everything that is on record. Exit code 1 if something is wrong.

    Reads the store's pages and rows, the definitions of functions, and the files of large values. It changes nothing,
    and an engine that runs is not disturbed.
    """
    answer = _upkeep("verify")
    problems = [finding for finding in answer["findings"] if finding["level"] == "problem"]
    if as_json:
        views.show_json(answer)
    else:
        _show_findings(answer)
    context.exit(FAILED if problems else 0)


@click.command(
    cls=Page,
    see=("engine restore", "engine verify"),
    epilog=examples(
        "flash engine backup ~/flash-monday            a folder",
        "flash engine backup ~/flash-monday.tar.gz     the same in one file",
        "flash engine backup --force /mnt/nas/flash.tar",
    ),
)
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a backup that is there.")
@json_option
def backup(path: Path, force: bool, as_json: bool) -> None:
    """Write a backup: every job and result as they are at this moment, while the engine works on.

    A name that ends in .tar, .tar.gz or .tgz makes one file, any other a folder. Values of variables are in it: keep it
    as private as the data folder. So are deployed apps. Secrets (but for their names), logs, environments and files on
    volumes are not.
    """
    target = path.expanduser().absolute()
    with _blobs_held() as running:
        answer = _upkeep("backup", "--path", str(target), *(["--force"] if force else []), locked=not running)
    if as_json:
        views.show_json({"path": str(target), **answer})
        return
    click.echo(str(target))
    views.note(f"{_jobs(answer)}, {views.count(answer['blobs'], 'large value')}, {views.size(answer['bytes'])}")
    if missing := answer["missing_blobs"]:
        views.note(f"{views.count(len(missing), 'large value')} could not be read: see flash engine verify")


@click.command(
    cls=Page,
    codes={1: "the question was answered with no, or it did not work"},
    see=("engine backup", "engine verify"),
    epilog=examples("flash engine restore ~/monday.tar.gz", "flash engine restore ~/monday --yes"),
)
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Stop the engine if it runs, and do not ask.")
@json_option
def restore(path: Path, yes: bool, as_json: bool) -> None:
    """Put a backup in the place of what is on record now.

    The backup is checked first. What is there now is moved to a folder beside it, never deleted. Jobs that were waiting
    wait again, and jobs that were running are run again: what they have done since then, they do a second time. A job
    with max_retries=0 that was running fails instead, since it promised one start at most.
    """
    source = path.expanduser().absolute()
    if not source.exists():
        raise click.UsageError(f"There is no backup {source}.")
    _consent(yes)
    answer = _upkeep("restore", "--path", str(source), locked=True)
    if as_json:
        views.show_json(answer)
        return
    made = views.exactly(answer["made_at_ms"])
    click.echo(f"restored {_jobs(answer)} as of {made}")
    if answer["ran"]:
        views.note(f"{views.count(answer['ran'], 'job')} ran then, and will be run again when the engine starts")
    if answer["replaced"]:
        views.note(f"what was there before is in {answer['replaced']}")
    for one in answer["secrets"]:
        where = f"--app {shlex.quote(one['app'])} --env {shlex.quote(one['env'])}"
        views.note(f"{one['app']} in {one['env']} had secrets, which are in no backup. Set them before it starts:")
        for name in one["names"]:
            views.note(f"  flash secret set {name} {where}")
    views.note("flash engine start goes on from here; so does any call")


# ── inside ────────────────────────────────────────────────────────────────────────────────────────


def _upkeep(verb: str, *arguments: str, locked: bool = False) -> dict[str, Any]:
    """Runs the program; its answer, or the error that it told of."""
    import json
    import subprocess

    from runpod_flash.errors import EngineError, error_from_code
    from runpod_flash.settings import load

    home = load().home
    command = [sys.executable, *PROGRAM, verb, "--home", str(home), *arguments, *(["--locked"] if locked else [])]
    # From a folder that is nobody's: `-m` would look for modules in the current one first.
    how: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "cwd": "/", "env": _environ()}
    # In a session of its own: Ctrl-C is ours to hear, and to tell.
    with subprocess.Popen(command, start_new_session=True, **how) as program:
        try:
            said, _ = program.communicate()
        except KeyboardInterrupt:  # it removes what it had begun
            program.terminate()
            program.wait()
            raise
    if program.returncode == INTERRUPTED:
        raise KeyboardInterrupt
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        raise EngineError(
            f"flash engine {verb} ended before it was done (exit code {program.returncode})", fix="try again"
        ) from None
    if error := answer.get("error"):
        raise error_from_code(error["code"], error["what"], why=error["why"] or None, fix=error["fix"] or None)
    return answer


def _environ() -> dict[str, str]:
    path = [entry for entry in sys.path if entry and os.path.isabs(entry)]
    return {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(path)}


@contextlib.contextmanager
def _blobs_held() -> Iterator[bool]:
    """While this lasts no file of a large value is removed; whether an engine runs that could."""
    from runpod_flash.cli.connection import connect_running
    from runpod_flash.wire import messages

    link = connect_running()
    if link is None:
        yield False
        return
    with link:
        link.ask(messages.Admin(verb="hold_blobs"))
        yield True


def _consent(yes: bool) -> None:
    """Ends the engine and asks whoever can be asked. Without an engine nothing that runs is at stake."""
    from runpod_flash.cli.connection import connect_running
    from runpod_flash.cli.engine import DEFAULT_GRACE, ENDING_SECONDS, leave
    from runpod_flash.settings import load

    link = connect_running()
    asks = sys.stdin.isatty() and not yes
    if link is None:
        if asks and (load().home / STORE).exists():
            click.confirm(f"Put the backup in the place of what is in {load().home}?", abort=True, err=True)
        return
    with link:
        if asks:
            click.confirm(f"Stop the engine (process {link.welcome.pid}) and restore?", abort=True, err=True)
        elif not yes:
            raise click.UsageError("The engine runs. Stop it first (flash engine stop), or add --yes.")
        leave(link, "stop", DEFAULT_GRACE + ENDING_SECONDS, drain=False, grace_s=DEFAULT_GRACE)


def _jobs(answer: dict[str, Any]) -> str:
    return views.count(sum(answer["jobs"].values()), "job")


def _show_findings(answer: dict[str, Any]) -> None:
    for finding in answer["findings"]:
        where = f" ({', '.join(finding['examples'])}{', …' if finding['rows'] > len(finding['examples']) else ''})"
        number = f"{finding['rows']} × " if finding["rows"] > 1 else ""
        click.echo(f"{finding['level']}: {number}{finding['what']}{where if finding['examples'] else ''}")
        click.echo(f"  fix:   {finding['fix']}")
    if not answer["findings"]:
        click.echo("all is well")
    if "jobs" in answer:
        blobs = f"{views.count(answer['blobs'], 'large value')} ({views.size(answer['blob_bytes'])})"
        definitions = views.count(answer["definitions"], "definition")
        views.note(f"looked through {_jobs(answer)}, {definitions}, {blobs} in {answer['store']}")
