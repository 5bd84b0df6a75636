"""Functions as definitions."""

from __future__ import annotations

import linecache
import threading
from collections.abc import Callable
from typing import Any

import pytest

from runpod_flash.errors import EncodingError
from runpod_flash.payload.definitions import TABLE
from runpod_flash.payload.functions import load_function, pack_function

LOCK = threading.Lock()
STATE = {"count": 0}


class Thing:
    pass


def test_a_function_is_made_anew_with_a_snapshot_of_what_it_captures() -> None:
    def read() -> int:
        return STATE["count"]

    packed = pack_function(read)
    STATE["count"] = 9
    try:
        assert load_function(packed.digest)() == 0
    finally:
        STATE["count"] = 0


def test_loading_twice_gives_the_same_function_until_it_is_forgotten() -> None:
    def one() -> int:
        return 1

    digest = pack_function(one).digest
    first = load_function(digest)
    assert load_function(digest) is first
    TABLE.forget(digest)
    assert load_function(digest) is not first


def test_the_definitions_come_in_the_order_in_which_they_load() -> None:
    def make() -> Any:
        return Thing()

    packed = pack_function(make)
    assert packed.defs[-1] == packed.digest
    assert len(packed.defs) == 2
    assert type(load_function(packed.digest)()) is Thing


def test_a_function_that_uses_what_cannot_travel_says_what() -> None:
    def work() -> None:
        LOCK.acquire()

    with pytest.raises(EncodingError) as caught:
        pack_function(work)
    assert caught.value.what.startswith(
        "function 'test_a_function_that_uses_what_cannot_travel_says_what.<locals>.work' → 'LOCK' holds a lock"
    )


def test_the_source_goes_along_and_is_shown_where_the_file_is_not(run: Callable[..., str]) -> None:
    program = (
        "import linecache\n"
        "linecache.cache['<cell 1>'] = (10, None, ['\\n', 'def f(x):\\n', '    return 1 / x\\n'], '<cell 1>')\n"
        "namespace = {'__name__': '__main__'}\n"
        "exec(compile('\\ndef f(x):\\n    return 1 / x\\n', '<cell 1>', 'exec'), namespace)\n"
        "packed = pack_function(namespace['f'])\n"
        "del linecache.cache['<cell 1>']\n"
        "load_function(packed.digest)\n"
        "print(linecache.getline('<cell 1>', 3))\n"
    )
    assert run(program).strip() == "return 1 / x"


def test_blocks_of_one_file_stand_at_their_lines() -> None:
    from runpod_flash.payload.definitions import show_sources

    show_sources({"<blocks>": {3: ["third\n"]}})
    show_sources({"<blocks>": {1: ["first\n"]}})
    assert linecache.getlines("<blocks>") == ["first\n", "\n", "third\n"]
