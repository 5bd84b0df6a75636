"""Verbs that are known by name, and loaded when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module

import click

Home = tuple[str, str]
"""The module of this room that a verb is in, under its own name, and what it does in a few words."""


class Later(MutableMapping[str, click.Command]):
    """The commands of a group, each imported with the first look at it: `flash ps` is not to wait for `flash deploy`.

    All that click does with a group's commands goes through this: it knows no difference.
    """

    def __init__(self, homes: Mapping[str, Home]) -> None:
        self._homes = homes
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._loaded:
            module, _words = self._homes[name]
            self._loaded[name] = getattr(import_module(f"runpod_flash.cli.{module}"), name)
        return self._loaded[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._loaded[name] = command

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} cannot be taken away: the verbs are a table")

    def __contains__(self, name: object) -> bool:
        return name in self._homes or name in self._loaded  # the inherited one would load it

    def __iter__(self) -> Iterator[str]:
        return iter({**self._homes, **self._loaded})

    def __len__(self) -> int:
        return sum(1 for _ in self)
