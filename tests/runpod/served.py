"""Programs that are served by a real engine, asked over real HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from runpod_flash.testing.isolated import IsolatedEngine, isolated_engine

PROGRAMS: Final = Path(__file__).parent / "programs"
FLASH: Final = (sys.executable, "-c", "from runpod_flash.cli.main import main; main()")
PATIENCE_S: Final = 60.0
ENDED: Final = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}
Facts = dict[str, Any]


class Served:
    """An engine, and what runs there."""

    def __init__(self, engine: IsolatedEngine) -> None:
        self.engine = engine
        self.http = httpx.Client(timeout=PATIENCE_S)

    # ── the command line ──────────────────────────────────────────────────────────────────────────

    def flash(self, *words: str) -> str:
        """What a verb prints. It has to succeed."""
        done = subprocess.run([*FLASH, *words], capture_output=True, text=True, env=self.engine.environ, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, program: str, *words: str) -> str:
        """Serves a program under its own name, and leaves it there."""
        name = Path(program).stem
        self.flash("serve", str(PROGRAMS / program), "--name", name, "--detach", *words)
        return name

    def foreground(self, program: str, *words: str) -> subprocess.Popen[str]:
        """Serves a program until it is interrupted."""
        command = [*FLASH, "serve", str(PROGRAMS / program), "--name", Path(program).stem, *words]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.engine.environ
        )

    def endpoint(self, name: str) -> Facts:
        """The row of an endpoint."""
        rows: list[Facts] = json.loads(self.flash("ps", "--endpoint", name, "--json"))
        return rows[0]

    # ── HTTP ──────────────────────────────────────────────────────────────────────────────────────

    def ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        """A request with the engine's token."""
        token = (self.engine.home / "token").read_text().strip()
        url = f"{self.engine.facts['gateway_url']}/v2/{path}"
        return self.http.request(method, url, headers={"authorization": token}, **how)

    def run(self, endpoint: str, said: Any, **more: Any) -> str:
        """The id of a new job."""
        answer = self.ask("POST", f"{endpoint}/run", json={"input": said, **more})
        assert answer.status_code == 200, answer.text
        job: str = answer.json()["id"]
        return job

    def status(self, endpoint: str, job: str) -> Facts:
        """How a job stands."""
        answer = self.ask("GET", f"{endpoint}/status/{job}")
        assert answer.status_code == 200, answer.text
        found: Facts = answer.json()
        return found

    def wait(self, endpoint: str, job: str, until: Callable[[Facts], object] | None = None) -> Facts:
        """How it stands once it has ended, or once that holds."""
        end = time.monotonic() + PATIENCE_S
        while True:
            found = self.status(endpoint, job)
            if until(found) if until else found["status"] in ENDED:
                return found
            assert found["status"] not in ENDED, found
            assert time.monotonic() < end, f"it stays {found}; {self.endpoint(endpoint)}"
            time.sleep(0.02)

    def cancel(self, *jobs: str) -> None:
        """Has jobs end."""
        self.flash("cancel", *jobs)

    def result(self, endpoint: str, said: Any, **more: Any) -> Facts:
        """How a new job ends."""
        return self.wait(endpoint, self.run(endpoint, said, **more))


def cache() -> Path:
    """Where things lie that take long to make, for all runs of these tests."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flash-tests"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def share_environments(home: Path) -> None:
    """Has an engine find the environments that others have built: one with Runpod's package has thousands of files.

    Each is named by what is in it, and engines that share the folder build it one at a time.
    """
    shared = cache() / "environments"
    shared.mkdir(mode=0o700, exist_ok=True)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    (home / "environments").symlink_to(shared)


@contextmanager
def serving(path: str) -> Iterator[Served]:
    """An engine without endpoints, which looks for programs along that path."""
    with isolated_engine(PATH=path) as engine:
        share_environments(engine.home)
        served = Served(engine)
        served.flash("engine", "start")
        try:
            yield served
        finally:
            served.http.close()
