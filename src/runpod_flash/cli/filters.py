"""How people say which jobs: by a status, a time, a name; and what they hear if there is no such thing."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from runpod_flash.cli import completing
from runpod_flash.cli.failures import unknown
from runpod_flash.errors import did_you_mean

if TYPE_CHECKING:
    from runpod_flash.cli.connection import Connection

Verb = TypeVar("Verb", bound=Callable[..., Any])

STATUSES: Final = ("IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
_UNITS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d|w)")
_LONGEST_MS: Final = 100 * 365 * 86_400_000
_KINDS: Final = {"endpoint": "endpoint", "fn": "function", "app": "app", "env": "environment"}


class Status(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """One status, or several with commas between them."""

    name = "status"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """In capitals, as the engine knows them."""
        if isinstance(value, tuple):
            return value
        found = tuple(part.strip().upper().replace("-", "_") for part in str(value).split(","))
        for one, typed in zip(found, str(value).split(","), strict=True):
            if one not in STATUSES:
                meant = did_you_mean(one, STATUSES)
                self.fail(f"there is no status {typed.strip()!r}.{meant} Known: {', '.join(STATUSES)}.", param, ctx)
        return found

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """The statuses that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(one) for one in STATUSES if one.startswith(incomplete.upper())]


class Span(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A length of time such as `90s`, `1h30m` or `2d`, in milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds."""
        if isinstance(value, int):
            return value
        found = span_ms(str(value))
        if found is None:
            self.fail(f"{value!r} is no length of time. Write it like 90s, 1h30m or 2d.", param, ctx)
        if found > _LONGEST_MS:
            self.fail(f"{value!r} is longer than a hundred years.", param, ctx)
        return found


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in new versions of click only
    """A moment in the past: `1h` ago, or a date with or without a time, of this machine's zone unless it has one."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Milliseconds since 1970."""
        if isinstance(value, int):
            return value
        ago = span_ms(str(value))
        if ago is not None and ago <= _LONGEST_MS:
            return round(time.time() * 1000) - ago
        try:
            # Before 3.11 a trailing Z is not understood.
            return round(datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", str(value).strip())).timestamp() * 1000)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time. Write it like 1h (ago), 2026-11-20 or 2026-11-20T10:00.", param, ctx)


def span_ms(text: str) -> int | None:
    """Milliseconds of `1h30m`; None if it is no length of time."""
    parts = _PART.findall(text.strip().lower())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip().lower():
        return None
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def named(*kinds: str) -> Callable[[Verb], Verb]:
    """The options that name things: of endpoint, function, app, env."""
    words = {
        "endpoint": ("--endpoint", "NAME", "Only of this endpoint (name or id).", completing.names("endpoint")),
        "function": ("--function", "NAME", "Only calls of this function.", completing.names("fn")),
        "app": ("--app", "NAME", "Only of this app.", completing.names("app")),
        "env": ("--env", "NAME", "Only of this environment of the app, such as dev.", completing.names("env")),
    }

    def add(verb: Verb) -> Verb:
        for kind in reversed(kinds):
            flag, metavar, words_of, complete = words[kind]
            verb = click.option(flag, metavar=metavar, help=words_of, shell_complete=complete)(verb)
        return verb

    return add


def refuse_unknown(engine: Connection, wanted: Mapping[str, Any]) -> None:
    """UnknownName if one of the names fits nothing; to be asked when nothing was found."""
    asked = {kind: wanted[kind] for kind in _KINDS if wanted.get(kind)}
    if not asked:
        return
    (known,), _ = engine.some("names", {}, 1)
    for kind, name in asked.items():
        also = _also(known, kind)
        if name not in known[kind] and name not in also:
            what, fix = f"there is no {_KINDS[kind]} {name!r}", "see what there is: flash ps --all"
            raise unknown(what, name, known[kind], fix=fix, nothing="nothing was called yet", also=also)


def _also(known: Mapping[str, list[str]], kind: str) -> list[str]:
    """What may be typed for it beside its names."""
    if kind == "endpoint":
        return known["endpoint_id"]
    if kind == "fn":
        return [name.rpartition(":")[2] for name in known["fn"]]
    return []
