"""One OpenAPI document out of those of many apps."""

from __future__ import annotations

import copy
import json
import re
from typing import Any, Final

_REFERENCE: Final = re.compile(r"#/components/([^/]+)/(.+)")
_Names = dict[tuple[str, str], str]
"""Kind and name of a component, and the name that it has here."""
_VERBS: Final = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})


class Merged:
    """The document as it grows."""

    def __init__(self, title: str, version: str, description: str) -> None:
        self.document: dict[str, Any] = {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version, "description": description},
            "paths": {},
            "components": {},
            "tags": [],
        }

    def add(self, document: dict[str, Any], *, prefix: str, tag: str, about: str = "") -> None:
        """Takes in what one app describes, below its prefix and under its tag.

        Components of equal names and other contents are renamed; ids of operations get the prefix, as they have to be
        unique.
        """
        document = copy.deepcopy(document)
        word = _word(prefix)
        names = self._components(document.get("components", {}), word)
        _each_reference(document.get("paths", {}), names)
        for path, item in document.get("paths", {}).items():
            for verb, operation in item.items():
                if verb in _VERBS:
                    operation["tags"] = [tag]
                    _each_security(operation, names)
                    operation["operationId"] = operation_id(prefix, operation.get("operationId", f"{verb}{path}"))
            self.document["paths"][prefix + path] = item
        self.document["tags"].append({"name": tag, **({"description": about} if about else {})})

    def _components(self, components: dict[str, Any], word: str) -> _Names:
        """Takes in the components, and returns which of them have other names here."""
        names: _Names = {}
        for kind, those in components.items():
            known = self.document["components"].setdefault(kind, {})
            for name, body in those.items():
                if name in known and not _same(known[name], body):
                    names[kind, name] = f"{name}__{word}"
        for kind, those in components.items():
            _each_reference(those, names)
            for name, body in those.items():
                self.document["components"][kind][names.get((kind, name), name)] = body
        return names


def operation_id(prefix: str, operation: str) -> str:
    """The id that an app's operation has in the whole document."""
    return f"{_word(prefix)}__{operation}"


def _word(prefix: str) -> str:
    return re.sub(r"\W+", "_", prefix).strip("_")


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _each_reference(node: Any, names: _Names) -> None:
    """Changes every `$ref` below a node, where it stands."""
    if isinstance(node, list):
        for one in node:
            _each_reference(one, names)
    elif isinstance(node, dict):
        found = _REFERENCE.fullmatch(str(node.get("$ref", "")))
        if found and (new := names.get((found[1], found[2]))):
            node["$ref"] = f"#/components/{found[1]}/{new}"
        for one in node.values():
            _each_reference(one, names)


def _each_security(operation: dict[str, Any], names: _Names) -> None:
    """Security schemes are named, not referred to."""
    if "security" in operation:
        operation["security"] = [
            {names.get(("securitySchemes", name), name): scopes for name, scopes in one.items()}
            for one in operation["security"]
        ]
