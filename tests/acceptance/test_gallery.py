"""Functions of several examples, called through one app, on real workers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from runpod_flash.apps import unified_app
from runpod_flash.testing import IsolatedEngine
from tests.apps.galleries import write

ENDPOINT = """
    from runpod_flash import CpuLiveServerless, remote
    from .. import settings

    @remote(resource_config=CpuLiveServerless(name="{name}_cpu"))
    async def who(greeting: str) -> dict[str, str]:
        from workers import texts  # the example's own, taken along
        import texts_of_all
        return {{"text": texts.greet(greeting), "name": settings.NAME, "all": texts_of_all.TEXT}}
"""
ROUTER = """
    from fastapi import APIRouter
    from .endpoint import who

    cpu_router = APIRouter()

    @cpu_router.get("/who")
    async def ask() -> dict[str, str]:
        return (await who("hello")).unwrap()
"""


def test_each_example_sends_its_own_modules_along(flash_engine: IsolatedEngine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / "01_a" / name, {
            "texts_of_all.py": f"TEXT = 'of {name}'\n",
            "workers/__init__.py": "",
            "workers/settings.py": f"NAME = '{name}'\n",
            "workers/texts.py": f"def greet(text): return f'{{text}} from {name}'\n",
            "workers/cpu/__init__.py": ROUTER,
            "workers/cpu/endpoint.py": ENDPOINT.format(name=name),
        })  # fmt: skip
    app = unified_app(tmp_path)

    async def ask() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x", timeout=60) as client:
            return [await client.get(f"/{name}/cpu/who") for name in ("one", "two")]

    assert [answer.json() for answer in asyncio.run(ask())] == [
        {"text": f"hello from {name}", "name": name, "all": f"of {name}"} for name in ("one", "two")
    ]
