"""Whether somebody agrees before a verb does what is not easily undone.

On a terminal a person is asked, unless --yes was given. Where nobody can be asked, what only changes something goes on,
for that is what a script wants of `flash deploy`; what takes something away needs its --yes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

Verb = TypeVar("Verb", bound=Callable[..., Any])


def yes_option(verb: Verb) -> Verb:
    """The option that answers the question."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask.")(verb)


def to_change(words: str, *, yes: bool) -> None:
    """Goes on if a person agrees, or none can be asked; `words` say what will be done."""
    if not yes and sys.stdin.isatty():
        click.confirm(f"This will {words}. Go on?", abort=True, err=True)


def to_take_away(words: str, *, yes: bool) -> None:
    """Goes on if a person agrees; UsageError where none can be asked."""
    if not yes and not sys.stdin.isatty():
        raise click.UsageError(f"This would {words}. Nobody can be asked here: add --yes.")
    to_change(words, yes=yes)
