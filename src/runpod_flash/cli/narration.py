"""What `flash run` tells the person at the terminal: routes at the start, and what changes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from runpod_flash.apps import stream
from runpod_flash.apps.target import Target
from runpod_flash.cli import views

_ROUTES: Final = 40
"""Of a large gallery; its index has them all."""


class Narration:
    """Tells what the supervisor does."""

    def __init__(self, target: Target, url: str) -> None:
        self._target = target
        self._url = url
        self._routes: set[tuple[str, str]] | None = None

    def loading(self, *, serving: bool) -> None:
        """The app takes a while to load."""
        until = "the version before answers until then" if serving else "requests wait until then"
        self._line("loading", f"{self._target.file or 'the project'} takes a while; {until}")

    def loaded(self, facts: Mapping[str, Any], *, seconds: float) -> None:
        """The app serves: the first time with its routes, then with those that came or went."""
        routes = {(route["methods"], route["path"]) for route in facts.get("routes", ())}
        if self._routes is None:
            self._introduce(facts, seconds)
        else:
            self._line("reloaded", "  ".join([_seconds(seconds), *_difference(self._routes, routes)]))
        self._routes = routes

    def failed(self, error: str, *, serving: bool, watching: bool) -> None:
        """The app cannot be served as it is."""
        views.note(f"flash: {error}")
        if serving:
            self._line("not reloaded", "the version before your change goes on")
        elif watching:
            self._line("waiting", "for a change; until then, requests are answered with this error")

    def changed(self, paths: list[Path]) -> None:
        """Files of the project are others now."""
        names = [os.path.relpath(path, self._target.folder) for path in paths]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        self._line("changed", ", ".join(names[:3]) + more)

    def unwatched(self, why: str) -> None:
        """Files cannot be watched any more."""
        self._line("not watching", f"{why}; what is served goes on, changes are not seen: Ctrl-C, and start it again")

    def ended(self, code: int) -> None:
        """The process that serves is gone, and nobody told it to go."""
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._line("ended", f"the process that served went away with {how}; saving a file starts it again")

    def _introduce(self, facts: Mapping[str, Any], seconds: float) -> None:
        link = stream.styled(self._url, stream.LINK)
        views.note(f"\n{stream.styled(views.clean(facts['title']), stream.BOLD)}  {link}")
        if facts["docs"]:
            views.note(f"{stream.styled('every route, to try out:', stream.DIM)}  {link}{facts['docs']}")
        views.note("")
        routes = facts.get("routes", ())
        for line in _table(routes[:_ROUTES]):
            views.note(line)
        if len(routes) > _ROUTES:
            views.note(stream.styled(f"… and {len(routes) - _ROUTES} more: {self._url}", stream.DIM))
        views.note(stream.styled(f"\nloaded in {_seconds(seconds)}; Ctrl-C stops\n", stream.DIM))

    @staticmethod
    def _line(what: str, rest: str) -> None:
        stream.write(stream.note(what, views.clean(rest)))


def _table(routes: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Method, path and first line of each; the last is cut where a terminal is narrow, the others never are."""
    room = shutil.get_terminal_size().columns if sys.stderr.isatty() else 1000
    rows = [[views.clean(route[name]) for name in ("methods", "path", "summary")] for route in routes]
    methods, paths = (max((len(row[n]) for row in rows), default=0) for n in (0, 1))
    for method, path, summary in rows:
        left = max(room - methods - paths - 5, 20)
        told = summary if len(summary) <= left else f"{summary[: left - 1]}…"
        head = f"{stream.styled(f'{method:<{methods}}', stream.GOOD)}  {path:<{paths}}"
        yield f"{head}   {stream.styled(told, stream.DIM)}".rstrip()


def _difference(before: set[tuple[str, str]], now: set[tuple[str, str]]) -> Iterator[str]:
    yield from (f"+ {methods} {path}" for methods, path in sorted(now - before))
    yield from (f"- {methods} {path}" for methods, path in sorted(before - now))


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s"
