"""The first page of a gallery: its categories, a card for each example, and ways into the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Final
from urllib.parse import quote

from runpod_flash.apps import bundled
from runpod_flash.apps.naming import title as title_of
from runpod_flash.apps.outline import Route
from runpod_flash.apps.schema import operation_id
from runpod_flash.apps.served import Served, State
from runpod_flash.errors import FlashError
from runpod_flash.web import swagger

_PAGE: Final = Path(__file__).with_name("index.html")
_CODE: Final = re.compile("`([^`]*)`")
_SHOWN: Final = 6
"""Routes of a card before the rest is folded away."""
_BAD: Final = ' class="bad"'
_WORDS: Final = {State.WAITING: "not loaded yet", State.LOADED: "ready", State.BROKEN: "broken"}


def page(title: str, root: str, examples: Sequence[Served], *, loading: bool) -> str:
    """The page. `root` is the path below which the whole app is served."""
    categories = [
        (category, list(those)) for category, those in groupby(examples, key=lambda served: served.example.category)
    ]
    sections = "".join(_section(category, those, root) for category, those in categories)
    return Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(title),
        root=escape(root),
        summary=_summary(examples),
        ways="".join(_way(category, those) for category, those in categories),
        several="" if len(categories) > 1 else "hidden",
        sections=sections or _NOTHING,
        loading="1" if loading else "",
        search="" if len(examples) > 1 else "hidden",
    )


def documentation(title: str, root: str) -> str:
    """The page of all routes, with the way back."""
    back = f'<a class="back" href="{escape(root)}/">← {escape(title)}</a>'
    return swagger.page(title, base=f"{root}/{bundled.FOLDER}", openapi=f"{root}/openapi.json", above=back)


_NOTHING: Final = (
    '<p class="nothing">No examples here yet. Make one: <code>flash init 01_getting_started/01_hello_world</code></p>'
)


def _summary(examples: Sequence[Served]) -> str:
    counts = [f"<b>{len(examples)}</b> example{'' if len(examples) == 1 else 's'}"]
    routes = sum(len(served.routes) for served in examples)
    counts.append(f"<b>{routes}</b> route{'' if routes == 1 else 's'}")
    if broken := sum(served.state is State.BROKEN for served in examples):
        counts.append(f'<b class="bad">{broken} broken</b>')
    return " · ".join(counts)


def _way(category: str, those: list[Served]) -> str:
    """To a category, further down on the page; with a mark where something is broken."""
    broken = sum(served.state is State.BROKEN for served in those)
    name, mark = escape(title_of(category)), f" · {broken} broken" if broken else ""
    return f'<a href="#{quote(category)}"{_BAD if broken else ""}>{name}{mark}</a>'


def _section(category: str, those: list[Served], root: str) -> str:
    cards = "".join(_card(served, root) for served in those)
    heading = f'<h2 id="{escape(category)}">{escape(title_of(category))} <span>{len(those)}</span></h2>'
    return f'<section>{heading}<div class="cards">{cards}</div></section>'


def _card(served: Served, root: str) -> str:
    example, state = served.example, served.state
    tag = f"{root}/docs#/{quote(example.tag, safe='')}"
    types = "".join(f'<span class="type">{escape(worker.type)}</span>' for worker in example.workers)
    parts = [
        f'<header><h3><a href="{escape(tag)}">{escape(example.title)}</a></h3>'
        f'<span class="state {state.value}" title="{_WORDS[state]}">{_WORDS[state]}</span></header>',
        f'<p class="place"><code>{escape(served.prefix)}</code>{types}</p>',
    ]
    if about := served.outline.about:
        parts.append(f'<p class="about">{escape(about)}</p>')
    if served.error is not None:
        parts.append(_reason(served, served.error))
    else:
        parts += [f'<p class="note">{_text(note)}</p>' for note in served.outline.notes]
    parts.append(_routes(served, tag))
    words = escape(f"{example.category} {example.name} {example.title} {about}".lower())
    return f'<article class="{state.value}" data-words="{words}">{"".join(parts)}</article>'


def _text(text: str) -> str:
    """With names in their own type."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _reason(served: Served, error: FlashError) -> str:
    """What is wrong, in which line of the example, and what to do."""
    said = [f"<p>{escape(served.namespace.plain(error.what))}</p>"]
    if error.where:
        place, _, line = error.where.partition("\n")
        place = place.removeprefix(f"{served.example.folder}/")
        said.append(f"<pre>{escape(place)}\n{escape(line)}</pre>" if line else f"<pre>{escape(place)}</pre>")
    if error.fix:
        said.append(f"<p>{escape(error.fix)}</p>")
    return f'<div class="reason">{"".join(said)}</div>'


def _routes(served: Served, tag: str) -> str:
    rows = list(_rows(served, tag))
    if not rows:
        return "" if served.error else '<p class="none">no routes</p>'
    folded = rows[_SHOWN:]
    more = f"<details><summary>{len(folded)} more</summary>{_list(folded)}</details>" if folded else ""
    return _list(rows[:_SHOWN]) + more


def _list(rows: Iterable[str]) -> str:
    return f"<ul>{''.join(rows)}</ul>"


def _rows(served: Served, tag: str) -> Iterator[str]:
    for route in served.routes:
        link = f"{tag}/{quote(operation_id(served.prefix, route.id), safe='')}" if route.id else tag
        yield (
            f'<li><a href="{escape(link)}">{_verb(route)}<code>{escape(route.path)}</code>'
            f"<span>{escape(route.summary)}</span></a></li>"
        )


def _verb(route: Route) -> str:
    first = route.methods.partition(",")[0]
    return f'<b class="verb {escape(first.lower())}">{escape(route.methods)}</b>'
