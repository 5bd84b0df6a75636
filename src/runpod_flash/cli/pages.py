"""Help as a manual page has it: name, synopsis, description, options, examples, exit codes, see also."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

_USUAL_CODES: Final = {0: "done", 2: "wrong usage", 4: "no engine can be reached or started, or it refused"}


def examples(*lines: str) -> str:
    """The examples of a help page: each a command line, and behind two blanks what it is for."""
    return "\n".join(lines)


class Page(click.Command):
    """A verb whose `--help` is a manual page.

    `codes` are exit codes beyond the usual ones, `see` are other verbs; `epilog` comes from `examples`.
    """

    def __init__(
        self, *args: Any, codes: Mapping[int, str] | None = None, see: Sequence[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.codes = {**_USUAL_CODES, **(codes or {})}
        self.see = see

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the page."""
        write_page(self, ctx, formatter, codes=self.codes, see=self.see)


class Family(click.Group):
    """Verbs with a first word in common; their page lists them in the order in which they were added."""

    command_class = Page

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The most used first."""
        return list(self.commands)

    def terms(self) -> list[tuple[str, str]]:
        """Each verb, and what it does in a few words."""
        return [(name, _in_short(command)) for name, command in self.commands.items()]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the page."""
        see = [f"{ctx.info_name} VERB --help"]
        write_page(self, ctx, formatter, codes={}, see=see, parts={"COMMANDS": self.terms()})


def write_page(
    command: click.Command,
    ctx: click.Context,
    formatter: click.HelpFormatter,
    *,
    codes: Mapping[int, str],
    see: Sequence[str],
    parts: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> None:
    """Writes one page; `parts` are further lists of terms, between the options and the examples."""
    first, _, rest = inspect.cleandoc(command.help or "").partition("\n\n")
    name = f"{ctx.command_path} - {first[:1].lower()}{' '.join(first[1:].split()).rstrip('.')}"
    _text(formatter, "NAME", name)
    _text(formatter, "SYNOPSIS", " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]))
    if rest:
        _text(formatter, "DESCRIPTION", rest)
    shown = [one for one in command.get_params(ctx) if isinstance(one, click.Option)]
    options = [record for one in shown if (record := one.get_help_record(ctx)) is not None]
    for title, terms in {"OPTIONS": options, **(parts or {})}.items():
        _terms(formatter, title, terms)
    if command.epilog:
        _text(formatter, "EXAMPLES", "\b\n" + command.epilog)
    _terms(formatter, "EXIT CODES", [(str(code), words) for code, words in sorted(codes.items())])
    if see:
        _text(formatter, "SEE ALSO", ", ".join(f"flash {verb}" for verb in see))


def _in_short(command: click.Command) -> str:
    """The first sentence of its page."""
    return " ".join(inspect.cleandoc(command.help or "").partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


def _text(formatter: click.HelpFormatter, title: str, text: str) -> None:
    _heading(formatter, title)
    with formatter.indentation():
        formatter.write_text(text)


def _terms(formatter: click.HelpFormatter, title: str, terms: Sequence[tuple[str, str]]) -> None:
    if terms:
        _heading(formatter, title)
        with formatter.indentation():
            formatter.write_dl(terms)


def _heading(formatter: click.HelpFormatter, title: str) -> None:
    if formatter.getvalue():
        formatter.write_paragraph()
    formatter.write(f"{title}\n")
