"""Functions and classes that come as source, as clients of the older SDKs send them.

Requests are made by those SDKs themselves, from the package index, in an environment of their own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runpod_flash.testing import IsolatedEngine

OLDER = {"tetra_rp": "tetra-rp==0.25.2", "runpod_flash": "runpod-flash==1.21.0"}
FLASH = "from runpod_flash.cli.main import main; main()"
CLIENT = '''
import asyncio, json, os, sys
import httpx
from PACKAGE.protos.remote_execution import FunctionRequest, FunctionResponse
from PACKAGE.stubs.live_serverless import LiveServerlessStub

class Job:
    def __init__(self, told):
        self.error, self.output = told.get("error"), told.get("output")

class Endpoint:
    """The part of a resource that a stub sends requests by, in place of one that was deployed in the cloud."""
    async def runsync(self, payload):
        async with httpx.AsyncClient(timeout=100) as http:
            told = await http.post(os.environ["ENDPOINT"] + "/runsync", json={"input": payload},
                                   headers={"Authorization": "Bearer " + os.environ["RUNPOD_API_KEY"]})
        return Job(told.json())
    run = run_sync = runsync

stub = LiveServerlessStub(Endpoint())

async def call(function, dependencies, *args, **kwargs):
    request = stub.prepare_request(function, dependencies, None, True, *args, **kwargs)
    if asyncio.iscoroutine(request):
        request = await request
    return stub.handle_response(await stub.ExecuteFunction(request))

def add(a, b=2):
    print("adding")
    return {"sum": a + b, "set": {a, b}}

async def spell(name):
    import six
    return [six.text_type(letter) for letter in name]

def fail(why):
    raise KeyError(why)

async def main():
    print(json.dumps([sorted((await call(add, None, 1, b=5))["set"]), await call(spell, ["six"], "ab")]))
    try:
        await call(fail, None, "reason")
    except Exception as error:
        print("KeyError" in str(error) and "reason" in str(error))

asyncio.run(main())
'''


@pytest.fixture(scope="module")
def token(engine: IsolatedEngine) -> Iterator[str]:
    """With two endpoints: `older` takes jobs, `balanced` answers at once."""
    served = [serve("older"), serve("balanced", "--load-balanced")]
    try:
        yield (engine.home / "token").read_text().strip()
    finally:
        for one in served:
            one.send_signal(signal.SIGINT)
        for one in served:
            try:
                one.communicate(timeout=30)
            finally:
                one.kill()


def serve(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", FLASH, "runpod", "functions", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "takes functions at" in line:
            break
    return process


@pytest.fixture(scope="module")
def older_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the older SDKs."""
    env = tmp_path_factory.mktemp("older") / "env"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(env)], check=True)
    subprocess.run([*uv, "pip", "install", "-q", "--python", str(env / "bin/python"), *OLDER.values()], check=True)
    return env / "bin/python"


@pytest.fixture
def http(engine: IsolatedEngine, token: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=engine.facts["gateway_url"], headers=headers, timeout=60) as client:
        yield client


def job(http: httpx.Client, **request: Any) -> Any:
    answer = http.post("/v2/older/runsync", json={"input": {"serialization_format": "json", **request}}).json()
    assert answer["status"] == "COMPLETED", answer
    return answer["output"]


@pytest.mark.parametrize("package", OLDER)
def test_requests_of_an_older_sdk_are_answered_as_it_expects(
    engine: IsolatedEngine, token: str, older_python: Path, tmp_path: Path, package: str
) -> None:
    program = tmp_path / "client.py"
    program.write_text(CLIENT.replace("PACKAGE", package))
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RUNPOD_API_KEY": token,
        "ENDPOINT": f"{engine.facts['gateway_url']}/v2/older",
    }

    done = subprocess.run(
        [older_python, program], env=environ, capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith(("adding", "202"))]
    assert json.loads(lines[-2]) == [[1, 5], ["a", "b"]]
    assert lines[-1] == "True"
    assert "adding" in done.stdout


COUNTER = "class Counter:\n    def __init__(self, n=0):\n        self.n = n\n    def add(self, by):\n" + (
    "        self.n += by\n        return self.n\n"
)


def test_an_instance_is_found_again_by_its_id(http: httpx.Client) -> None:
    of: dict[str, Any] = {
        "execution_type": "class",
        "class_name": "Counter",
        "class_code": COUNTER,
        "constructor_args": [10],
        "method_name": "add",
        "instance_id": "Counter_1",
    }
    first = job(http, **of, args=[1])
    again = job(http, **of, args=[1], create_new_instance=False)
    packed = job(http, **of, args=[1], create_new_instance=False, dependencies=["six"])

    assert [one["json_result"] for one in (first, again)] == [11, 12]
    assert (again["instance_id"], again["instance_info"]["method_calls"]) == ("Counter_1", 2)
    assert packed["json_result"] == 11  # another environment has workers of its own


def test_execute_answers_at_once_and_as_an_input_too(http: httpx.Client) -> None:
    request = {
        "function_name": "double",
        "function_code": "import utils\n\ndef double(n):\n    return utils.twice(n)\n",
        "modules": {"utils.py": "def twice(n):\n    return 2 * n\n"},
        "args": [4],
        "serialization_format": "json",
    }
    for body in (request, {"input": request}):
        answer = http.post("/lb/balanced/execute", json=body)
        assert (answer.status_code, answer.json()["success"], answer.json()["json_result"]) == (200, True, 8)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"function_name": "f"}, "function_code is missing"),
        ({"function_name": "f", "function_code": "def g(): ..."}, "defines no 'f'"),
        ({"function_name": "f", "function_code": "def f(: ..."}, "SyntaxError"),
        ({"function_name": "f", "function_code": "def f(): return {1}"}, "not JSON serializable"),
        ({"function_name": "f", "function_code": "def f(a): ...", "args": ["x"], "serialization_format": "cloudpickle"},
         "an argument cannot be read here"),
        ({"function_name": "f", "function_code": "def f(): ...", "dependencies": ["flash-no-such-package-qqqq"]},
         "flash-no-such-package-qqqq"),
        ({"function_name": "f", "function_code": "def f(): ...", "modules": {"../../x.py": ""}},
         "outside of its folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_request_is_its_error(http: httpx.Client, request_: dict[str, Any], told: str) -> None:
    answer = job(http, **request_)

    assert answer["success"] is False
    assert told in answer["error"]


def test_nobody_without_the_token_has_code_run(engine: IsolatedEngine, token: str) -> None:
    request = {"function_name": "f", "function_code": "def f(): ...", "serialization_format": "json"}
    for path, body in (("/v2/older/runsync", {"input": request}), ("/lb/balanced/execute", request)):
        answer = httpx.post(engine.facts["gateway_url"] + path, json=body)
        assert answer.status_code == 401
