"""The verbs of `flash`."""

from __future__ import annotations

import sys

import click

from runpod_flash._version import __version__
from runpod_flash.cli.apps import app, env
from runpod_flash.cli.build import build
from runpod_flash.cli.call import call
from runpod_flash.cli.check import check
from runpod_flash.cli.completion import completion
from runpod_flash.cli.cost import cost
from runpod_flash.cli.deploy import deploy, rollback, undeploy
from runpod_flash.cli.deps import deps
from runpod_flash.cli.doctor import doctor
from runpod_flash.cli.engine import engine
from runpod_flash.cli.failures import Verbs, close_output
from runpod_flash.cli.init import init
from runpod_flash.cli.jobs import cancel, job, jobs, retry
from runpod_flash.cli.logs import logs
from runpod_flash.cli.pages import examples
from runpod_flash.cli.ps import ps
from runpod_flash.cli.purge import purge
from runpod_flash.cli.run import run
from runpod_flash.cli.runpod import runpod
from runpod_flash.cli.secret import secret
from runpod_flash.cli.serve import serve
from runpod_flash.cli.upkeep import backup, restore, verify
from runpod_flash.cli.volume import volume

EXAMPLES = examples(
    "flash init my_app            a new app, with workers, routes and tests",
    "flash run                    serve it on this machine, and again after every change",
    "flash call app.py::train     run a remote function",
    "flash ps                     what runs, and why something waits",
    "flash jobs --failed          what went wrong lately",
    "flash job 4e1f8a20           one job: attempts, where the time went, its error",
    "flash logs 4e1f8a20 -f       what it prints, as it prints it",
    "flash check                  what a call would refuse, found in the source",
)


@click.group(cls=Verbs, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flash", message="%(prog)s %(version)s")
def flash() -> None:
    """Serverless functions on this machine: their jobs, workers, logs and environments."""


for verb in (
    init,
    run,
    build,
    deploy,
    rollback,
    undeploy,
    app,
    env,
    secret,
    call,
    serve,
    jobs,
    job,
    logs,
    ps,
    cancel,
    retry,
    purge,
    deps,
    volume,
    cost,
    check,
    doctor,
    engine,
    runpod,
    completion,
):
    flash.add_command(verb)
for verb in (verify, backup, restore):
    engine.add_command(verb)


def main() -> None:
    """The program `flash`."""
    for stream in (sys.stdout, sys.stderr):
        # What a job printed must not end us because this terminal cannot show it.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        flash(prog_name="flash")
    finally:
        close_output()
