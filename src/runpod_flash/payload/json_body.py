"""JSON text, and what a body of it says for each of the parameters that share it; so does the input of a queued job."""

from __future__ import annotations

import codecs
import json
from typing import Any, Final

from runpod_flash.payload.conversion import wrong_missing
from runpod_flash.payload.parameters import REQUIRED, Parameter, Parameters
from runpod_flash.payload.scalars import Convert, Place, wrong

ABSENT: Final = object()
"""Stands for a value that was not sent."""


class JsonBody:
    """Who gets what of a body; made once for a function."""

    def __init__(self, taken: Parameters) -> None:
        self._whole = taken.whole
        self._several = len(taken.body) > 1
        self._keys = {one.key for one in taken.body}

    def find(self, one: Parameter, body: Any) -> tuple[Any, Place]:
        """The value for one of them, or ABSENT, and where it stands, or should."""
        whole, key = self._whole, one.key
        if body is ABSENT:
            return ABSENT, ("body",) if one is whole else ("body", key)
        if whole is not None and not self._names(whole, body):
            return (body, ("body",)) if one is whole else (ABSENT, ("query", key))
        if not isinstance(body, dict):
            raise wrong(("body",), "dict_type", "Input should be a valid dictionary")
        return body.get(key, ABSENT), ("body", key)

    def _names(self, whole: Parameter, body: Any) -> bool:
        """Whether a body says which parameter each value is for, although one of them could take it whole."""
        if not isinstance(body, dict):
            return False
        if self._several:
            return whole.key in body or bool(body and body.keys() <= self._keys)
        return body.keys() == {whole.key} or whole.shape in ("list", "scalar")


def argument(one: Parameter, way: Convert, value: Any, place: Place) -> Any:
    """The argument that a value becomes; the default, where there is none."""
    if value is not ABSENT:
        return way(value, place)
    if one.default is REQUIRED and getattr(one.mark, "default_factory", None) is None:
        raise wrong_missing(place)
    return one.initial()


# ── text ──────────────────────────────────────────────────────────────────────────────────────────


def parse_json(data: bytes) -> Any:
    """The value, of what JSON allows: no NaN, no halves of characters, nothing without end."""
    try:
        text = data.removeprefix(codecs.BOM_UTF8).decode()
        value = _value_of(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is no JSON text in UTF-8"
        at = error.pos if isinstance(error, json.JSONDecodeError) else 0
        raise wrong(("body", at), "json_invalid", f"JSON decode error: {reason}") from None
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


_decoder: Final = json.JSONDecoder(parse_constant=_refuse)
_scan: Final = _decoder.scan_once  # type: ignore[attr-defined]  # typeshed leaves it out


def _value_of(text: str) -> Any:
    """The value that a text is. Programs write nothing around it; where there is more, or no JSON, all is looked at."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        value, end = None, -1
    return value if end == len(text) else _decoder.decode(text)
