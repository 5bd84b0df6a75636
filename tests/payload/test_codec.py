"""Values on their way to a worker and back."""

from __future__ import annotations

import asyncio
import io
import pickle
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from runpod_flash.errors import EncodingError
from runpod_flash.payload import codec
from runpod_flash.payload.definitions import TABLE, Definitions, MissingDefinition

Travel = Callable[..., str]


class Mine:
    def __init__(self, value: Any = None) -> None:
        self.value = value


def again(value: Any) -> Any:
    return codec.decode(codec.encode(value).parts)


@pytest.mark.parametrize(
    "value", [((1, 2.5, "three", b"4", None, True), {"k": [{1, 2}, {"a": ()}]}), ((), {}), 10**100, ...]
)
def test_builtin_values_arrive_as_they_were(value: Any) -> None:
    encoded = codec.encode(value)
    assert codec.decode(encoded.parts) == value
    assert encoded.defs == []


def test_large_buffers_are_parts_of_their_own_and_not_copied() -> None:
    array = numpy.arange(100_000.0)
    encoded = codec.encode(((array,), {}))
    assert len(encoded.parts) == 2
    assert numpy.shares_memory(numpy.frombuffer(encoded.parts[1]), array)
    assert len(codec.encode(((numpy.arange(10.0),), {})).parts) == 1


def test_arrays_are_writable_wherever_their_bytes_came_from() -> None:
    for size in (10, 100_000):
        parts = [bytes(part) for part in codec.encode(numpy.ones(size)).parts]
        array = codec.decode(parts)
        array[0] = 5


def test_a_read_only_array_stays_read_only() -> None:
    array = numpy.ones(100_000)
    array.flags.writeable = False
    assert not again(array).flags.writeable


def test_thousands_of_arrays_do_not_become_thousands_of_parts() -> None:
    arrays = [numpy.ones(4096) for _ in range(600)]
    encoded = codec.encode(arrays)
    assert len(encoded.parts) == 501
    assert all((a == b).all() for a, b in zip(codec.decode(encoded.parts), arrays, strict=True))


def test_the_users_own_classes_are_named_and_not_sent() -> None:
    encoded = codec.encode([Mine(1), Mine(2)])
    assert len(encoded.defs) == 1
    assert len(encoded.parts[0]) < 200
    found = codec.decode(encoded.parts)
    assert [type(one) for one in found] == [Mine, Mine]


def test_a_definition_is_made_once() -> None:
    first, second = codec.encode(Mine()), codec.encode(Mine())
    assert first.defs == second.defs
    assert TABLE.missing(first.defs) == []


def test_a_class_that_comes_back_is_not_changed() -> None:
    parts = codec.encode(Mine()).parts
    Mine.counter = 1  # type: ignore[attr-defined]
    try:
        codec.decode(parts)
        assert Mine.counter == 1  # type: ignore[attr-defined]
    finally:
        del Mine.counter  # type: ignore[attr-defined]


def test_classes_made_inside_functions_come_back_as_themselves_and_unchanged() -> None:
    class Local:
        colour = "red"

    parts = codec.encode(Local()).parts
    Local.colour = "blue"
    assert type(codec.decode(parts)) is Local
    assert Local.colour == "blue"


def test_functions_travel_by_value_with_their_closure() -> None:
    factor = 3
    assert again(lambda x: x * factor)(2) == 6


def test_installed_code_travels_by_name() -> None:
    assert again(numpy.sum) is numpy.sum
    assert again(Path) is Path
    assert len(codec.encode(numpy.sum).parts[0]) < 100


def test_a_definition_that_is_not_here_is_named() -> None:
    parts = codec.encode(Mine()).parts
    digest = codec.encode(Mine()).defs[0]
    stream = bytes(parts[0]).replace(digest.encode(), b"f" * 32).replace(b"Mine", b"Mime")
    with pytest.raises(MissingDefinition) as caught:
        codec.decode([stream])
    assert caught.value.digest == "f" * 32


def test_a_value_of_a_package_that_is_not_here_says_which() -> None:
    stream = pickle.dumps(Path("/")).replace(b"pathlib", b"nowhere")
    with pytest.raises(EncodingError, match="needs the module 'nowhere'"):
        codec.decode([stream])


# ── over to another process and back ─────────────────────────────────────────────────────────────

VALUES = [
    ("shop.Item('tea', 2)", "value == shop.Item('tea', 2) and type(value) is shop.Item"),
    ("shop.Size.LARGE", "value is shop.Size.LARGE"),
    ("shop.Pair(1, 2)", "value == shop.Pair(1, 2) and type(value) is shop.Pair"),
    ("shop.Order(items=[1])", "value == shop.Order(items=[1]) and type(value) is shop.Order"),
    ("shop.WideShelf()", "isinstance(value, shop.Shelf) and value.room() == 4"),
    ("shop.Box[int](5)", "type(value) is shop.Box and value.inside == 5"),
    ("shop.SoldOut('tea', 0)", "type(value) is shop.SoldOut and value.item == 'tea' and str(value) == '0 of tea left'"),
    ("shop.Slotted(1, [2])", "type(value) is shop.Slotted and value.b == [2]"),
    ("shop.Ticket(7)", "value == shop.Ticket(7) and type(value) is shop.Ticket"),
    ("shop.Hidden()", "type(value) is shop.Hidden and value.tell() == 4"),
    ("shop.Outer.Inner()", "type(value) is shop.Outer.Inner"),
    ("[shop.Chicken(), shop.Egg(1)]", "type(value[0]) is shop.Chicken and type(value[1]) is shop.Egg"),
    ("{shop.Size.SMALL: shop.Item}", "value == {shop.Size.SMALL: shop.Item}"),
]


@pytest.mark.parametrize(("make", "check"), VALUES, ids=[make for make, _ in VALUES])
def test_an_instance_comes_back_as_the_callers_own(there_and_back: Travel, make: str, check: str) -> None:
    assert there_and_back(make, look=check) == "True"


@pytest.mark.parametrize(
    ("make", "check"), VALUES[:4] + VALUES[6:7], ids=[make for make, _ in VALUES[:4] + VALUES[6:7]]
)
def test_a_program_that_attaches_later_gets_its_own_classes_too(there_and_back: Travel, make: str, check: str) -> None:
    assert there_and_back(make, look=check, new_program=True) == "True"


@pytest.mark.parametrize(
    ("make", "change", "look"),
    [
        ("shop.Chicken()", "value.lay().hatch().lay()", "type(value.mother) is shop.Chicken"),
        ("shop.Egg(None)", "type(value.hatch()).again().lay()", "type(value.mother) is shop.Chicken"),
        ("shop.WideShelf()", "value.room()", "value == 4"),
        ("shop.even", "[value(10), value(7)]", "value == [True, False]"),
        ("shop.Item", "__import__('dataclasses').replace(value('tea'), price=3.0)", "value == shop.Item('tea', 3.0)"),
        ("shop.Item", "[f.name for f in __import__('dataclasses').fields(value)]", "value == ['name', 'price']"),
        ("shop.Size", "list(value)", "value == [shop.Size.SMALL, shop.Size.LARGE]"),
        ("shop.Order", "value(items=['7'])", "value == shop.Order(items=[7])"),
        ("shop", "value.helper(1) + value.LIMIT", "value == 5"),
        ("(shop.Shelf, shop.WideShelf())", "isinstance(value[1], value[0])", "value"),
    ],
)  # fmt: skip
def test_classes_and_functions_work_where_their_module_is_not(
    there_and_back: Travel, make: str, change: str, look: str
) -> None:
    assert there_and_back(make, change, look) == "True"


def test_digests_are_the_same_in_every_process(run: Callable[..., str]) -> None:
    program = "import shop\nprint([pack_function(f).digest for f in (shop.even, shop.Chicken.lay, shop.Box.__init__)])"
    assert run(program) == run(program)


def test_classes_that_need_one_another_are_one_definition(run: Callable[..., str]) -> None:
    program = "import shop\nprint(codec.encode(shop.Egg(1)).defs == codec.encode(shop.Chicken()).defs)"
    assert run(program).strip() == "True"


def test_a_class_needs_the_definitions_of_its_bases(run: Callable[..., str]) -> None:
    program = (
        "import shop\nbase, = codec.encode(shop.Shelf).defs\nprint(codec.encode(shop.WideShelf()).defs[0] == base)"
    )
    assert run(program).strip() == "True"


def test_the_users_own_cloudpickle_is_not_touched(run: Callable[..., str]) -> None:
    program = "codec.encode(lambda: 1)\nprint('cloudpickle' in sys.modules, '_flash_cloudpickle' in sys.modules)"
    assert run(program).strip() == "False True"


def test_nothing_is_loaded_until_the_first_value_is_encoded(run: Callable[..., str]) -> None:
    assert run("print('_flash_cloudpickle' in sys.modules, 'inspect' in sys.modules)").startswith("False")


# ── what cannot travel ───────────────────────────────────────────────────────────────────────────


def refused(value: Any, names: list[str]) -> EncodingError:
    with pytest.raises(EncodingError) as caught:
        codec.encode(value, named=lambda: names)
    return caught.value


def test_an_argument_that_cannot_travel_is_named_with_the_mend(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+") as file:
        error = refused(((1,), {"f": file}), ["x"])
    assert error.what.startswith("argument 'f' holds an open file (<_io.TextIOWrapper name=")
    assert error.fix == "pass its path or its contents, and open it inside the function"


def test_the_path_leads_to_the_smallest_thing_in_the_way() -> None:
    value = {"model": Mine([1, Mine(threading.Lock())])}
    assert refused(((value,), {}), ["config"]).what.startswith("argument 'config'['model'].value[1].value holds a lock")


def test_a_function_in_the_way_says_what_it_uses() -> None:
    lock = threading.Lock()

    def use() -> None:
        lock.acquire()

    assert "argument 'callback' → 'lock' holds a lock" in refused(((use,), {}), ["callback"]).what


def test_each_kind_of_thing_has_its_words() -> None:
    generator = (x for x in "abc")
    loop = asyncio.new_event_loop()
    connection, ours = sqlite3.connect(":memory:"), socket.socket()
    try:
        for value, words in (
            (generator, "holds a generator"),
            (loop.create_future(), "holds a future"),
            (connection, "holds a database connection"),
            (ours, "holds a connection"),
            (io.BufferedReader(io.FileIO(0, closefd=False)), "holds an open file"),
            (threading.Event(), "holds a threading object"),
            (sys._getframe(), "holds a part of a running program"),
        ):
            assert words in refused(((value,), {}), ["x"]).what
    finally:
        loop.close()
        connection.close()
        ours.close()


def test_nesting_without_end_is_refused_in_words() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert "nested too deeply" in refused(((deep,), {}), ["x"]).what


def test_a_refusal_of_the_value_itself_passes() -> None:
    class Failed:
        def __reduce__(self) -> Any:
            raise EncodingError("this job failed")

    assert refused(((Failed(),), {}), ["x"]).what == "this job failed"


def test_closure_puts_what_is_needed_first() -> None:
    table = Definitions()
    table.add("c", b"", ["b"])
    table.add("b", b"", ["a"])
    table.add("a", b"", [])
    assert table.closure(["c", "a"]) == ["a", "b", "c"]
