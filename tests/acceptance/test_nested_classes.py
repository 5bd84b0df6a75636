"""Remote classes called from inside workers: their instances are the ones that programs reach, on a real engine."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, JobHandle, remote

pytestmark = pytest.mark.usefixtures("engine")


callers = CpuLiveServerless(name="callers")
shelves = CpuLiveServerless(name="shelves")
counters = CpuLiveLoadBalancer(name="counters", workersMax=2)
librarians = CpuLiveServerless(name="librarians")


class Shelf:
    """What both kinds of endpoint have."""

    def __init__(self, name: str, limit: int = 100) -> None:
        self.name = name
        self.limit = limit
        self.books: list[str] = []

    async def add(self, book: str) -> tuple[int, int]:
        import os

        if len(self.books) >= self.limit:
            raise Full(self.name)
        self.books.append(book)
        return len(self.books), os.getpid()

    def each(self) -> Iterator[str]:
        yield from self.books


class Full(Exception):
    pass


QueueShelf: Any = remote(shelves)(Shelf)
DirectShelf: Any = remote(counters)(Shelf)


@remote(librarians)
class Librarian:
    def __init__(self, shelf: Any) -> None:
        self.shelf = shelf

    async def keep(self, book: str) -> Any:
        return (await self.shelf.add(book)).unwrap()


@remote(callers)
async def add_to_queue(name: str, book: str) -> Any:
    return (await QueueShelf(name).add(book)).unwrap()


@remote(callers)
async def add_directly(name: str, book: str) -> Any:
    return await DirectShelf(name).add(book)


@remote(callers)
async def add_given(shelf: Any, book: str) -> Any:
    return (await shelf.add(book)).unwrap()


@remote(callers)
async def call_given_method(method: Any, book: str) -> Any:
    return (await method.with_options(timeout=20)(book)).unwrap()


@remote(callers)
async def read_all(name: str) -> list[str]:
    return [book async for book in QueueShelf(name).each.stream()]


@remote(callers)
async def leave_a_book(name: str, book: str) -> Any:
    return (await QueueShelf(name).add.spawn(book)).id


@remote(callers)
async def keep_with(name: str, book: str) -> Any:
    librarian: Any = Librarian(QueueShelf(name))
    return (await librarian.keep(book)).unwrap()


@remote(callers)
async def overfill(name: str) -> Any:
    shelf = QueueShelf(name, limit=1)
    await shelf.add("one")
    try:
        (await shelf.add("two")).unwrap()
    except Full as full:
        return f"{full.args[0]} is full"
    return "it had room"


class Desk:
    """A plain class, sent once, that both functions below use."""

    async def pass_on(self, name: str, book: str) -> Any:
        return (await QueueShelf(name).add(book)).unwrap()


@remote(callers)
async def through_a_desk(name: str, book: str) -> Any:
    return await Desk().pass_on(name, book)


@remote(callers)
async def through_the_same_desk(name: str, book: str) -> Any:
    return await Desk().pass_on(name, book)


@remote(callers)
async def make_its_own(book: str) -> None:
    @remote(CpuLiveServerless(name="made"))
    class Made:
        async def add(self, book: str) -> None: ...

    await Made().add(book)


def test_a_queue_worker_reaches_the_instance_that_the_program_has() -> None:
    async def both() -> list[tuple[int, int]]:
        mine = (await QueueShelf("one").add("a")).unwrap()
        theirs = (await add_to_queue("one", "b")).unwrap()
        other = (await add_to_queue("another", "c")).unwrap()
        return [mine, theirs, other]

    (first, home), (second, there), (third, _) = asyncio.run(both())

    assert (first, second, third) == (1, 2, 1)
    assert home == there != os.getpid()


def test_a_load_balanced_instance_is_shared_with_workers_as_well() -> None:
    async def both() -> list[tuple[int, int]]:
        return [await DirectShelf("one").add("a"), (await add_directly("one", "b")).unwrap()]

    (first, home), (second, there) = asyncio.run(both())

    assert (first, second) == (1, 2)
    assert home == there


def test_handles_and_methods_arrive_as_arguments() -> None:
    shelf = QueueShelf("given")

    assert add_given.sync(shelf, "a").unwrap()[0] == 1
    assert call_given_method.sync(shelf.add, "b").unwrap()[0] == 2


def test_an_instance_calls_the_instance_that_it_was_constructed_with() -> None:
    assert keep_with.sync("kept", "a").unwrap()[0] == 1
    librarian: Any = Librarian(QueueShelf("kept"))
    assert librarian.keep.sync("b").unwrap()[0] == 2


def test_a_method_streams_to_a_worker_and_is_spawned_by_one() -> None:
    spawned: JobHandle[tuple[int, int]] = JobHandle(leave_a_book.sync("read", "a").unwrap(), "add")
    spawned.sync.result(timeout=30)

    assert read_all.sync("read").unwrap() == ["a"]


def test_an_exception_of_a_method_keeps_its_type_in_the_worker() -> None:
    assert overfill.sync("small").unwrap() == "small is full"


def test_two_functions_call_through_one_plain_class() -> None:
    assert through_a_desk.sync("desk", "a").unwrap()[0] == 1
    assert through_the_same_desk.sync("desk", "b").unwrap()[0] == 2


def test_a_class_that_was_made_in_the_worker_is_refused_with_the_reason() -> None:
    result = make_its_own.sync("a")

    assert result.error is not None
    assert "Made cannot be called from this worker" in result.error or "add cannot be called" in result.error
    assert "decorate it in your program" in result.error


def test_a_class_of_a_module_that_travels_as_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stock.py").write_text(
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless(name='stock'))\n"
        "class Stock:\n"
        "    def __init__(self, name): self.n = 0\n"
        "    async def add(self, by):\n"
        "        self.n += by\n"
        "        return self.n\n"
        "ours = Stock('ours')\n"
    )
    (tmp_path / "shop.py").write_text(
        "from runpod_flash import CpuLiveServerless, remote\n"
        "@remote(CpuLiveServerless(name='shop'))\n"
        "async def buy(n):\n"
        "    import stock\n"
        "    return (await stock.ours.add(n)).unwrap()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import shop  # type: ignore[import-not-found]
    import stock  # type: ignore[import-not-found]

    try:
        assert shop.buy.sync(2).unwrap() == 2
        assert stock.ours.add.sync(3).unwrap() == 5
    finally:
        del sys.modules["shop"], sys.modules["stock"]
