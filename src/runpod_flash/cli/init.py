"""`flash init`: a new app that serves and passes its tests as it is."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runpod_flash.cli import views
from runpod_flash.cli.failures import FAILED
from runpod_flash.cli.pages import Page, examples
from runpod_flash.cli.views import json_option

if TYPE_CHECKING:
    from runpod_flash.apps.scaffold import File


@click.command(
    cls=Page,
    codes={1: "files are in the way, and nobody said what shall become of them"},
    see=("run", "check", "deploy"),
    epilog=examples(
        "flash init my_app                 a folder with a worker for GPUs, one for CPUs, and an app",
        "flash init .                      the same in this folder",
        "flash init hello --single-file    each worker in one file",
    ),
)
@click.argument("name", metavar="NAME")
@click.option("--single-file", is_flag=True, help="Workers as gpu_worker.py and cpu_worker.py, without a folder.")
@click.option("-f", "--force", "--yes", "force", is_flag=True, help="Overwrite files that differ, without asking.")
@json_option
def init(name: str, single_file: bool, force: bool, as_json: bool) -> None:
    """Make a new app. It serves and passes its own tests as it is.

    NAME is its folder, or . for this one. In a category such as 03_advanced_workers, the names of its resources begin
    with the number of that. Files that are there and differ are shown, and nothing is overwritten unless you say so.
    """
    from runpod_flash.apps import scaffold

    folder = scaffold.app_folder(name)
    files = scaffold.files_of(folder, scaffold.SINGLE if single_file else scaffold.DIRECTORY)
    states = {file: file.state for file in files}
    conflicts = [file for file, state in states.items() if state == "differs"]
    overwrites = force or not conflicts or _asked(conflicts, folder)
    done: dict[str, list[str]] = {"created": [], "overwritten": [], "kept": []}
    for file, state in states.items():
        if state == "same" or (state == "differs" and not overwrites):
            done["kept"].append(_relative(file, folder))
            continue
        scaffold.write(file)
        done["created" if state == "new" else "overwritten"].append(_relative(file, folder))
    if as_json:
        views.show_json({"folder": str(folder), **done})
    else:
        _show(folder, done)


def _asked(conflicts: list[File], folder: Path) -> bool:
    """Whether these files may be overwritten; leaves the program if nothing shall be done."""
    views.note(f"{views.count(len(conflicts), 'file')} in {folder} would be overwritten:")
    for file in conflicts:
        views.note(f"  {views.clean(_relative(file, folder))}")
    if not sys.stdin.isatty():
        views.note("nothing was written: --force overwrites them, or choose another name")
        sys.exit(FAILED)
    answer = click.prompt(
        "Overwrite them, keep them and add the others, or stop?",
        type=click.Choice(["overwrite", "keep", "stop"]),
        default="stop",
        err=True,
    )
    if answer == "stop":
        views.note("nothing was written")
        sys.exit(FAILED)
    return bool(answer == "overwrite")


def _show(folder: Path, done: dict[str, list[str]]) -> None:
    for word, mark in (("created", "+"), ("overwritten", "~"), ("kept", "=")):
        for path in done[word]:
            click.echo(f"{mark} {views.clean(path)}")
    here = Path.cwd()
    views.note("")
    if folder != here:
        views.note(f"  cd {shlex.quote(os.path.relpath(folder, here))}")
    views.note("  flash run     http://localhost:8888/docs")
    views.note("  pytest        its tests, which need pytest, pytest-asyncio and httpx")


def _relative(file: File, folder: Path) -> str:
    return file.path.relative_to(folder).as_posix()
