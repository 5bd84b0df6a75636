"""As much of GraphQL as programs of Runpod write: operations with arguments, values and selections.

`read` gives the fields that a query asks for; directives, fragments and type definitions are not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_TOKEN: Final = re.compile(
    r"""[\s,\ufeff]+|\#[^\n]*|(?P<block>\"{3}.*?\"{3})|(?P<string>"(?:\\.|[^"\\\n])*")|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<name>[_A-Za-z][_0-9A-Za-z]*)|(?P<mark>[{}()\[\]:!=$])""",
    re.VERBOSE | re.DOTALL,
)
_DEEPEST: Final = 40
_CONSTANTS: Final = {"true": True, "false": False, "null": None}


class BadQuery(ValueError):
    """It cannot be read; the message says where."""


class Field(NamedTuple):
    """A field that is asked for: under which name it is answered, with what arguments, and what of it."""

    name: str
    alias: str
    arguments: dict[str, Any]
    selection: list[Field]


class _Reader:
    """Takes tokens, from left to right."""

    def __init__(self, text: str, variables: Mapping[str, Any]) -> None:
        self._tokens = list(_tokens(text))
        self._variables = variables
        self._at = 0
        self._deep = 0

    def operation(self) -> list[Field]:
        """The fields of the first operation."""
        if self._peek() not in {"{", "query", "mutation"}:
            raise BadQuery(f"a query begins with query, mutation or {{, not {self._peek()!r}")
        while self._peek() != "{":  # its kind, name and variables
            if not self._take():
                raise BadQuery("the query has no selection")
        return self._selection()

    def _selection(self) -> list[Field]:
        self._deeper()
        self._want("{")
        found = []
        while self._peek() != "}":
            found.append(self._field())
        self._want("}")
        self._deep -= 1
        return found

    def _field(self) -> Field:
        alias = name = self._name()
        if self._peek() == ":":
            self._take()
            name = self._name()
        arguments = self._pairs("(", ")") if self._peek() == "(" else {}
        return Field(name, alias, arguments, self._selection() if self._peek() == "{" else [])

    def _pairs(self, begin: str, end: str) -> dict[str, Any]:
        self._want(begin)
        found = {}
        while self._peek() != end:
            name = self._name()
            self._want(":")
            found[name] = self._value()
        self._want(end)
        return found

    def _value(self) -> Any:
        self._deeper()
        found = self._plain()
        self._deep -= 1
        return found

    def _plain(self) -> Any:
        token = self._peek()
        if token == "{":
            return self._pairs("{", "}")
        if token == "[":
            return self._list()
        self._take()
        if token == "$":
            return self._variables.get(self._name())
        if token[:1] == '"' or (token[:1] in "-0123456789" and token):
            return _literal(token)
        if not token.isidentifier():
            raise BadQuery(f"a value is expected, not {token!r}")
        return _CONSTANTS.get(token, token)

    def _list(self) -> list[Any]:
        self._want("[")
        found = []
        while self._peek() != "]":
            found.append(self._value())
        self._want("]")
        return found

    def _name(self) -> str:
        token = self._take()
        if not token.isidentifier():
            raise BadQuery(f"a name is expected, not {token!r}")
        return token

    def _want(self, mark: str) -> None:
        if (token := self._take()) != mark:
            raise BadQuery(f"{mark!r} is expected, not {token!r}")

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        if self._at > len(self._tokens):
            raise BadQuery("the query ends too early")
        return token

    def _deeper(self) -> None:
        self._deep += 1
        if self._deep > _DEEPEST:
            raise BadQuery("the query is nested too deeply")


def read(text: str, variables: Mapping[str, Any]) -> list[Field]:
    """The fields that a query asks for. BadQuery."""
    return _Reader(text, variables).operation()


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise BadQuery(f"{text[at : at + 20]!r} cannot be read")
        if match.lastgroup is not None:
            found.append(match[0])
        at = match.end()
    return found


def _literal(token: str) -> Any:
    try:
        if token.startswith('"""'):
            return token[3:-3].strip()
        return json.loads(token)
    except ValueError:
        raise BadQuery(f"the value {token[:40]!r} cannot be read") from None
