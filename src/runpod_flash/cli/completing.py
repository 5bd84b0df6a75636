"""What a shell may complete: ids of jobs, and names of what is declared.

Asked of an engine that runs; none is started because somebody pressed a key, and whatever goes wrong completes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from runpod_flash.cli import views

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]

_JOBS: Final = 200


def names(kind: str) -> Complete:
    """Names of that kind: endpoint, fn, app, env."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [str(name) for row in _ask("names", {}) for name in row.get(kind, ())]
        if kind == "fn":  # the short name is what people type; the whole one has a colon, where bash breaks words
            found = sorted({name.rpartition(":")[2] for name in found})
        return _items([(name, "") for name in found if name.startswith(incomplete)])

    return complete


def jobs(statuses: Sequence[str] = ()) -> Complete:
    """Jobs in these statuses, by the end of their ids as tables show it, or by the whole id if that was begun."""

    def complete(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        rows = _ask("jobs", {"status": list(statuses)} if statuses else {})
        told = {row["job"]: f"{row['fn']} {row['status']}" for row in rows}
        ends = [(job[-views.SHORT_ID :], words) for job, words in told.items()]
        whole = list(told.items()) if incomplete else []
        return _items([item for item in (*ends, *whole) if item[0].startswith(incomplete)])

    return complete


def _ask(what: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    from runpod_flash.cli.connection import connect_running

    try:
        link = connect_running()
        if link is None:
            return []
        with link:
            return link.some(what, wanted, _JOBS)[0]
    except Exception:  # noqa: BLE001 - the shell is in the middle of a line of somebody's typing
        return []


def _items(found: Sequence[tuple[str, str]]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(value, help=words or None) for value, words in found]
