"""Which function of an endpoint answers a method and a path. Pure: no engine is needed to know it.

    /models             itself
    /models/{name}      one piece, whatever it is, as `name`
    /files/{rest:path}  all that follows, slashes included

Of several that fit, the one that says more at the first piece where they differ. A slash at the end makes no
difference, unless both ways are declared. HEAD is answered by GET where nobody declares it. One that is declared for
all methods, an application, answers whatever nobody else does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from runpod_flash.model.options import ANY_METHOD, PATH_PARAMETER, canonical

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """Who answers, and what the path says."""

    target: T
    params: Mapping[str, str]


class _Pattern(Generic[T]):
    """A path with parameters, and who answers which method there."""

    def __init__(self, path: str) -> None:
        self.rank = [_rank(piece) for piece in path.split("/")]
        self.methods: dict[str, tuple[T, list[str]]] = {}  # each may have its own names for the parameters
        pieces, at = [], 0
        for found in PATH_PARAMETER.finditer(path):
            pieces += [re.escape(path[at : found.start()]), "(.*)" if found[2] else "([^/]+)"]
            at = found.end()
        self.match = re.compile("".join([*pieces, re.escape(path[at:])]), re.DOTALL).fullmatch


class Routes(Generic[T]):
    """The routes of one endpoint."""

    def __init__(self, routes: Iterable[tuple[str, str, T]]) -> None:
        """`routes` are method, path and who answers; of two for the same, the later one counts."""
        self._plain: dict[str, dict[str, T]] = {}
        self._rest: Found[T] | None = None
        patterns: dict[str, _Pattern[T]] = {}
        for method, path, target in routes:
            if method == ANY_METHOD:
                self._rest = Found(target, {})
            elif PATH_PARAMETER.search(path):
                pattern = patterns.setdefault(canonical(path), _Pattern(path))
                pattern.methods[method] = target, [name for name, _rest in PATH_PARAMETER.findall(path)]
            else:
                self._plain.setdefault(path, {})[method] = target
        self._patterns = sorted(patterns.values(), key=lambda pattern: pattern.rank)

    def find(self, method: str, path: str) -> Found[T] | None:
        """Who answers that."""
        methods = self._plain.get(path)
        if methods is not None and method in methods:
            return Found(methods[method], {})
        for one in _ways(method):
            for way in _slashes(path):
                if found := self._find(one, way):
                    return found
        return self._rest

    def allowed(self, path: str) -> list[str]:
        """The methods that are answered there; none: nobody answers there."""
        found: set[str] = set()
        for way in _slashes(path):
            found.update(self._plain.get(way, ()))
            for pattern in self._patterns:
                if pattern.match(way):
                    found.update(pattern.methods)
        if "GET" in found:
            found.add("HEAD")
        return sorted(found)

    def _find(self, method: str, path: str) -> Found[T] | None:
        methods = self._plain.get(path)
        if methods is not None and method in methods:
            return Found(methods[method], {})
        for pattern in self._patterns:
            if method in pattern.methods and (match := pattern.match(path)):
                target, names = pattern.methods[method]
                return Found(target, dict(zip(names, match.groups(), strict=True)))
        return None


def without_types(path: str) -> str:
    """As OpenAPI writes it: parameters by their names alone."""
    return PATH_PARAMETER.sub(r"{\1}", path)


def _rank(piece: str) -> int:
    found = PATH_PARAMETER.search(piece)
    return 0 if found is None else 3 if found[2] else 2 if found[0] == piece else 1


def _ways(method: str) -> tuple[str, ...]:
    return ("HEAD", "GET") if method == "HEAD" else (method,)


def _slashes(path: str) -> tuple[str, ...]:
    return (path, path[:-1] if path.endswith("/") else path + "/") if path != "/" else (path,)
