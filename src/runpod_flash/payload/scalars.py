"""Single values of a request, as the types that a function asks for.

What comes is text (from a path, a query, a form) or what JSON has. Both are read by the same lenient rules, those of
Pydantic, whose words for what is wrong are also used: clients of FastAPI know them.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import pathlib
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final

Place = tuple[str | int, ...]
"""Where in a request a value stands: `("body", "items", 3)`."""
Convert = Callable[[Any, Place], Any]
"""Gives the value as its type, or raises Invalid."""

_TRUE: Final = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE: Final = frozenset({"0", "false", "f", "no", "n", "off"})


class Invalid(Exception):
    """A request does not fit; `errors` say where and why, as FastAPI shows them."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.errors = errors


def wrong(place: Place, kind: str, message: str) -> Invalid:
    """One thing that is wrong."""
    return Invalid([{"type": kind, "loc": list(place), "msg": message}])


def should_be(place: Place, kind: str, what: str) -> Invalid:
    """The usual sentence."""
    return wrong(place, kind, f"Input should be {what}")


def either(words: Iterable[object]) -> str:
    """`'a', 'b' or 'c'`."""
    *most, last = map(repr, words)
    return f"{', '.join(most)} or {last}" if most else last


# ── text and numbers ──────────────────────────────────────────────────────────────────────────────


def _to_str(value: Any, place: Place) -> str:
    if isinstance(value, str):
        return value
    raise should_be(place, "string_type", "a valid string")


def _to_bytes(value: Any, place: Place) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise should_be(place, "bytes_type", "a valid bytes")


def _to_int(value: Any, place: Place) -> int:
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            what = "a valid integer, unable to parse string as an integer"
            raise should_be(place, "int_parsing", what) from None
    if isinstance(value, float) and math.isfinite(value):
        if value.is_integer():
            return int(value)
        raise should_be(place, "int_from_float", "a valid integer, got a number with a fractional part")
    raise should_be(place, "int_type", "a valid integer")


def _to_float(value: Any, place: Place) -> float:
    if not isinstance(value, (float, int, str)):
        raise should_be(place, "float_type", "a valid number")
    try:
        number = float(value)
    except ValueError:
        what = "a valid number, unable to parse string as a number"
        raise should_be(place, "float_parsing", what) from None
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):  # no JSON could say it back
        raise should_be(place, "finite_number", "a finite number")
    return number


def _to_bool(value: Any, place: Place) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.lower()
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise should_be(place, "bool_parsing", "a valid boolean, unable to interpret input")
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    raise should_be(place, "bool_type", "a valid boolean")


def _to_none(value: Any, place: Place) -> None:
    if value is not None:
        raise should_be(place, "none_required", "None")


def _to_decimal(value: Any, place: Place) -> decimal.Decimal:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = decimal.Decimal(str(value))
        except decimal.InvalidOperation:
            raise should_be(place, "decimal_parsing", "a valid decimal") from None
        if number.is_finite():
            return number
        raise should_be(place, "finite_number", "a finite number")
    raise should_be(place, "decimal_type", "decimal must be an integer, float, string or Decimal object")


# ── days and times ────────────────────────────────────────────────────────────────────────────────


def _to_datetime(value: Any, place: Place) -> datetime.datetime:
    if isinstance(value, str):
        try:
            return datetime.datetime.fromisoformat(_iso(value))
        except ValueError:
            raise should_be(place, "datetime_parsing", "a valid datetime") from None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
        except (ValueError, OverflowError, OSError):
            raise should_be(place, "datetime_parsing", "a valid datetime, the number is out of range") from None
    raise should_be(place, "datetime_type", "a valid datetime")


def _to_date(value: Any, place: Place) -> datetime.date:
    if isinstance(value, str):
        try:
            return datetime.date.fromisoformat(value)
        except ValueError:
            raise should_be(place, "date_parsing", "a valid date in the format YYYY-MM-DD") from None
    raise should_be(place, "date_type", "a valid date")


def _to_time(value: Any, place: Place) -> datetime.time:
    if isinstance(value, str):
        try:
            return datetime.time.fromisoformat(_iso(value))
        except ValueError:
            raise should_be(place, "time_parsing", "in a valid time format") from None
    raise should_be(place, "time_type", "a valid time")


def _to_timedelta(value: Any, place: Place) -> datetime.timedelta:
    """Seconds, as a number."""
    try:
        return datetime.timedelta(seconds=_to_float(value, place))
    except (Invalid, OverflowError):
        raise should_be(place, "time_delta_parsing", "a valid timedelta, a number of seconds") from None


def _iso(text: str) -> str:
    """Python 3.10 does not know that Z is +00:00."""
    return f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text


# ── names of things ───────────────────────────────────────────────────────────────────────────────


def _to_uuid(value: Any, place: Place) -> uuid.UUID:
    if isinstance(value, str):
        try:
            return uuid.UUID(value)
        except ValueError:
            raise should_be(place, "uuid_parsing", "a valid UUID") from None
    raise should_be(place, "uuid_type", "a valid UUID")


def _to_path(value: Any, place: Place) -> pathlib.Path:
    if isinstance(value, str):
        return pathlib.Path(value)
    raise should_be(place, "path_type", "a valid path")


def to_enum(kind: type[enum.Enum]) -> Convert:
    """The member of that value; of a text also where the value is a number."""
    members = {member.value: member for member in kind if isinstance(member.value, (str, int, float))}
    texts = {str(value): member for value, member in members.items()}

    def convert(value: Any, place: Place) -> enum.Enum:
        found = members.get(value) if _hashable(value) else None
        if found is None and isinstance(value, str):
            found = texts.get(value)
        if found is None:
            raise should_be(place, "enum", either(member.value for member in kind))
        return found

    return convert


def to_literal(allowed: tuple[Any, ...]) -> Convert:
    """One of these; of a text also where a number is meant."""
    texts = {str(one): one for one in allowed}

    def convert(value: Any, place: Place) -> Any:
        for one in allowed:
            if one == value and type(one) is type(value):
                return one
        if isinstance(value, str) and value in texts:
            return texts[value]
        raise should_be(place, "literal_error", either(allowed))

    return convert


def _hashable(value: Any) -> bool:
    return isinstance(value, (str, int, float))


OF_TYPE: Final[dict[Any, Convert]] = {
    str: _to_str,
    bytes: _to_bytes,
    int: _to_int,
    float: _to_float,
    bool: _to_bool,
    type(None): _to_none,
    None: _to_none,
    decimal.Decimal: _to_decimal,
    datetime.datetime: _to_datetime,
    datetime.date: _to_date,
    datetime.time: _to_time,
    datetime.timedelta: _to_timedelta,
    uuid.UUID: _to_uuid,
    pathlib.Path: _to_path,
}
"""Type → how a value becomes one."""
