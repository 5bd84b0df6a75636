"""Immutable values with many optional fields: what every configuration class is made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn, TypeVar

from runpod_flash.errors import ConfigError, ImmutableError, UsageError, call_site, did_you_mean, shown, suggestion

V = TypeVar("V", bound="Value")

MASK: Final = "***"
DEEPEST: Final = 32
"""Lists and dicts in one another, in a configuration: more is a mistake, or one that holds itself."""
HIGHEST: Final = 2**47
"""Numbers above it are as good as this one, which every message and database can hold; in ms, 4,000 years."""


class Rule(NamedTuple):
    """What a field may hold: in words that follow "must be", and as a question to a value."""

    words: str
    holds: Callable[[Any], bool]
    fix: str | None = None


class FrozenList(list[Any]):
    """A list that cannot change, and so has a hash. Equal to any list of the same items."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise _cannot_change("a list in a configuration")

    append = extend = insert = remove = pop = clear = sort = reverse = _refuse
    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # a list has none, since it can change
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenList, (list(self),)


class FrozenDict(dict[str, Any]):
    """A dict that cannot change, and so has a hash. Equal to any dict of the same items."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise _cannot_change("a dict in a configuration")

    update = setdefault = pop = popitem = clear = _refuse
    __setitem__ = __delitem__ = __ior__ = _refuse

    def __hash__(self) -> int:  # type: ignore[override]  # nor has a dict
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)


class Value:
    """Base of frozen dataclasses that remember which fields were given, and refuse unknown ones by name.

    Equality and hash are by value, so that a default that is written out makes no difference.
    """

    rules: ClassVar[Mapping[str, Rule]] = {}
    """By field. A field that is None unless it is given may be given as None."""

    if not TYPE_CHECKING:  # type checkers read the dataclass fields instead

        def __new__(cls, /, *args: object, **given: object) -> Value:
            names = [field.name for field in fields(cls)]
            for name in given:
                if name not in names:
                    raise cls._unknown(name, given[name])
            cls._check_positions(args, given)
            value = object.__new__(cls)
            object.__setattr__(value, "_given", {**dict(zip(names, args, strict=False)), **given})
            return value

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            object.__setattr__(self, name, self._frozen(name, value))
        for name in self.given:
            self._check_rule(name)

    def _frozen(self, name: str, value: Any) -> Any:
        try:
            return freeze(value)
        except RecursionError:
            rule = f"no more than {DEEPEST} lists and dicts in one another"
            raise refusal(type(self).__name__, name, value, rule) from None

    def _check_rule(self, name: str) -> None:
        rule, value = self.rules.get(name), getattr(self, name)
        if rule is None or (value is None and getattr(type(self), name, MISSING) is None):
            return
        if not rule.holds(value):
            raise self._refuse_field(name, rule.words, rule.fix)

    @classmethod
    def _check_positions(cls, args: tuple[object, ...], given: Mapping[str, object]) -> None:
        """What Python would refuse by itself, with a place in the user's code and the line to write."""
        first = [field for field in fields(cls) if not field.kw_only]  # type: ignore[arg-type]  # each is a dataclass
        if len(args) > len(first):
            names = " and ".join(field.name for field in first)
            known = fields(cls)  # type: ignore[arg-type]  # as above
            other = next((field.name for field in known if field.kw_only), known[-1].name)
            raise UsageError(
                f"{cls.__name__} was given {len(args)} value{'s' if len(args) > 1 else ''} without a field's name",
                where=call_site(),
                why=f"only {names} can be written without its name"
                if names
                else "every field is written with its name",
                fix=f"write name=value, such as {cls.__name__}({other}=…)",
            )
        for position, field in enumerate(first):
            if position < len(args) and field.name in given:
                raise UsageError(
                    f"{cls.__name__} was given {field.name} twice",
                    where=call_site(),
                    why=f"{shown(args[position])} came first, and {field.name}={shown(given[field.name])} too",
                )
            if position >= len(args) and field.name not in given and field.default is MISSING:
                raise UsageError(
                    f"{cls.__name__} needs a {field.name}",
                    where=call_site(),
                    why=f"{field.name} has no default",
                    fix=f'write {cls.__name__}({field.name}="…")',
                )

    @property
    def given(self) -> dict[str, Any]:
        """What was written, by field; the other fields have their defaults."""
        return dict(vars(self)["_given"])

    def replace(self: V, **changes: Any) -> V:
        """A copy with other values in some fields."""
        return type(self)(**{**self.given, **changes})

    __replace__ = replace

    def __repr__(self) -> str:
        shown = (f"{name}={mask(name, getattr(self, name))!r}" for name in self.given)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.given)

    @classmethod
    def _unknown(cls, name: str, value: object) -> Exception:
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]  # each is a dataclass
        meant = suggestion(name, known)
        return UsageError(
            f"{cls.__name__} has no field {name!r}.{did_you_mean(name, known)}",
            where=call_site(),
            why="a field that does not exist would change nothing" if meant else f"its fields are {', '.join(known)}",
            fix=f"write {meant}={shown(mask(meant, value), 40)}" if meant else None,
        )

    def _refuse_field(self, name: str, rule: str, fix: str | None = None) -> ConfigError:
        return refusal(type(self).__name__, name, getattr(self, name), rule, fix)


def sealed(kind: type[V]) -> type[V]:
    """A frozen dataclass, or a plain subclass of one, whose refusal to change says what to do instead."""

    def refuse(self: V, name: str, *_: object) -> NoReturn:
        raise _cannot_change(f"{type(self).__name__}.{name}")

    for method in ("__setattr__", "__delattr__"):
        setattr(kind, method, refuse)
    return kind


def refusal(owner: str, field: str, value: object, rule: str, fix: str | None = None) -> ConfigError:
    """The error for a value that cannot be: names field, value, rule, and the line that wrote it."""
    return ConfigError(
        f"{owner}({field}={shown(mask(field, value))}) is not possible",
        where=call_site(),
        why=f"{field} must be {rule}",
        fix=fix,
    )


def freeze(value: Any, depth: int = 0) -> Any:
    """`value` with every list, dict and set in it made immutable; whatever else it is, it stays.

    RecursionError where they are too deep in one another, as one is that holds itself.
    """
    if depth > DEEPEST:
        raise RecursionError
    if isinstance(value, FrozenList | FrozenDict):
        return value
    if isinstance(value, list):
        return FrozenList(freeze(item, depth + 1) for item in value)
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item, depth + 1) for key, item in value.items()})
    if isinstance(value, AbstractSet):
        return frozenset(value)
    return value


def mask(name: str, value: Any) -> Any:
    """`value` as it may be shown: where `name` is `env`, without what the variables hold."""
    if name != "env" or value is None:
        return value
    if isinstance(value, dict):
        return {key: None if item is None else MASK for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_pair(item) for item in value]
    return MASK


def _mask_pair(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: part if key == "key" else MASK for key, part in item.items()}
    return item if hasattr(item, "key") else MASK  # a KeyValuePair masks itself


def is_count(value: object, least: int) -> bool:
    """Whether `value` is a whole number (no bool) and at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_duration(value: object) -> bool:
    """Whether `value` is a finite number (no bool), 0 or more."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def is_text(value: object) -> bool:
    """Whether `value` is a string that is not blank, and can be written down."""
    return isinstance(value, str) and bool(value.strip()) and is_unicode(value)


def is_name(value: object) -> bool:
    """Whether `value` is a text that stays on its line."""
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def is_unicode(text: str) -> bool:
    """Whether `text` has neither NUL nor halves of characters, so that it can travel."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def is_flag(value: object) -> bool:
    """Whether `value` is True or False."""
    return isinstance(value, bool)


def is_some(value: object) -> bool:
    """Whether `value` is a list, or a sequence like it, with something in it. A string is not."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) > 0


def _rebuild(kind: type[Value], given: dict[str, Any]) -> Value:
    return kind(**given)


def _cannot_change(what: str) -> ImmutableError:
    return ImmutableError(
        f"{what} cannot be changed",
        where=call_site(),
        why="a configuration is a value: what already uses it would not notice",
        fix="make another one: config.replace(workersMax=5), or write it where it is constructed",
    )
