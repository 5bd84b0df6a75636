"""The verbs of `flash`."""

from __future__ import annotations

import click

from runpod_flash._version import __version__
from runpod_flash.cli.failures import Verbs
from runpod_flash.cli.pages import examples

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


VERBS = {
    # Where each is, and the first sentence of its page: so that none is loaded but the one that was asked for.
    "init": ("init", "Make a new app"),
    "run": ("run", "Serve an app on this machine, and again after every change"),
    "build": ("build", "Pack a project into an artifact, with a manifest of all that it declares"),
    "deploy": ("deploy", "Build a project and put it in the place of what is deployed, without a request lost"),
    "rollback": ("deploy", "Go back to a version that was deployed before"),
    "undeploy": ("deploy", "Take an app out of an environment: its endpoints answer no more"),
    "app": ("apps", "List, make and delete apps"),
    "env": ("apps", "List, make and delete environments of an app, and see what is deployed there"),
    "secret": ("secret", "Keep what workers of an app's environment are given as variables, and nobody else may read"),
    "call": ("call", "Run one remote function of a file, or of a module (package.module::function)"),
    "serve": ("serve", "Run a worker program written for Runpod as an endpoint"),
    "jobs": ("jobs", "List jobs, the newest first"),
    "job": ("jobs", "Show one job: its attempts, where the time went, and its error"),
    "logs": ("logs", "Show what a job printed, or all jobs of an endpoint"),
    "ps": ("ps", "Show endpoints, their workers and what these use, and why something waits"),
    "cancel": ("jobs", "Cancel jobs that wait or run"),
    "retry": ("jobs", "Run jobs once more that failed or timed out, under their own ids"),
    "purge": ("purge", "Drop the jobs that wait for an endpoint, or forget jobs that have ended"),
    "deps": ("deps", "List and remove the environments that functions run in; resolve what a gallery needs"),
    "volume": ("volume", "Make, fill, read and remove volumes"),
    "cost": ("cost", "Show what functions and workers took, and what it would cost in the cloud"),
    "check": ("check", "Find what a call would refuse or warn about, without running anything"),
    "doctor": ("doctor", "Look at this machine, this installation, the engine and all settings"),
    "engine": ("engine", "Start, stop and look at the engine"),
    "runpod": ("runpod", "Point programs that were written for Runpod's serverless endpoints at this engine"),
    "completion": ("completion", "Print the script that makes a shell complete `flash`"),
}


@click.group(cls=Verbs, verbs=VERBS, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="flash", message="%(prog)s %(version)s")
def flash() -> None:
    """Serverless functions on this machine: their jobs, workers, logs and environments."""
