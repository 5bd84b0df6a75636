"""Load-balanced functions, asked over HTTP by the clients that people have; a real engine and real workers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from runpod_flash import ConfigError, CpuLiveLoadBalancer, remote
from runpod_flash.testing import IsolatedEngine
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.usefixtures("engine")


def client(engine: IsolatedEngine, endpoint: str = "web") -> httpx.Client:
    token = (engine.home / "token").read_text().strip()
    base = f"{engine.facts['gateway_url']}/lb/{endpoint}"
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_S)


web = CpuLiveLoadBalancer(name="web", workersMax=1)


@remote(web, method="GET", path="/add/{left}")
async def add(left: int, right: int = 1) -> dict[str, int]:
    return {"sum": left + right}


@remote(web)
async def shout(text: str, times: int = 1) -> str:
    return text.upper() * times


@remote(web, method="GET", path="/pid")
async def pid() -> int:
    return os.getpid()


@remote(web)
async def hold(begun: str, ended: str) -> None:
    import asyncio
    from pathlib import Path

    Path(begun).write_text(str(os.getpid()))
    try:
        await asyncio.sleep(600)
    finally:
        Path(ended).touch()


@remote(CpuLiveLoadBalancer(name="numbers", workersMax=1), method="GET", path="/numbers")
async def numbers(many: int):  # type: ignore[no-untyped-def]
    for n in range(many):
        yield {"n": n}


@pytest.fixture(scope="module")
def declared(engine: IsolatedEngine) -> IsolatedEngine:
    """All functions have been called once, by a program that is still there."""

    async def call() -> None:
        assert await add(1) == {"sum": 2}
        assert await shout("a") == "A"
        assert await pid() > 0
        hanging = asyncio.ensure_future(hold(os.devnull, str(engine.home / "ended")))
        await asyncio.sleep(0.1)
        hanging.cancel()

    asyncio.run(call())
    return engine


def test_httpx_gets_what_the_function_returns(declared: IsolatedEngine) -> None:
    with client(declared) as ask:
        answer = ask.get("/add/2", params={"right": 40})
        assert (answer.status_code, answer.json()) == (200, {"sum": 42})
        assert ask.post("/shout", json={"text": "hi", "times": 2}).json() == "HIHI"
        assert ask.get("/add/two").status_code == 422
        assert ask.post("/shout", content=b"no JSON", headers={"content-type": "application/json"}).status_code == 422


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_curl_too(declared: IsolatedEngine) -> None:
    token = (declared.home / "token").read_text().strip()
    url = f"{declared.facts['gateway_url']}/lb/web/shout"
    said = subprocess.run(
        ["curl", "-s", "-w", "%{http_code}", "-H", f"Authorization: {token}", "-d", '{"text": "curl"}', url],
        capture_output=True, text=True, timeout=PATIENCE_S, check=True,
    )  # fmt: skip
    assert said.stdout == '"CURL"200'


def test_the_standard_library_too_on_one_connection(declared: IsolatedEngine) -> None:
    token = (declared.home / "token").read_text().strip()
    connection = http.client.HTTPConnection(declared.facts["gateway_url"].removeprefix("http://"), timeout=PATIENCE_S)
    pids = set()
    for _ in range(3):
        connection.request("GET", "/lb/web/pid", headers={"Authorization": token})
        pids.add(json.loads(connection.getresponse().read()))
    connection.close()
    assert len(pids) == 1


def test_workers_are_the_same_for_both_ways_of_asking(declared: IsolatedEngine) -> None:
    with client(declared) as ask:
        assert ask.get("/pid").json() == asyncio.run(_pid())


async def _pid() -> int:
    return await pid()


def test_a_client_that_gives_up_cancels_its_request(declared: IsolatedEngine, tmp_path: Path) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    with client(declared) as ask, pytest.raises(httpx.ReadTimeout):
        ask.post("/hold", json={"begun": str(begun), "ended": str(ended)}, timeout=1.5)
    until(ended.exists)


def test_a_worker_that_is_killed_is_a_502_and_the_next_request_finds_another(
    declared: IsolatedEngine, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    token = (declared.home / "token").read_text().strip()
    connection = http.client.HTTPConnection(declared.facts["gateway_url"].removeprefix("http://"), timeout=PATIENCE_S)
    body = json.dumps({"begun": str(begun), "ended": str(tmp_path / "ended")})
    connection.request("POST", "/lb/web/hold", body, {"Authorization": token, "Content-Type": "application/json"})
    until(lambda: begun.exists() and begun.read_text())
    os.kill(int(begun.read_text()), signal.SIGKILL)
    answer = connection.getresponse()
    assert answer.status == 502
    assert "killed by signal 9" in json.loads(answer.read())["detail"]
    connection.close()
    with client(declared) as ask:
        assert ask.get("/add/1").json() == {"sum": 2}


def test_what_a_generator_yields_is_sent_as_it_comes(engine: IsolatedEngine) -> None:
    asyncio.run(_listed())
    with client(engine, "numbers") as ask, ask.stream("GET", "/numbers", params={"many": 3}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line.startswith("data:")]
    assert [json.loads(line[5:]) for line in lines] == [{"n": n} for n in range(3)]


async def _listed() -> None:
    assert await numbers(2) == [{"n": 0}, {"n": 1}]


def test_two_functions_on_one_route_are_refused_with_both_names(declared: IsolatedEngine) -> None:
    @remote(web, method="GET", path="/pid")
    async def other() -> int:
        return 0

    async def call() -> None:
        await pid()
        await other()

    with pytest.raises(ConfigError, match=r"GET /pid: .*pid \(.*test_over_http\.py.*other \("):
        asyncio.run(call())


def test_ps_and_status_say_where_to_ask(declared: IsolatedEngine) -> None:
    def said(*words: str) -> object:
        line = [shutil.which("flash", path=os.path.dirname(sys.executable)) or "flash", *words, "--json"]
        return json.loads(subprocess.run(line, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout)

    facts = said("engine", "status")
    assert isinstance(facts, dict)
    rows = said("ps")
    assert isinstance(rows, list)
    (row,) = [row for row in rows if row["name"] == "web"]
    assert row["url"] == f"{facts['gateway_url']}/lb/{row['id']}"
    token = Path(facts["token_file"]).read_text().strip()
    assert httpx.get(f"{row['url']}/pid", headers={"Authorization": token}).status_code == 200


def test_an_engine_that_is_killed_answers_at_the_same_address_when_it_is_back(declared: IsolatedEngine) -> None:
    before = declared.facts
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: not psutil.pid_exists(before["pid"]) and declared.facts.get("pid") not in {None, before["pid"]})
    assert declared.facts["gateway_url"] == before["gateway_url"]
    with client(declared) as ask:  # no program has declared anything since
        assert ask.get("/add/1").json() == {"sum": 2}
