"""`flash engine restart` while load-balanced calls are under way: they end as ever, and new ones are served."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from runpod_flash import CpuLiveLoadBalancer, WorkerLost, remote
from runpod_flash.testing import IsolatedEngine
from tests.waiting import PATIENCE_S, async_until

pytestmark = pytest.mark.usefixtures("engine")

balanced = CpuLiveLoadBalancer(name="balanced", workersMax=1)


@remote(balanced, method="GET", path="/hold")
async def hold(folder: str, name: str) -> str:
    import asyncio
    from pathlib import Path

    (Path(folder) / f"{name}-begun").touch()
    while not (Path(folder) / "go").exists():
        await asyncio.sleep(0.01)
    return name


@remote(balanced, method="GET", path="/quick")
async def quick() -> str:
    return "quick"


def restart(grace: float = 20.0) -> subprocess.Popen[bytes]:
    run = "from runpod_flash.cli.main import main; main()"
    command = [sys.executable, "-c", run, "engine", "restart", "--grace", str(grace)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


async def running(process: subprocess.Popen[bytes]) -> None:
    await async_until(lambda: process.poll() is not None)
    assert process.returncode == 0


def test_calls_under_way_finish_and_new_ones_get_an_answer(engine: IsolatedEngine, tmp_path: Path) -> None:
    async def scenario() -> None:
        assert await quick() == "quick"
        before = engine.facts["pid"]
        address, token = engine.facts["gateway_url"], (engine.home / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        # No connection is kept: on one that is, a request may cross its end, which every client has to expect.
        headers["Connection"] = "close"
        async with httpx.AsyncClient(base_url=f"{address}/lb/balanced", headers=headers, timeout=PATIENCE_S) as http:
            called = asyncio.create_task(_awaited(hold(str(tmp_path), "called")))
            asked = asyncio.create_task(http.get("/hold", params={"folder": str(tmp_path), "name": "asked"}))
            await async_until(lambda: len(list(tmp_path.glob("*-begun"))) == 2)

            process = restart()
            answers: list[httpx.Response] = []
            while not any(answer.status_code == 503 for answer in answers):  # from then on it is about to leave
                assert process.poll() is None
                answers.append(await http.get("/quick"))
            late = asyncio.create_task(_awaited(quick()))
            (tmp_path / "go").touch()
            while process.poll() is None:
                answers.append(await http.get("/quick"))
            answers.append(await http.get("/quick"))

            assert (await called, (await asked).json()) == ("called", "asked")
            assert await late == "quick"
            assert process.returncode == 0
        assert engine.facts["pid"] != before
        assert engine.facts["gateway_url"] == address
        assert {answer.status_code for answer in answers} == {200, 503}
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        assert answers[-1].status_code == 200

    asyncio.run(scenario())


def test_a_call_that_outlasts_the_grace_is_told_what_became_of_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        call = asyncio.create_task(_awaited(hold(str(tmp_path), "long")))
        await async_until(lambda: list(tmp_path.glob("*-begun")))
        await running(restart(grace=0))
        with pytest.raises(WorkerLost, match="connection to the engine was lost during a load-balanced call"):
            await call
        (tmp_path / "go").touch()

    asyncio.run(scenario())


def test_whoever_connects_between_two_engines_waits_for_the_second(engine: IsolatedEngine) -> None:
    """New connections, one after the other, all through a restart."""
    asyncio.run(_awaited(quick()))
    port, over = int(engine.facts["gateway_url"].rpartition(":")[2]), threading.Event()
    failures: list[str] = []
    statuses: set[int] = set()

    def connect() -> None:
        while not over.is_set():
            try:
                statuses.add(httpx.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S).status_code)
            except httpx.HTTPError as error:
                failures.append(repr(error))

    thread = threading.Thread(target=connect)
    thread.start()
    process = restart()
    process.wait(PATIENCE_S)
    over.set()
    thread.join()

    assert failures == []
    assert statuses <= {200, 503}


async def _awaited(work: Any) -> Any:
    return await work
