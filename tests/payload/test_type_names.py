"""Named tuples, typed dictionaries, and what annotations are made of, from a program to where it is not.

What only newer versions of Python can read stands here as text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OLD = """
import typing
from typing import Callable, Generic, NamedTuple, NewType, ParamSpec, TypedDict, TypeVar

T = TypeVar("T", bound=int)
P = ParamSpec("P")
UserId = NewType("UserId", int)

class Point(NamedTuple):
    x: int
    y: str = "y"
    def both(self):
        return self.x, self.y

class Base(TypedDict, total=False):
    a: int

class Derived(Base):
    b: str

def timed(call: Callable[P, T]) -> Callable[P, T]:
    def inner(*args: P.args, **kwargs: P.kwargs) -> T:
        return call(*args, **kwargs)
    return inner

@timed
def doubled(x: UserId) -> int:
    return UserId(2 * x)
"""
SHOWN_OLD = """
point, made, derived, doubled, timed, T = sent
assert (point.both(), made(2)) == ((1, "y"), (2, "y")), point
assert made.__slots__ == () and not hasattr(point, "__dict__"), "nothing but its fields"
assert sorted(typing.get_type_hints(derived)) == ["a", "b"] and derived(b="b") == {"b": "b"}
assert doubled(2) == 4
hints = timed.__annotations__
assert hints["call"] == hints["return"] and hints["return"].__args__[1] is T and T.__bound__ is int
assert T.__module__ == "__main__"
"""

GENERIC = """
from typing import Unpack, TypeVarTuple

Ts = TypeVarTuple("Ts")

class Row(NamedTuple, Generic[T]):
    item: T

class Array(Generic[Unpack[Ts]]):
    pass
"""
SHOWN_GENERIC = """
row, made, array = sent
assert row.item == 1 and made[int](2) == (2,), row
assert array[int, str].__args__ == (int, str)
"""

STATEMENTS = """
type Plain = dict[str, int]
type Pair[T] = tuple[T, T]
type Json = dict[str, Json] | list[Json] | str
type Even[**P, *Ts, T] = Callable[P, Odd[P, Ts, T]] | int
type Odd[**P, *Ts, T] = list[Even] | tuple[P, T]

class Box[T]:
    def __init__(self, item: T):
        self.item = item
    def swapped[U](self, other: U) -> "Box[U]":
        return Box(other)

def same[**P, R](call: Callable[P, R], *rest: *tuple[Plain, Json]) -> Callable[P, R]:
    return call
"""
SHOWN_STATEMENTS = """
plain, pair, json, even, box, same = sent
assert plain.__value__ == dict[str, int] and plain.__module__ == "__main__"
assert pair[int].__origin__ is pair and pair.__value__ == tuple[pair.__type_params__ * 2]
assert json.__value__ == dict[str, json] | list[json] | str
assert str(even.__type_params__) == "(P, Ts, T)"
assert even.__value__.__args__[1] is int
assert box(1).swapped("x").item == "x"
assert same(len) is len and same.__annotations__["call"] == same.__annotations__["return"]
"""

DEFAULTS = """
class Shelf[T = int, **P = [str]]:
    pass

class Rows[*Ts = *tuple[int, ...]]:
    pass
"""
SHOWN_DEFAULTS = """
shelf, rows = sent
one, some = shelf.__parameters__
assert one.__default__ is int and some.__default__ == [str] and rows.__parameters__[0].has_default()
"""


@pytest.mark.parametrize(
    ("version", "defined", "sent", "shown"),
    [
        ((3, 10), OLD, "(Point(1), Point, Derived, doubled, timed, T)", SHOWN_OLD),
        ((3, 11), OLD + GENERIC, "(Row(1), Row, Array)", SHOWN_GENERIC),
        ((3, 12), OLD + STATEMENTS, "(Plain, Pair, Json, Even, Box, same)", SHOWN_STATEMENTS),
        ((3, 13), OLD + DEFAULTS, "(Shelf, Rows)", SHOWN_DEFAULTS),
    ],
    ids=["old", "generic", "statements", "defaults"],
)
def test_what_typing_makes_arrives_as_it_was(
    run: Callable[..., str], tmp_path: Path, version: tuple[int, int], defined: str, sent: str, shown: str
) -> None:
    if sys.version_info < version:
        pytest.skip("its syntax or its names are newer")
    parts = tmp_path / "parts"
    # The program that reads it is not the one that defines it.
    run(
        defined + f"x = codec.encode({sent})\n"
        f"bodies = {{d: TABLE.body(d) for d in x.defs}}\n"
        f"pathlib.Path({str(parts)!r}).write_bytes(pickle.dumps(([bytes(p) for p in x.parts], bodies)))\n"
    )
    run(
        f"parts, bodies = pickle.loads(pathlib.Path({str(parts)!r}).read_bytes())\n"
        "for digest, body in bodies.items(): TABLE.add(digest, body)\n"
        "import typing\nfrom typing import Callable\n"
        "sent = codec.decode(parts)\n" + shown
    )
