"""Projects that need no packages: a plain ASGI app, functions on a queue and over HTTP, a mothership."""

from __future__ import annotations

from pathlib import Path

MAIN = """
import os

from work import Till, double, greet, stated


async def app(scope, receive, send):
    '''Answers who it is, what a function on a queue says, and what its environment has.'''
    if scope["type"] == "lifespan":
        return
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    if path == "/double":
        job = await double(21)
        body = str(job.output if job.error is None else job.error)
    elif path == "/till":
        till = Till(100)
        body = str((await till.take(5)).output)
    elif path == "/env":
        body = os.environ.get("TOKEN", "none")
    elif path == "/file":
        body = open("words.txt").read()
    else:
        body = "version 1"
    status = 500 if "Error" in body else 200
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body.encode()})
"""

WORK = """
from runpod_flash import CpuLiveLoadBalancer, CpuLiveServerless, remote

queue = CpuLiveServerless(name="numbers", workersMax=2)
web = CpuLiveLoadBalancer(name="words", workersMax=2)


@remote(queue, env={"GREETING": "hello"})
async def double(number: int) -> int:
    return 2 * number


@remote(queue, env={"TOKEN": None})
async def stated() -> str:
    import hashlib, os

    return hashlib.sha256(os.environ["TOKEN"].encode()).hexdigest()


@remote(web, method="GET", path="/greet")
async def greet(name: str) -> str:
    return f"hello {name}"


@remote(web, method="GET", path="/quadruple")
async def quadruple(number: int) -> int:
    return (await double((await double(number)).output)).output


@remote(queue)
class Till:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def take(self, cents: int) -> int:
        self.cents += cents
        return self.cents
"""

MOTHERSHIP = """
from runpod_flash import CpuLiveLoadBalancer

mothership = CpuLiveLoadBalancer(name="shop-app", workersMin=1, workersMax=2)
"""


def make_project(folder: Path, **files: str) -> Path:
    """A project; `files` are more of its files, or others in their place, `__` in a name standing for `/`."""
    texts = {
        "main.py": MAIN,
        "work.py": WORK,
        "mothership.py": MOTHERSHIP,
        "words.txt": "of the project",
        "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\ndependencies = ["flash-anywhere"]\n',
        ".env": "TOKEN=from-dotenv\n",
        **files,
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
