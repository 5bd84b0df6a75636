"""`flash secret`: values that workers of an app's environment see, and nobody else."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from runpod_flash.cli import consent, place, views
from runpod_flash.cli.failures import unknown
from runpod_flash.cli.pages import Family, examples
from runpod_flash.cli.views import Column, json_option

if TYPE_CHECKING:
    from runpod_flash.wire.secrets import Secrets

COLUMNS = (Column("SECRET", lambda row: row["name"]), Column("SET", lambda row: views.when(row["set_at_ms"])))
_NOW_WHAT = "workers that run keep what they have; flash deploy replaces them"


@click.group(cls=Family)
def secret() -> None:
    """Keep what workers of an app's environment are given as variables, and nobody else may read."""


@secret.command(
    "set",
    codes={1: "it could not be kept"},
    see=("secret list", "deploy"),
    epilog=examples(
        "flash secret set HF_TOKEN                   asks for it, without showing it",
        "flash secret set HF_TOKEN < token.txt",
        "pass show hf | flash secret set HF_TOKEN --app shop --env production",
    ),
)
@click.argument("name")
@click.argument("value", required=False)
@place.app_option
@place.env_option
@json_option
def set_(name: str, value: str | None, app: str | None, env: str | None, as_json: bool) -> None:
    """Keep a value that only workers see, as a variable. It comes from stdin, or is asked for.

    Every function of the app's environment, and its mothership, has it in os.environ; it stands in no manifest,
    artifact or log. One line break at its end is no part of it.
    """
    from runpod_flash.errors import UsageError

    secrets = _secrets(app, env)
    if value is not None:
        views.note("flash: a value on the command line stands in the shell's history, and every process can see it")
    else:
        value = _read(name)
    try:
        new = secrets.set(name, value, int(time.time() * 1000))
    except ValueError as error:
        raise UsageError(f"the secret {name!r} was not set", why=str(error)) from None
    if as_json:
        views.show_json({"app": secrets.app, "env": secrets.env, "name": name, "created": new})
        return
    click.echo(name)
    views.note(f"kept for {secrets.app} in {secrets.env}; {_NOW_WHAT}")


@secret.command("list", epilog=examples("flash secret list --env production"))
@place.app_option
@place.env_option
@json_option
def list_(app: str | None, env: str | None, as_json: bool) -> None:
    """List the names of secrets, and when each was set. No command shows their values."""
    secrets = _secrets(app, env)
    rows = [{"name": name, "set_at_ms": one["set_at_ms"]} for name, one in sorted(secrets.facts().items())]
    if as_json:
        views.show_json(rows)
    elif rows:
        views.show_table(COLUMNS, rows)
    else:
        views.note(f"{secrets.app} has no secrets in {secrets.env}")


@secret.command(
    "rm",
    codes={1: "the question was answered with no", 3: "there is none of that name"},
    see=("secret list",),
    epilog=examples("flash secret rm HF_TOKEN", "flash secret rm HF_TOKEN --yes"),
)
@click.argument("name")
@place.app_option
@place.env_option
@consent.yes_option
@json_option
def rm(name: str, app: str | None, env: str | None, yes: bool, as_json: bool) -> None:
    """Forget a secret.

    Where nobody can be asked, --yes has to be given.
    """
    secrets = _secrets(app, env)
    known = sorted(secrets.facts())
    if name not in known:
        what = f"{secrets.app} has no secret {name!r} in {secrets.env}"
        raise unknown(what, name, known, fix="see which there are: flash secret list", nothing="it has none there")
    consent.to_take_away(f"forget the secret {name} of {secrets.app} in {secrets.env}", yes=yes)
    secrets.remove(name)
    if as_json:
        views.show_json({"app": secrets.app, "env": secrets.env, "removed": name})
        return
    click.echo(name)
    views.note(_NOW_WHAT)


def _secrets(app: str | None, env: str | None) -> Secrets:
    from runpod_flash.errors import FlashError
    from runpod_flash.settings import load
    from runpod_flash.wire.secrets import Secrets

    where = place.find(app, env)
    found = Secrets(load().home, where.app, where.env)
    try:
        found.facts()
    except (OSError, ValueError) as error:
        raise FlashError(
            f"the secrets of {where.app} in {where.env} cannot be read",
            where=str(found.file),
            why=str(error),
            fix="remove that file, and set them again",
        ) from None
    return found


def _read(name: str) -> str:
    if sys.stdin.isatty():
        asked: str = click.prompt(f"Value of {name}", hide_input=True, err=True)
        return asked
    value = sys.stdin.read()
    value = value.removesuffix("\n").removesuffix("\r")
    if not value:
        raise click.UsageError(f"Nothing came on stdin for {name}.")
    return value
