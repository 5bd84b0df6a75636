"""What is refused before anything is sent, with its words; and what is not."""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import types
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runpod_flash import CpuLiveServerless, remote
from runpod_flash.client.shipment import Shipment, prepare
from runpod_flash.errors import ScopeError

if TYPE_CHECKING:
    from runpod_flash.nowhere import Nothing  # type: ignore[import-not-found]

config = CpuLiveServerless("shipment")
FILE = Path(__file__)

LIMIT = 3
RESULTS: list[int] = []
GROUPS: dict[str, list[int]] = collections.defaultdict(list)
LOCK = threading.Lock()
SETTINGS: dict[str, dict[str, list[Any]]] = {"depth": {"log": []}}  # an open file, see `open_log`
OPENAI_API_KEY = "sk-123"
TOKEN = os.environ.get("TOKEN_OF_THE_TESTS", "t")
TABLE = np.zeros(1_000_000)
sort_key, password = "name", ""
log = logging.getLogger("shipment")
bound = RESULTS.append
part = functools.partial(json.dumps, indent=1)


@pytest.fixture(scope="module", autouse=True)
def open_log() -> Iterator[None]:
    """What is captured is open while it is judged."""
    with open(os.devnull) as file:
        SETTINGS["depth"]["log"].append(file)
        yield
    SETTINGS["depth"]["log"].clear()


def ready(function: Any, *declared: str, strict: bool = False) -> Shipment:
    return prepare(getattr(function, "__wrapped__", function), declared, strict=strict)


def refused(function: Any, *declared: str, strict: bool = False) -> ScopeError:
    with pytest.raises(ScopeError) as caught:
        prepare(function, declared, strict=strict)
    return caught.value


def load_model() -> int:
    return LIMIT


def everything(x: int) -> Any:
    with LOCK:
        y = load_modle(x)  # type: ignore[name-defined] # noqa: F821
    RESULTS.append(y)
    GROUPS["a"].append(y)
    SETTINGS["depth"]["log"][0].write("x")
    import tensorflwo  # type: ignore[import-not-found]

    return tensorflwo, OPENAI_API_KEY, TOKEN, TABLE


def test_everything_that_cannot_travel_is_told_at_once_with_its_places_and_mends() -> None:
    error = refused(everything, "numpy")
    line = everything.__code__.co_firstlineno

    def of(name: str) -> int:
        return next(n for n, text in enumerate(FILE.read_text().splitlines(), 1) if text.startswith(name))

    assert str(error) == textwrap.dedent(
        f"""\
        everything() uses 9 names that cannot travel to its worker:

          LOCK  is a lock (<unlocked _thread.lock object>)
            defined  {FILE}:{of("LOCK")}
            used     {FILE}:{line + 1}
            fix      make it inside the function; it means nothing in another process

          load_modle  is defined nowhere. Did you mean 'load_model'?
            used     {FILE}:{line + 2}
            fix      write load_model

          RESULTS  is changed by it (RESULTS.append(…)): this would change a copy in the worker, which nobody sees
            defined  {FILE}:{of("RESULTS")}
            used     {FILE}:{line + 3}
            fix      return the value, or keep it inside the function

          GROUPS  is changed by it (GROUPS['a'].append(…)): this would change a copy in the worker, which nobody sees
            defined  {FILE}:{of("GROUPS")}
            used     {FILE}:{line + 4}
            fix      return the value, or keep it inside the function

          SETTINGS  holds, at SETTINGS['depth']['log'][0], an open file (<_io.TextIOWrapper name='/dev/null' mode='r' encoding='UTF-8'>)
            defined  {FILE}:{of("SETTINGS")}
            used     {FILE}:{line + 5}
            fix      pass its path or its contents, and open it inside the function

          tensorflwo  is a module that is neither among its dependencies nor installed here
            used     {FILE}:{line + 6}
            fix      @remote(…, dependencies=["numpy", "tensorflwo"]), or catch the ImportError where it is imported

          OPENAI_API_KEY  looks like a secret, which would be written to disk with the function
            defined  {FILE}:{of("OPENAI_API_KEY")}
            used     {FILE}:{line + 8}
            fix      @remote(…, env={{"OPENAI_API_KEY": None}}), and os.environ["OPENAI_API_KEY"] in the function

          TABLE  is 7.6 MiB of data, and at most 1 MiB may travel with a function
            defined  {FILE}:{of("TABLE")}
            used     {FILE}:{line + 8}
            fix      pass it as an argument, or let the function read it from a file

          TOKEN  looks like a secret, which would be written to disk with the function
            defined  {FILE}:{of("TOKEN")}
            used     {FILE}:{line + 8}
            fix      @remote(…, env={{"TOKEN_OF_THE_TESTS": None}}), and os.environ["TOKEN_OF_THE_TESTS"] in the function

          where: {FILE}:{line}
          why:   a worker is another process: it has what the function holds and brings along, and nothing else of this program
          fix:   mend what is listed; flash check {FILE} finds such things without running them"""  # noqa: E501 - as it is shown
    )


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(*args: Any) -> Any:
        return function(*args)

    return around


@decorated
def wrapped() -> Any:
    RESULTS.append(1)
    return nothing_at_all  # type: ignore[name-defined] # noqa: F821


def assigns() -> None:
    global LIMIT
    LIMIT += 1


def with_default(lock: Any = LOCK) -> Any:
    return lock


def through_a_helper() -> Any:
    return needs_nothing()


def needs_nothing() -> Any:
    return nothing_at_all  # type: ignore[name-defined] # noqa: F821


def many_megabytes(lists: Any = None) -> Any:
    return NUMBERS


NUMBERS = [2**60 + n for n in range(200_000)]


def closure(late: bool) -> Any:
    def inner() -> Any:
        return value

    if late:
        return inner
    value = 1
    return inner


class Tensor:
    is_cuda = True


class Odd(types.ModuleType):
    pass


odd = Odd("odd")


def uses_a_module_of_its_own_kind() -> Any:
    return odd


def on_a_card() -> Any:
    return tensor


tensor = Tensor()


@pytest.mark.parametrize(
    ("function", "names", "said"),
    [
        (wrapped, ("RESULTS", "nothing_at_all"), "defined nowhere"),
        (assigns, ("LIMIT",), "LIMIT += …"),
        (with_default, ("lock",), "has a default that is a lock"),
        (through_a_helper, ("nothing_at_all",), f"{FILE}:{needs_nothing.__code__.co_firstlineno + 1}"),
        (many_megabytes, ("NUMBERS",), "MiB of data"),
        (closure(True), ("value",), "has no value yet"),
        (on_a_card, ("tensor",), "a Tensor in the memory of a GPU"),
        (uses_a_module_of_its_own_kind, ("odd",), "is a module"),
    ],
)
def test_each_is_refused_by_its_name(function: Any, names: tuple[str, ...], said: str) -> None:
    error = refused(function)
    assert error.names == names
    assert said in str(error)


def harmless(x: Nothing = None) -> Any:  # names in annotations are no business of the worker
    def inner() -> Nothing:
        return sort_key, password, log, bound, part

    @functools.singledispatch
    def kinds(x: Any) -> Any:
        return x

    class Local:
        limit = LIMIT

        def get(self) -> int:
            return self.limit

    try:
        import no_such_module_anywhere  # type: ignore[import-not-found]
    except ImportError:
        no_such_module_anywhere = None
    with contextlib.suppress(ImportError):
        import no_such_thing  # type: ignore[import-not-found]
    os.environ["OF_THE_WORKER"] = "1"
    own = RESULTS.copy()
    own.append(1)
    return inner(), kinds, Local(), no_such_module_anywhere, no_such_thing


def own_state() -> Any:
    global kept_in_the_worker
    try:
        return kept_in_the_worker  # type: ignore[name-defined]
    except NameError:
        kept_in_the_worker = 1  # type: ignore[name-defined]


@functools.singledispatch
def kinds(x: Any) -> str:
    return "any"


@kinds.register
def _(x: int) -> str:
    return "int"


def dispatches() -> str:
    return kinds(1)


@functools.lru_cache(maxsize=2)
def cached(n: int) -> int:
    return n if n < 2 else cached(n - 1)


def uses_cached() -> int:
    return cached(3)


@remote(config)
async def other(x: int) -> int:
    return LIMIT


@remote(config)
async def calls_another(x: int) -> Any:
    return await other(x), await calls_another(x)


@pytest.mark.parametrize(
    "function", [harmless, own_state, dispatches, uses_cached, calls_another, closure(False), lambda: RESULTS]
)
def test_what_works_elsewhere_is_not_refused(function: Any) -> None:
    from runpod_flash.payload.functions import load_function

    found = ready(function)
    assert callable(load_function(found.packed.digest))
    assert found.requirements == ()


def test_copies_of_decorated_helpers_work() -> None:
    from runpod_flash.payload.functions import load_function

    assert load_function(ready(dispatches).packed.digest)() == "int"
    there = load_function(ready(uses_cached).packed.digest)
    assert (there(), there.__globals__["cached"].cache_info().currsize) == (1, 2)


def uses_numpy(x: Any) -> Any:
    import dateutil.parser  # type: ignore[import-untyped]

    return np.asarray(x), dateutil.parser


def test_what_is_used_and_installed_is_required_in_this_version_and_told_with_the_line_to_write() -> None:
    numpy, dates = (f"{name}=={metadata.version(name)}" for name in ("numpy", "python-dateutil"))
    found = ready(uses_numpy, "six")
    assert found.requirements == (numpy, dates, "six")
    assert found.notice == (
        "uses_numpy uses dateutil, numpy without declaring it; its workers get the version installed here. "
        f'Write: dependencies=["six", "{dates}", "{numpy}"]'
    )
    declared = ready(uses_numpy, "numpy>=1", "Python.DateUtil[x]")
    assert (declared.requirements, declared.notice) == (("numpy>=1", "python-dateutil[x]"), "")


def missing(x: Any) -> Any:
    import strange_module  # type: ignore[import-not-found]

    return strange_module


def test_a_requirement_whose_contents_nobody_knows_may_bring_a_module() -> None:
    assert refused(missing, "numpy").names == ("strange_module",)
    assert ready(missing, "distribution-not-installed").requirements == ("distribution-not-installed",)


def by_the_letter(x: int) -> Any:
    return by_the_letter, other, helper_of_it(x), np.ones(1), LIMIT, len("a")


def helper_of_it(x: int) -> int:
    import json

    return len(json.dumps(x))


def alone(x: int) -> Any:
    import json

    limit = 3

    def load() -> int:
        return len(json.dumps(limit + x))

    return load()


def test_strict_scope_refuses_every_name_from_outside_and_nothing_that_is_inside() -> None:
    error = refused(by_the_letter, "numpy", strict=True)
    assert error.names == ("LIMIT", "helper_of_it", "np")
    assert "write `import numpy as np` inside the function" in str(error)
    assert ready(alone, strict=True).requirements == ()
    assert refused(uses_numpy, "numpy", strict=True).names == ("dateutil.parser", "np")


WITHOUT_TEXT = """
from runpod_flash.client.shipment import prepare
from runpod_flash.errors import ScopeError
import json
made = {}
def works(x):
    import no_such_module
    return json.dumps(x)
def fails(x):
    return undefined_name
prepare(works, ())
try:
    prepare(fails, ())
except ScopeError as error:
    print(error.names, error.where)
"""


@pytest.mark.parametrize("form", ["exec", "stdin"])
def test_functions_without_a_text_are_judged_by_their_code(form: str) -> None:
    text = f"exec(compile({WITHOUT_TEXT!r}, '<nowhere>', 'exec'))"
    command = [sys.executable, "-c", text] if form == "exec" else [sys.executable]
    done = subprocess.run(command, input=WITHOUT_TEXT, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("('undefined_name',)"), done.stderr
