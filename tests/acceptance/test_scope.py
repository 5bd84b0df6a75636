"""What a function may use, on real workers: what travels works there, in environments that have none of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import pytest

from runpod_flash.testing import IsolatedEngine

HEAD = """
import asyncio, functools, logging, sys
from runpod_flash import CpuLiveServerless, remote
config = CpuLiveServerless("scope", workersMax=1)
"""


@pytest.fixture
def project(tmp_path: Path, flash_engine: IsolatedEngine) -> Path:
    """A folder with a package of the user's own."""
    shop = tmp_path / "shop"
    (shop / "stock").mkdir(parents=True)
    (shop / "__init__.py").write_text("from .prices import TAX\n")
    (shop / "prices.py").write_text("TAX = 1.5\nclass Price:\n    def __init__(self, x): self.x = x * TAX\n")
    (shop / "stock" / "count.py").write_text(
        "from ..prices import Price\nimport shop\ncalls = []\n"
        "def count(x):\n    from . import words\n    calls.append(x)\n    return words.SAY, Price(x), len(calls)\n"
        "class Empty(Exception): pass\n"
    )
    (shop / "stock" / "words.py").write_text("SAY = 'there are'\n")
    return tmp_path


def run(project: Path, program: str) -> subprocess.CompletedProcess[str]:
    """A script of the user's; it must end well."""
    file = project / "program.py"
    file.write_text(HEAD + textwrap.dedent(program), encoding="utf-8")
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_own_packages_imported_in_the_body_travel_and_keep_one_identity(project: Path) -> None:
    done = run(
        project,
        """
        from shop.prices import Price

        @remote(config)
        def count(x, price):
            from shop.stock.count import count
            import shop.stock as stock
            said, priced, calls = count(x)
            assert type(priced) is Price is type(price), "the class that is captured is the one that is imported"
            assert stock.__name__ == "shop.stock"
            return said, priced, calls

        @remote(config, max_retries=0)
        def fails():
            from shop.stock.count import Empty
            raise Empty("nothing left")

        async def main():
            assert "shop.stock.count" not in sys.modules, "nothing was imported here"
            said, price, calls = (await count(2, Price(1))).output
            assert (said, price.x, calls) == ("there are", 3.0, 1)
            assert type(price) is Price
            assert (await count(2, Price(1))).output[2] == 2, "modules stay in the worker from call to call"
            from shop.stock.count import Empty
            try:
                (await fails()).unwrap()
            except Empty as error:
                print(error)

        asyncio.run(main())
        """,
    )
    assert done.stdout.startswith("Empty: nothing left")
    changed = project / "shop" / "stock" / "words.py"
    changed.write_text("SAY = 'only'\n")
    done = run(
        project,
        """
        @remote(config)
        def count(x):
            from shop.stock.count import count
            return count(x)[0]
        print(count.sync(1).output)
        """,
    )
    assert done.stdout == "only\n", "a worker that had the other text uses this one"


def test_an_installed_package_that_was_not_declared_is_told_added_and_usable(project: Path) -> None:
    version = metadata.version("iniconfig")
    done = run(
        project,
        """
        @remote(config)
        def read():
            import iniconfig
            from importlib.metadata import version
            try:
                import pandas
            except ImportError:
                pass
            return iniconfig.IniConfig("x", data="[a]\\nb=1")["a"]["b"], version("iniconfig")

        print(*read.sync().unwrap(), *read.sync().unwrap())
        """,
    )
    assert done.stdout.split() == ["1", version] * 2
    told = [line for line in done.stderr.splitlines() if "dependencies=" in line]
    assert len(told) == 1
    assert f'dependencies=["iniconfig=={version}", "pandas==' in told[0]


def test_what_a_module_defines_travels(project: Path) -> None:
    done = run(
        project,
        """
        import pydantic

        log = logging.getLogger("shop")

        class Order(pydantic.BaseModel):
            item: str
            count: int = 1

        LIMIT = 3

        @functools.cache
        def limit(): return LIMIT

        def many(order): return order.count > limit()

        def logged(function):
            @functools.wraps(function)
            def around(*args):
                log.info("called")
                return function(*args)
            return around

        @remote(config, dependencies=["pydantic"])
        @logged
        def check(order):
            class Local:
                most = LIMIT
            return Order(item=order.item, count=Local.most), many(order), limit.cache_info().currsize

        @remote(config, dependencies=["pydantic"])
        async def again(order: Order) -> bool:
            return many(order)

        order, large, cached = check.sync(Order(item="tea", count=9)).unwrap()
        print(order, large, cached, again.sync(Order(item="tea")).unwrap())
        """,
    )
    assert done.stdout.strip() == "item='tea' count=3 True 1 False"
    assert "called" in done.stderr
