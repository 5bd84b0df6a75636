"""How a verb ends: its exit code, and what went wrong in words instead of a traceback."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from runpod_flash.cli.later import Home, Later
from runpod_flash.cli.pages import Family, write_page
from runpod_flash.errors import (
    ConfigError,
    EngineRefused,
    EngineUnavailable,
    FlashError,
    JobNotFound,
    QueueFull,
    StoreError,
    UsageError,
    did_you_mean,
)

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FAILED: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
ENGINE: Final = 4
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141
_NAMED: Final = 10
"""Names that a message lists."""

CODES: Final = {
    0: "done; an empty listing is no error",
    FAILED: "it did not work",
    USAGE: "wrong usage",
    NOT_FOUND: "there is no such job, or nothing of that name",
    ENGINE: "no engine can be reached or started, or it refused",
    INTERRUPTED: "Ctrl-C",
    PIPE_CLOSED: "the reader of stdout went away",
}
VARIABLES: Final = (
    ("FLASH_HOME", "the data folder; another one is another engine"),
    ("FLASH_DEBUG", "1: errors of Flash itself with their traceback"),
    ("NO_COLOR", "no colours"),
)


_MENDS: Final = {
    # What a disk refuses, and what to do about it. All else that goes wrong with a file is a bug of ours.
    errno.EACCES: "see whose it is: ls -ld {path} {folder}",
    errno.EPERM: "see whose it is: ls -ld {path} {folder}",
    errno.EROFS: "go to a folder on a disk that can be written: this one is mounted to be read only",
    errno.ENOSPC: "make room: df -h {folder}",
    errno.EDQUOT: "make room within your quota: df -h {folder}",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "see which part of the path is a file: ls -ld {folder}",
    errno.EIO: "the disk has an error: look at dmesg",
}


class Verbs(Family):
    """The commands, and the one place where an error that ends one of them is put into words."""

    def __init__(self, name: str | None = None, *, verbs: Mapping[str, Home], **kwargs: Any) -> None:
        super().__init__(name, commands=Later(verbs), **kwargs)
        self._verbs = verbs

    def terms(self) -> list[tuple[str, str]]:
        """Each verb, and what it does in a few words; none is loaded for it."""
        return [(name, words) for name, (_module, words) in self._verbs.items()]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What may stand here; none is loaded for it."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=words) for name, words in self.terms() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The page about all of it."""
        parts = {"COMMANDS": self.terms(), "ENVIRONMENT": VARIABLES}
        write_page(self, ctx, formatter, codes=CODES, see=("VERB --help",), parts=parts)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb that was asked for."""
        warn_of_claims()
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except FlashError as error:
            tell(error)
            ctx.exit(exit_code(error))
        except KeyboardInterrupt:
            click.echo(err=True)  # the next prompt starts on its own line, after ^C
            ctx.exit(INTERRUPTED)
        except BrokenPipeError:  # `flash jobs | head`: the reader has seen enough
            ctx.exit(PIPE_CLOSED)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, users get a sentence and developers a way in
            told = _in_words(error)
            tell(told, error)
            ctx.exit(exit_code(told))
        return result


class UnknownName(FlashError):
    """There is nothing of that name."""

    code = "unknown_name"


def unknown(
    what: str, name: str, known: Iterable[str], *, fix: str, nothing: str, also: Iterable[str] = ()
) -> UnknownName:
    """The error to raise, with what there is and, if that can be guessed, what was meant: a name, or one of `also`."""
    names = list(known)
    why = f"known: {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''}" if names else nothing
    meant = did_you_mean(name, [*names, *also])
    return UnknownName(f"{what}.{meant}" if meant else what, why=why, fix=fix)


def exit_code(error: FlashError) -> int:
    """The exit code that stands for this error."""
    if isinstance(error, (UsageError, ConfigError)):
        return USAGE
    if isinstance(error, (JobNotFound, UnknownName)):
        return NOT_FOUND
    if isinstance(error, (EngineUnavailable, EngineRefused, StoreError, QueueFull)):
        return ENGINE
    return FAILED


def tell(error: FlashError, cause: BaseException | None = None) -> None:
    """Says on stderr what went wrong, why, and what to type next; with FLASH_DEBUG=1 a traceback."""
    if _debug():
        import traceback

        cause = cause or error
        traceback.print_exception(type(cause), cause, cause.__traceback__, file=sys.stderr)
    click.echo(f"flash: {error}", err=True)


def warn_of_claims() -> None:
    """Says on stderr if another distribution has its files among ours: nothing else that is odd then has to be odd."""
    from runpod_flash import installation

    for claim in installation.claims():
        click.echo(f"flash: {FlashError(claim.what, why=claim.why, fix=claim.fix)}", err=True)


def close_output() -> None:
    """Lets go of stdout without a word if its reader is gone; else the interpreter complains at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _in_words(error: Exception) -> FlashError:
    """What is to be told of an error that is none of ours."""
    try:
        os.getcwd()
    except FileNotFoundError:
        why = "it was deleted, or moved away, while this shell was in it"
        return UsageError("the current folder is gone", why=why, fix="cd to one that is there")
    if isinstance(error, OSError) and error.filename is not None and error.errno in _MENDS:
        path = os.fsdecode(error.filename)
        places = {"path": shlex.quote(path), "folder": shlex.quote(os.path.dirname(path) or ".")}
        return FlashError(f"{path} cannot be used", why=error.strerror, fix=_MENDS[error.errno].format(**places))
    return FlashError(f"flash itself failed: {type(error).__name__}: {error}", fix="please report it")


def _debug() -> bool:
    from runpod_flash import settings

    try:
        return settings.load().debug
    except FlashError:  # perhaps the one that is to be told
        return False
