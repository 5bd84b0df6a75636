"""What somebody typed for a parameter, read as its annotation says.

A *kind* is how the values of one annotation are written: `kind_of(list[int])` reads several words, `kind_of(Model)`
reads JSON. Whatever cannot be read is an `Unreadable`, whose text is a sentence about the word.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import pathlib
import types
import typing
import uuid
from collections import abc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from runpod_flash.errors import did_you_mean

Word = str | bytes
"""What was typed; bytes, if it came from a file or standard input."""

_LONGEST: Final = 60


class Unreadable(ValueError):
    """A word is no value of its parameter."""


@dataclass(frozen=True)
class Kind:
    """How values of an annotation are written."""

    label: str
    """What stands for a value in help."""
    read: Callable[[Word], Any]
    many: Callable[[Sequence[Word]], Any] | None = None
    """Reads several words at once: the flag may be repeated."""
    flag: bool = False
    """Written as `--name` and `--no-name`."""
    fields: tuple[str, ...] = ()
    """Of an object: those that may be written one by one, as `--name.field`."""
    build: Callable[[dict[str, Any]], Any] | None = None
    """Makes such an object from its fields."""


def kind_of(annotation: Any) -> Kind:
    """The kind that reads values of `annotation`; anything without one is JSON where it can be, else text."""
    annotation = _bare(annotation)
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return _choice(typing.get_args(annotation))
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(annotation))
    if _is_json_only(origin or annotation):
        return _object(annotation)
    if (make := _SEQUENCES.get(origin or annotation)) is not None:
        return _sequence(annotation, make)
    if isinstance(annotation, type):
        return _class(annotation)
    return _SIMPLE[Any]


def text(word: Word) -> str:
    """The word as text."""
    if isinstance(word, bytes):
        try:
            return word.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Unreadable(f"what was read is no UTF-8 text: {error.reason} at byte {error.start}") from None
    if not word.isascii() and any("\ud800" <= char <= "\udfff" for char in word):
        raise Unreadable(f"{shown(word)} is no UTF-8 text")
    return word


def shown(word: Word) -> str:
    """The word in a message: one line, not too long."""
    said = ascii(word) if isinstance(word, bytes) or not word.isprintable() else repr(word)
    return said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"


def json_of(word: Word) -> Any:
    """The JSON that the word holds."""
    said = text(word)
    try:
        return json.loads(said)
    except RecursionError:
        raise Unreadable("its JSON is nested too deeply") from None
    except ValueError as error:
        hint = "" if not said.strip() else "; in a shell, JSON stands in single quotes: '{\"a\": 1}'"
        raise Unreadable(f"{shown(word)} is no JSON: {error}{hint}") from None


def json_or_text(word: Word) -> Any:
    """JSON where it is that, else the text."""
    try:
        return json_of(word)
    except Unreadable:
        return text(word)


# ── one word ──────────────────────────────────────────────────────────────────────────────────────


def _simple(label: str, make: Callable[[str], Any], what: str) -> Kind:
    def read(word: Word) -> Any:
        said = text(word).strip()
        try:
            return make(said)
        except (ValueError, ArithmeticError):
            raise Unreadable(f"{shown(word)} is no {what}") from None

    return Kind(label, read)


def _bool(said: str) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if said.lower() not in known:
        raise ValueError
    return known[said.lower()]


def _null(said: str) -> None:
    if said.lower() not in ("null", "none", ""):
        raise ValueError


def _moment(said: str) -> datetime.datetime:
    # Before Python 3.11 its own reader knows no Z.
    return datetime.datetime.fromisoformat(f"{said[:-1]}+00:00" if said[-1:] in "Zz" and said else said)


def _duration(said: str) -> datetime.timedelta:
    import msgspec

    try:
        return datetime.timedelta(seconds=float(said))
    except ValueError:
        return msgspec.convert(said, datetime.timedelta)


def _bytes(word: Word) -> bytes:
    return word if isinstance(word, bytes) else word.encode("utf-8", "surrogateescape")


_SIMPLE: Final[dict[Any, Kind]] = {
    Any: Kind("VALUE", json_or_text),
    object: Kind("VALUE", json_or_text),
    str: Kind("TEXT", text),
    bytes: Kind("BYTES", _bytes),
    bytearray: Kind("BYTES", lambda word: bytearray(_bytes(word))),
    int: _simple("INT", lambda said: int(said, 10), "whole number"),
    float: _simple("NUMBER", float, "number"),
    complex: _simple("NUMBER", complex, "complex number, such as 1+2j"),
    bool: Kind("BOOL", _simple("BOOL", _bool, "true or false").read, flag=True),
    None: _simple("null", _null, "null"),
    type(None): _simple("null", _null, "null"),
    datetime.datetime: _simple("TIME", _moment, "time, such as 2026-03-01T14:05:09Z"),
    datetime.date: _simple("DATE", datetime.date.fromisoformat, "date, such as 2026-03-01"),
    datetime.time: _simple("TIME", datetime.time.fromisoformat, "time of day, such as 14:05:09"),
    datetime.timedelta: _simple("SECONDS", _duration, "duration, such as 90 (seconds) or PT1M30S"),
    decimal.Decimal: _simple("NUMBER", decimal.Decimal, "decimal number"),
    uuid.UUID: _simple("UUID", uuid.UUID, "UUID"),
}


def _choice(values: Sequence[Any]) -> Kind:
    """One of a few values, written as Python prints them."""
    known = {str(value): value for value in values}

    def read(word: Word) -> Any:
        said = text(word).strip()
        if said not in known:
            raise Unreadable(f"{shown(word)} is none of {', '.join(known)}.{did_you_mean(said, known)}")
        return known[said]

    return Kind("|".join(known), read)


def _enum(cls: type[enum.Enum]) -> Kind:
    """A member by its name, in any case, or by its value."""
    names = dict(cls.__members__)
    folded = {name.lower(): member for name, member in names.items()}
    values = {str(member.value): member for member in cls}

    def read(word: Word) -> enum.Enum:
        said = text(word).strip()
        for table, key in ((names, said), (values, said), (folded, said.lower())):
            if key in table:
                return table[key]
        raise Unreadable(f"{shown(word)} is none of {', '.join(names)}.{did_you_mean(said, [*names, *values])}")

    return Kind("|".join(names), read)


def _union(members: Sequence[Any]) -> Kind:
    """The first member that can read the word. Text comes last, since it can be read from anything."""
    real = [member for member in members if member is not type(None)]
    kinds = [kind_of(member) for member in sorted(real, key=_vagueness)]
    if len(kinds) == 1:
        only = kinds[0]
        if len(real) == len(members) or only.flag or only.many or only.label in ("TEXT", "BYTES", "VALUE"):
            return only
    if len(real) < len(members):
        kinds.insert(0, _SIMPLE[None])

    def read(word: Word) -> Any:
        problems = []
        for kind in kinds:
            try:
                return kind.read(word)
            except Unreadable as error:
                problems.append(str(error))
        raise Unreadable("; and ".join(dict.fromkeys(problems)))

    told = [kind for kind in kinds if kind.label != "null"]
    build = told[0].build if len(told) == 1 else None
    return Kind("|".join(kind.label for kind in told), read, fields=told[0].fields if build else (), build=build)


def _vagueness(member: Any) -> int:
    return _BY_VAGUENESS.get(_bare(member), 0)


_BY_VAGUENESS: Final = {bool: 1, int: 2, float: 3, complex: 4, Any: 5, str: 6, bytes: 7}


# ── several words ─────────────────────────────────────────────────────────────────────────────────

_SEQUENCES: Final[dict[Any, Callable[[Iterable[Any]], Any]]] = {
    list: list, tuple: tuple, set: set, frozenset: frozenset, abc.Sequence: list, abc.MutableSequence: list,
    abc.Iterable: list, abc.Collection: list, abc.Set: set, abc.MutableSet: set,
}  # fmt: skip


def _sequence(annotation: Any, make: Callable[[Iterable[Any]], Any]) -> Kind:
    inner = typing.get_args(annotation)
    fixed = make is tuple and bool(inner) and inner[-1] is not Ellipsis
    kinds = [kind_of(item) for item in inner if item is not Ellipsis] or [_SIMPLE[Any]]

    def read(word: Word) -> Any:
        return many([word])

    def many(words: Sequence[Word]) -> Any:
        if len(words) == 1 and (isinstance(words[0], bytes) or words[0].lstrip().startswith("[")):
            return _convert(json_of(words[0]), annotation)
        if fixed and len(words) != len(kinds):
            raise Unreadable(f"it takes {len(kinds)} values, and {len(words)} were given")
        each = kinds if fixed else kinds[:1] * len(words)
        try:
            return make(kind.read(word) for kind, word in zip(each, words, strict=True))
        except TypeError as error:  # a set of what cannot be in one
            raise Unreadable(str(error)) from None

    return Kind(" ".join(kind.label for kind in kinds), read, many)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────


def _is_json_only(kind: Any) -> bool:
    """Whether objects of a class are written as JSON objects."""
    import dataclasses

    if kind in (dict, abc.Mapping, abc.MutableMapping) or typing.is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return True
    if not isinstance(kind, type):
        return False
    return issubclass(kind, dict) or _is_model(kind) or hasattr(kind, "__struct_fields__") or hasattr(kind, "_fields")


def _object(annotation: Any) -> Kind:
    def build(found: Any) -> Any:
        return _convert(found, annotation)

    return Kind("JSON", lambda word: build(json_of(word)), fields=_fields(annotation), build=build)


def _class(cls: type) -> Kind:
    if issubclass(cls, enum.Enum):
        return _enum(cls)
    if issubclass(cls, pathlib.PurePath):
        return Kind("PATH", lambda word: cls(text(word)))
    for simple in (bool, int, float, str, bytes, decimal.Decimal, uuid.UUID, datetime.datetime, datetime.date):
        if issubclass(cls, simple):
            return _SIMPLE[simple] if cls is simple else _own(cls, _SIMPLE[simple])
    name = f"{cls.__module__}.{cls.__qualname__}"

    def refuse(word: Word) -> Any:
        raise Unreadable(
            f"a {name} cannot be written on a command line; write a remote function that makes it from text or JSON"
        )

    return Kind(cls.__qualname__, refuse)


def _own(cls: type, base: Kind) -> Kind:
    """A user's own kind of number or text."""

    def read(word: Word) -> Any:
        found = base.read(word)
        try:
            return cls(found)
        except Exception as error:  # noqa: BLE001 - the user's own constructor may raise anything
            raise Unreadable(f"{cls.__qualname__} does not take {shown(word)}: {error}") from None

    return Kind(base.label, read)


def _convert(found: Any, annotation: Any) -> Any:
    """JSON as an object of the annotation."""
    import msgspec

    _check_names(found, annotation)
    if _is_model(annotation):
        return _validated(annotation, found)
    try:
        return msgspec.convert(found, annotation, dec_hook=_hook, str_keys=True)
    except msgspec.ValidationError as error:
        raise Unreadable(f"its JSON does not fit {_name(annotation)}: {error}") from None
    except NotImplementedError:
        raise Unreadable(f"a {_name(annotation)} cannot be made from JSON") from None
    except Unreadable:
        raise
    except Exception as error:  # noqa: BLE001 - the user's class may raise anything while it is made
        raise Unreadable(f"{_name(annotation)} cannot be made from this JSON: {error}") from None


def _hook(cls: type, found: Any) -> Any:
    """What msgspec does not know. NotImplementedError is how its hooks say that they do not know either."""
    if _is_model(cls):
        return _validated(cls, found)
    if issubclass(cls, pathlib.PurePath) and isinstance(found, str):
        return cls(found)
    raise NotImplementedError


def _is_model(cls: Any) -> bool:
    """Whether that is a Pydantic model; the library is the user's, and may not be there."""
    return isinstance(cls, type) and hasattr(cls, "model_validate") and hasattr(cls, "model_fields")


def _validated(model: Any, found: Any) -> Any:
    try:
        return model.model_validate(found)
    except Exception as error:  # noqa: BLE001 - of a library that is not ours; a validator may raise anything as well
        told = getattr(error, "errors", None)
        if not callable(told):
            raise Unreadable(f"{_name(model)} does not take it: {error}") from None
        lines = [f"{'.'.join(map(str, one['loc'])) or 'it'}: {one['msg']}" for one in told()]
        raise Unreadable(f"its JSON does not fit {_name(model)}: {'; '.join(lines)}") from None


def _fields(annotation: Any) -> tuple[str, ...]:
    import dataclasses

    if _is_model(annotation):
        return tuple(field.alias or name for name, field in annotation.model_fields.items())
    if dataclasses.is_dataclass(annotation):
        return tuple(field.name for field in dataclasses.fields(annotation) if field.init)
    return tuple(getattr(annotation, "__annotations__", ())) if typing.is_typeddict(annotation) else ()


def _check_names(found: Any, annotation: Any) -> None:
    """A field that does not exist is a typing error, which libraries that ignore it would hide."""
    known = _fields(annotation)
    if not known or not isinstance(found, dict) or _is_model(annotation):
        return
    for name in found:
        if name not in known:
            raise Unreadable(f"{_name(annotation)} has no field {name!r}.{did_you_mean(name, known)}")


def _bare(annotation: Any) -> Any:
    """Without the wrappers that say nothing about how a value is written."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif (inner := getattr(annotation, "__supertype__", None)) is not None:  # NewType
            annotation = inner
        elif isinstance(annotation, typing.TypeVar):
            annotation = annotation.__bound__ or Any
        elif type(annotation).__name__ == "TypeAliasType":  # type X = … of Python 3.12
            annotation = annotation.__value__
        else:
            return annotation if _hashable(annotation) else Any


def _hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:
        return False
    return True


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
