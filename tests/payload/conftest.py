from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SHOP = """
import abc, collections, dataclasses, enum, typing

LIMIT = 3
T = typing.TypeVar("T")

@dataclasses.dataclass
class Item:
    name: str
    price: float = 1.0

class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"

Pair = collections.namedtuple("Pair", "left right")

class Shelf(abc.ABC):
    @abc.abstractmethod
    def room(self): ...

class WideShelf(Shelf):
    def room(self):
        return helper(LIMIT)

class Box(typing.Generic[T]):
    def __init__(self, inside: T) -> None:
        self.inside = inside

class SoldOut(Exception):
    def __init__(self, item, left):
        super().__init__(f"{left} of {item} left")
        self.item = item

class Slotted:
    __slots__ = ("a", "b")
    def __init__(self, a, b):
        self.a, self.b = a, b

@dataclasses.dataclass(slots=True, frozen=True)
class Ticket:
    number: int

class Hidden:
    __slots__ = ("__secret",)
    def __init__(self):
        self.__secret = 4
    def tell(self):
        return self.__secret

class Chicken:
    def lay(self):
        return Egg(self)
    @classmethod
    def again(cls):
        return Chicken()

class Egg:
    def __init__(self, mother):
        self.mother = mother
    def hatch(self):
        return farm()

def farm():
    return Chicken()

class Outer:
    class Inner:
        pass

def helper(n):
    return n + 1

def even(n):
    return n == 0 or odd(n - 1)

def odd(n):
    return n != 0 and even(n - 1)
"""
ORDER = """
import pydantic

class Order(pydantic.BaseModel):
    items: list[int]
    size: str = "s"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a user's own module in it."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.fixture
def run(shop: Path) -> Callable[..., str]:
    """Runs a program in a process of its own; what it prints."""

    def run(program: str, *, has_shop: bool = True) -> str:
        start = f"import sys; sys.path.{'insert(0, ' + repr(str(shop)) + ')' if has_shop else 'append(sys.path[0])'}\n"
        done = subprocess.run(
            [sys.executable, "-c", start + "from runpod_flash.payload import codec, failures\n"
             "from runpod_flash.payload.definitions import TABLE\n"
             "from runpod_flash.payload.functions import load_function, pack_function\n"
             "import pickle, pathlib\n" + program],
            capture_output=True, text=True, cwd=shop if has_shop else shop / "..", timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def there_and_back(run: Callable[..., str], shop: Path) -> Callable[..., str]:
    """Sends what `make` gives to a process without the user's module, which applies `change`; then `look` at it.

    The way of a call: the arguments are decoded as a worker does, and the result comes back either to the
    program that called (`new_program` false) or to another that has the same module.
    """

    def travel(make: str, change: str = "value", look: str = "value", *, new_program: bool = False) -> str:
        if "Order" in make:  # and nowhere else: pydantic takes longer to import than all the others together
            (shop / "shop.py").write_text(SHOP + ORDER)
        sent, result = shop / "sent", shop / "result"
        put = "pathlib.Path({!r}).write_bytes(pickle.dumps(([bytes(p) for p in {}.parts], {}.defs, {})))\n"
        get = "parts, defs, bodies = pickle.loads(pathlib.Path({!r}).read_bytes())\n"
        learn = "for digest, body in bodies.items(): TABLE.add(digest, body)\n"
        bodies = "{d: TABLE.body(d) for d in x.defs}"
        make_it = "import shop\nx = codec.encode(" + make + ")\n" + put.format(str(sent), "x", "x", bodies)
        look_at_it = get.format(str(result)) + "value = codec.decode(parts)\nprint(" + look + ")\n"
        work = (
            "TABLE.prefer_local = False\n" + get.format(str(sent)) + learn + "value = codec.decode(parts)\n"
            "assert 'shop' not in sys.modules\n"
            f"x = codec.encode({change}, define=False)\n" + put.format(str(result), "x", "x", bodies)
        )
        work_there = f"import subprocess; subprocess.run([sys.executable, '-c', {_start() + work!r}], check=True)\n"
        if new_program:
            run(make_it + work_there)
            return run("import shop\n" + look_at_it.replace("value =", learn + "value =", 1)).strip()
        return run(make_it + work_there + look_at_it).strip()

    return travel


def _start() -> str:
    return (
        "import sys, pickle, pathlib; sys.path = [p for p in sys.path if p]\n"
        "from runpod_flash.payload import codec, failures\n"
        "from runpod_flash.payload.definitions import TABLE\n"
    )
