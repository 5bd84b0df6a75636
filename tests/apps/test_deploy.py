"""`flash deploy` and what belongs to it, as a user has it: the command, a real engine, real workers, real requests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from runpod_flash import FlashApp
from runpod_flash.model.endpoint import endpoint_id
from runpod_flash.testing import IsolatedEngine, isolated_engine
from tests.apps.projects import MAIN, WORK, make_project
from tests.waiting import until

SCHEMAS = Path(__file__).resolve().parents[2] / "docs" / "reference" / "schemas"
FLASH = Path(sys.executable).with_name("flash")
PATIENCE_S = 60.0
SECRET = "s3cr3t-of-the-shop"


class Shop:
    """A project, an engine, and the command line between them."""

    def __init__(self, engine: IsolatedEngine, root: Path) -> None:
        self.engine = engine
        self.root = root

    def run(self, *words: str, code: int = 0, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        environ = {**self.engine.environ, **variables}
        for name in {"TOKEN"} - variables.keys():
            environ.pop(name, None)
        ended = subprocess.run(
            [FLASH, *words], cwd=self.root, env=environ, input=stdin, capture_output=True, text=True, check=False,
            timeout=PATIENCE_S,
        )  # fmt: skip
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended

    def json(self, *words: str, schema: str = "", **more: Any) -> Any:
        told = json.loads(self.run(*words, "--json", **more).stdout)
        jsonschema.validate(told, json.loads((SCHEMAS / f"{schema or words[0]}.json").read_text()))
        return told

    def write(self, name: str, text: str) -> None:
        (self.root / name).write_text(text)

    @property
    def token(self) -> str:
        return (self.engine.home / "token").read_text().strip()

    def client(self, url: str) -> httpx.Client:
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {self.token}"}, timeout=PATIENCE_S)

    def url(self, name: str = "shop-app") -> str:
        return f"{self.engine.facts['gateway_url']}/lb/{endpoint_id('shop', 'production', name)}"

    def says(self, path: str = "/") -> str:
        with self.client(self.url()) as client:
            answer = client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.text


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Deployed, as version 1."""
    with isolated_engine() as engine:
        one = Shop(engine, make_project(tmp_path_factory.mktemp("the shop")))
        one.run("secret", "set", "TOKEN", stdin=SECRET + "\n")
        one.json("deploy", "--yes")
        yield one


class Load:
    """Somebody asks the app all the time."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._url = shop.url()
        self._over = threading.Event()
        self.answers: list[tuple[int, str]] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.answers) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with self._shop.client(self._url) as client:
            while not self._over.is_set():
                try:
                    answer = client.get("/")
                    self.answers.append((answer.status_code, answer.text))
                except httpx.HTTPError as error:
                    self.answers.append((0, repr(error)))
                self._over.wait(0.01)

    @property
    def failed(self) -> list[tuple[int, str]]:
        return [one for one in self.answers if one[0] != 200]


def test_the_mothership_serves_the_app_which_calls_its_functions_by_name(shop: Shop) -> None:
    assert shop.says() == "version 1"
    assert shop.says("/double") == "42"
    assert shop.says("/till") == "105"
    assert shop.says("/file") == "of the project"


def test_a_load_balanced_function_answers_and_the_line_that_is_printed_works(shop: Shop) -> None:
    with shop.client(shop.url("words")) as client:
        assert client.get("/greet", params={"name": "you"}).json() == "hello you"
    line = shop.run("deploy").stderr.rpartition("Try it:\n")[2].strip()
    environ = {**shop.engine.environ, "PATH": f"{FLASH.parent}{os.pathsep}{os.environ['PATH']}"}
    ended = subprocess.run(["sh", "-c", line], env=environ, capture_output=True, text=True, check=True)
    assert ended.stdout == "version 1"


def test_deploying_what_is_deployed_changes_nothing_and_says_so(shop: Shop) -> None:
    before = shop.engine.workers()
    ended = shop.run("deploy")
    assert "no changes: shop in production is version" in ended.stderr
    assert shop.engine.workers() == before


def test_of_dependencies_only_what_changes_is_shown(shop: Shop) -> None:
    shop.write("requirements.txt", "six==1.17.0\n")
    told = shop.run("deploy", "--dry-run").stderr
    (shop.root / "requirements.txt").unlink()
    assert "~ numbers                  dependencies +six==1.17.0\n" in told


def test_any_program_calls_by_name_and_changes_nothing(shop: Shop, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("""
import asyncio, sys
from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, remote

@remote(CpuLiveServerless(name="numbers", workersMax=7, idleTimeout=1))
async def double(number):
    return "of the program"

@remote(CpuLiveLoadBalancer(name="words", idleTimeout=1), method="GET", path="/greet")
async def greet(name):
    return "of the program"

@remote(CpuLiveLoadBalancer(name="words", idleTimeout=1), method="GET", path="/quadruple")
async def quadruple(number): ...

@remote(CpuLiveServerless(name="numbers", workersMax=7, idleTimeout=1))
class Till:
    def __init__(self, cents): ...
    def take(self, cents): ...

async def main():
    print((await double(4)).output, await greet("her"), [job.output async for job in double.map([1, 2])])
    if len(sys.argv) > 1:
        till = Till(100)  # the one that the app has asked before
        handle = await double.spawn(8)
        print(await quadruple(2), (await till.take(5)).output, (await till.take(7)).output, await handle.result())

asyncio.run(main())
""")

    def run(*words: str, **variables: str) -> str:
        environ = {**shop.engine.environ, **variables}
        command = [sys.executable, str(program), *words]
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=PATIENCE_S)
        return ended.stdout.strip()

    told = run("more", FLASH_APP="shop", FLASH_ENV="production")
    assert told == "8 hello her [2, 4]\n8 110 117 16"
    assert run() == "of the program of the program ['of the program', 'of the program']"
    assert "no changes" in shop.run("deploy").stderr


def test_secrets_reach_functions_and_the_app_and_stand_nowhere(shop: Shop) -> None:
    assert shop.says("/env") == SECRET
    program = "import asyncio, work; print(asyncio.run(work.stated()))"
    environ = {**shop.engine.environ, "FLASH_APP": "shop", "FLASH_ENV": "production"}
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=shop.root, env=environ, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == hashlib.sha256(SECRET.encode()).hexdigest()  # a result is on record
    assert shop.json("secret", "list", schema="secret-list")[0]["name"] == "TOKEN"
    told = [shop.run(*words, "--json").stdout for words in (("deploy",), ("env", "get", "production"), ("ps",))]
    assert not any(SECRET in one for one in told)
    kept = [path for place in (shop.engine.home, shop.root) for path in place.rglob("*") if path.is_file()]
    (file,) = [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert file.parent.name == "secrets"
    assert file.stat().st_mode & 0o077 == 0


def test_a_change_is_shown_first_and_loses_no_request(shop: Shop) -> None:
    shop.write("main.py", MAIN.replace("version 1", "version two"))
    shop.write(
        "work.py", WORK.replace("2 * number", "200 * number").replace('"words", workersMax=2', '"words", workersMax=4')
    )
    plan = shop.run("deploy", "--dry-run").stderr
    for line in ("~ numbers", "code of double", "workersMax 2→4", "~ shop-app"):
        assert line in plan
    assert shop.says() == "version 1"
    with Load(shop) as load:
        done = shop.json("deploy", "--yes")
        deployed_at = len(load.answers)
        until(lambda: len(load.answers) > deployed_at + 20)
    assert load.failed == []
    assert (done["changed"], done["was"], done["version"]) == (True, 1, 2)
    assert {text for _status, text in load.answers[deployed_at + 5 :]} == {"version two"}
    assert shop.says("/double") == "4200"


def test_going_back_loses_no_request_either(shop: Shop) -> None:
    with Load(shop) as load:
        told = shop.json("rollback", "--yes", schema="deploy")
    assert load.failed == []
    assert told["version"] == 1
    assert shop.says() == "version 1"
    assert shop.says("/double") == "42"
    assert [one["active"] for one in shop.json("env", "get", "production", schema="env-get")["versions"]] == [
        True,
        False,
    ]
    assert shop.json("rollback", "--to", "2", "--yes", schema="deploy")["version"] == 2
    unknown = shop.run("rollback", "--to", "99", "--yes", code=2).stderr
    assert "shop has no version 99 in production" in unknown
    assert "flash rollback --to 2 --app shop --env production" in unknown
    assert "shop was never deployed to staging" in shop.run("rollback", "--env", "staging", code=2).stderr


def test_what_cannot_be_deployed_leaves_what_is(shop: Shop) -> None:
    shop.write("main.py", "raise RuntimeError('not today')\n" + MAIN)
    ended = shop.run("deploy", "--yes", code=1)
    assert "not today" in ended.stderr
    assert f"{shop.root / 'main.py'}:1" in ended.stderr
    broken = MAIN.replace("import os\n", "import os\n\nassert 'FLASH_WORKER_ID' not in os.environ, 'only at home'\n", 1)
    shop.write("main.py", broken)
    ended = shop.run("deploy", "--yes", code=1)
    assert "only at home" in ended.stderr
    assert shop.says() == "version two"


def test_an_engine_that_is_killed_while_it_deploys_comes_back_with_what_was(shop: Shop) -> None:
    slow = MAIN.replace(
        "import os\n", "import os, time\n\nif 'FLASH_WORKER_ID' in os.environ:\n    time.sleep(60)\n", 1
    )
    shop.write("main.py", slow.replace("version 1", "version three"))
    workers = set(shop.engine.workers())
    deploy = subprocess.Popen(
        [FLASH, "deploy", "--yes"], cwd=shop.root, env=shop.engine.environ, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: set(shop.engine.workers()) - workers)
    before = shop.engine.facts["pid"]
    os.kill(before, signal.SIGKILL)
    _out, told = deploy.communicate(timeout=PATIENCE_S)
    assert deploy.returncode == 4, told
    until(lambda: shop.engine.facts.get("pid", before) != before)
    assert shop.says() == "version two"
    assert shop.says("/double") == "4200"


def test_apps_and_environments_are_listed_and_made(shop: Shop) -> None:
    assert shop.json("env", "create", "staging", schema="env-create") == {
        "app": "shop", "env": "staging", "created": True,
    }  # fmt: skip
    assert [one["env"] for one in shop.json("env", "list", schema="env-list")] == ["production", "staging"]
    (listed,) = shop.json("app", "get", "shop", schema="app-get")["envs"][:1]
    assert [one["url"] for one in listed["endpoints"] if one["name"] == "shop-app"] == [shop.url()]
    assert shop.json("env", "delete", "staging", "--yes", schema="env-delete")["endpoints"] == []
    for words in (("app", "get", "shopp"), ("app", "delete", "shopp", "--yes"), ("env", "list", "--app", "shopp")):
        told = shop.run(*words, code=3).stderr
        assert "there is no app 'shopp'. Did you mean 'shop'?\n  why:   known: shop\n" in told


def test_programs_deploy_and_go_back_with_flash_app(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOKEN", raising=False)

    async def deploy() -> tuple[int, int, list[tuple[str, int | None]]]:
        app = await FlashApp.from_name("shop")
        shop.write("main.py", MAIN.replace("version 1", "version four"))
        made = await app.deploy(shop.root)
        assert await app.deploy(shop.root) == made
        environments = [(one.name, one.version) for one in await app.list_environments()]
        return made, await app.rollback(to=2), environments

    made, back, environments = asyncio.run(deploy())
    assert environments == [("production", made)]
    assert (back, shop.says()) == (2, "version two")


def test_a_backup_serves_the_app_again_in_another_data_folder(shop: Shop, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert "all is well" in shop.run("engine", "verify").stdout
    shop.run("engine", "backup", str(backup))
    assert not [path for path in backup.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    with isolated_engine(tmp_path / "other") as engine:
        other = Shop(engine, shop.root)
        told = json.loads(other.run("engine", "restore", str(backup), "--json").stdout)
        assert told["secrets"] == [{"app": "shop", "env": "production", "names": ["TOKEN"]}]
        other.run("secret", "set", "TOKEN", stdin="another\n")
        other.run("engine", "start")
        assert (other.says(), other.says("/file"), other.says("/env")) == ("version two", "of the project", "another")
        assert other.says("/double") == "4200"
        other.run("rollback", "--to", "1", "--yes")
        assert other.says() == "version 1"
        for archive in (engine.home / "artifacts").glob("*.tar.gz"):
            archive.unlink()
        assert "the artifacts of releases are missing" in other.run("engine", "verify", code=1).stdout


def test_undeployed_nothing_answers_and_nothing_runs(shop: Shop) -> None:
    url = shop.url()
    for words in (("undeploy",), ("env", "delete", "production"), ("app", "delete", "shop")):
        assert "Nobody can be asked here: add --yes" in shop.run(*words, code=2).stderr
    assert shop.says() == "version two"
    assert shop.json("undeploy", "--yes")["endpoints"] == ["numbers", "shop-app", "words"]
    with shop.client(url) as client:
        answer = client.get("/")
    assert answer.status_code == 404
    assert "flash rollback" in answer.text
    until(lambda: not shop.engine.workers())
    assert "nothing of shop is deployed" in shop.run("undeploy", "--yes", code=2).stderr
    assert shop.json("rollback", "--to", "1", "--yes", schema="deploy")["version"] == 1
    assert shop.says() == "version 1"
    assert shop.json("app", "delete", "shop", "--yes", schema="app-delete")["envs"] == ["production"]
    assert shop.json("app", "list", schema="app-list") == []
    assert not list((shop.engine.home / "secrets").iterdir())
