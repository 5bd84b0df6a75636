"""The JSON view of a result, for those who read it over HTTP or on the command line.

A value is tried as it is; only if that fails is it walked, to say where it stops being JSON.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import json.encoder
import math
import sys
from collections.abc import Callable
from typing import Any, Final

from runpod_flash.payload import models

LIMIT: Final = 64 * 1024
"""A result whose pickle is longer gets no view, unless its job came as JSON."""

_PLAIN = (str, int, bool, type(None))
_KEYS = (str, int, float, bool, type(None))


class NotJson(ValueError):
    """A value is not JSON; the message begins with the path to the place, such as `$.timestamp`."""


def view(value: Any) -> bytes:
    """The value as compact JSON; NotJson where there is none."""
    try:
        return _encode(value).encode()
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise NotJson(_walk("$", value, ()) or f"$ is not JSON: {error}") from None


def plain(value: Any) -> Any:
    """What JSON makes of a value that counts as JSON without being it; TypeError for all others."""
    if _is_numpy_scalar(value):
        return value.item()
    kind = type(value)
    if models.is_model(kind):
        return models.plain(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"{_name(value)} is not JSON")


def _encoder() -> Callable[[Any], str]:
    """The encoder of an object, made once and not for each value: a third of the time of a small one."""
    usual = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)
    if json.encoder.c_make_encoder is None:  # type: ignore[attr-defined]  # typeshed leaves it out
        return usual.encode
    # No table of what is open already: what contains itself goes too deep.
    pieces = json.encoder.c_make_encoder(  # type: ignore[attr-defined]  # as above
        None, plain, json.encoder.encode_basestring, None, ":", ",", False, False, False
    )
    return lambda value: "".join(pieces(value, 0))


_encode = _encoder()


def _walk(path: str, value: Any, above: tuple[int, ...]) -> str:
    """What is wrong at `path` or below, or nothing."""
    if isinstance(value, _PLAIN):
        return _wrong_text(path, value)
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"{path} is {value!r}, which JSON does not have"
    if id(value) in above:
        return f"{path} contains itself"
    above = (*above, id(value))
    if len(above) > 200:
        return f"{path[:80]}… is nested too deeply"
    if isinstance(value, dict):
        return next(filter(None, (_walk_item(path, key, item, above) for key, item in value.items())), "")
    if isinstance(value, (list, tuple)):
        return next(filter(None, (_walk(f"{path}[{i}]", item, above) for i, item in enumerate(value))), "")
    try:
        return _walk(path, plain(value), above)
    except TypeError:
        return f"{path} is {_article(_name(value))}"
    except Exception as error:  # noqa: BLE001 — a model that refuses to be dumped
        return f"{path} is {_article(_name(value))}, which fails to become JSON: {error}"


def _walk_item(path: str, key: Any, item: Any, above: tuple[int, ...]) -> str:
    if not isinstance(key, _KEYS):
        return f"{path} has the key {key!r}, {_article(_name(key))}"
    step = f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"
    return _wrong_text(path, key) or _walk(path + step, item, above)


def _wrong_text(path: str, value: Any) -> str:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{path} is text with lone surrogates, which cannot be sent"
    return ""


def _is_numpy_scalar(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic) and type(value.item()) is not type(value)


def _name(value: Any) -> str:
    kind = type(value)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "datetime") else f"{kind.__module__}.{kind.__qualname__}"
    )


def _article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
