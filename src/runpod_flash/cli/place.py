"""Which app and environment a command is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_ENV: Final = "production"
"""Where `flash deploy` goes if nobody says otherwise; never `dev`, where programs call that are being written."""

Verb = TypeVar("Verb", bound="Callable[..., Any]")


class Place(NamedTuple):
    """An environment of an app; `root` is the project at hand, if one is."""

    app: str
    env: str
    root: Path


def app_option(verb: Verb) -> Verb:
    """Which app is meant."""
    words = "The app. Not given: FLASH_APP, app in [tool.flash], the project's name."
    return click.option("--app", metavar="NAME", help=words)(verb)


def env_option(verb: Verb) -> Verb:
    """Which of its environments."""
    words = f"The environment. Not given: FLASH_ENV, env in [tool.flash], {DEFAULT_ENV}."
    return click.option("--env", metavar="NAME", help=words)(verb)


def find(app: str | None, env: str | None, folder: Path | None = None) -> Place:
    """The place that the options, the variables and the project name."""
    from runpod_flash.apps.project import find_project, project_name
    from runpod_flash.settings import load

    root = find_project(folder or Path.cwd())
    settings = load(project=root)
    chosen = settings.env if settings.provenance["env"].source != "default" else DEFAULT_ENV
    return Place(_text(app, "--app") or settings.app or project_name(root), _text(env, "--env") or chosen, root)


def _text(value: str | None, option: str) -> str:
    if value is None:
        return ""
    if not value.strip() or not value.isprintable():
        raise click.UsageError(f"{option} {value!r} cannot be a name: it must be text on one line.")
    return value.strip()
