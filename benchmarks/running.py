"""How long somebody waits who makes an app, serves it, and changes it; and the same for a gallery of 200 examples.

Times on the clock. A request counts from the start of `flash run`, or from the moment a file is saved, to its answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import nursery
from benchmarks.figures import Goal, Row, Rows, Run
from runpod_flash.apps import scaffold

EXAMPLES: Final = 200
BROKEN: Final = 5
FLASH: Final = str(Path(sys.executable).with_name("flash"))
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.002
_GOALS: Final = {
    "flash init": Goal(300),
    f"flash run of {EXAMPLES} examples, {BROKEN} broken: first request": Goal(2000),
    "… all of them loaded": None,
    "… their OpenAPI, once loaded": None,
    "flash run of one app: first request": None,
    "… a change saved, until it answers": Goal(1000),
}


def rows(run: Run) -> Rows:
    """Fresh processes each time, their files in the disk's cache."""
    found, trip = run.beside(lambda: nursery.run(__name__, "3" if run.quick else "7"))
    for (name, goal), times in zip(_GOALS.items(), found, strict=True):
        spread = f"{min(times):.0f} to {max(times):.0f} ms"
        yield Row("Flash", name, median(times), "ms", trip, goal, spread)


def main() -> None:
    """In the nursery: prints the times of every figure, in milliseconds."""
    times = int(sys.argv[1])
    root = Path(os.environ["BENCH_SCRATCH"])
    gallery, app = root / "gallery", root / "app"
    _make_gallery(gallery)
    made = [_init_ms(root / f"made{n}") for n in range(times)]
    scaffold_to(app)
    several = [_gallery_ms(gallery) for _ in range(max(2, times // 3))]
    first, changes = _changes_ms(app, times)
    print(json.dumps([made, *map(list, zip(*several, strict=True)), [first], changes]))


def scaffold_to(folder: Path) -> None:
    """What `flash init` makes, without its process."""
    for file in scaffold.files_of(folder, scaffold.SINGLE if folder.name.endswith("7") else scaffold.DIRECTORY):
        scaffold.write(file)


def _make_gallery(root: Path) -> None:
    for n in range(EXAMPLES):
        folder = root / f"{n // 20:02}_category" / f"{n:03}_example"
        scaffold_to(folder)
        if n % (EXAMPLES // BROKEN) == 1:
            (folder / "main.py").write_text("import no_such_module\n")


def _init_ms(folder: Path) -> float:
    begin = time.perf_counter()
    subprocess.run([FLASH, "init", folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    took = (time.perf_counter() - begin) * 1000
    shutil.rmtree(folder)
    return took


def _gallery_ms(root: Path) -> tuple[float, float, float]:
    begin = time.perf_counter()
    with _running(root, "--no-reload") as ask:
        first = _until(ask, f"/{EXAMPLES - 1:03}_example/ping", lambda status, _: status == 200)
        loaded = _until(ask, "/health", lambda _, body: b'"loading"' not in body)
        health = json.loads(ask("/health")[1])
        if (health["examples_loaded"], health["total_examples"]) != (EXAMPLES - BROKEN, EXAMPLES):
            raise nursery.Failed(f"not as expected: {health}")
        again = time.perf_counter()
        ask("/openapi.json")
        return (first - begin) * 1000, (loaded - begin) * 1000, (time.perf_counter() - again) * 1000


def _changes_ms(root: Path, times: int) -> tuple[float, list[float]]:
    main, begin, found = root / "main.py", time.perf_counter(), []
    text = main.read_text()
    with _running(root) as ask:
        first = _until(ask, "/ping", lambda status, _: status == 200)
        for n in range(times):
            time.sleep(1)  # people take longer than the process that stands by needs to get there
            saved = time.perf_counter()
            main.write_text(text.replace('"healthy"', f'"change {n}"'))
            answered = _until(ask, "/ping", lambda _, body, n=n: f"change {n}".encode() in body)  # type: ignore[misc]
            found.append((answered - saved) * 1000)
    return (first - begin) * 1000, found


Ask = Callable[[str], tuple[int, bytes]]


@contextlib.contextmanager
def _running(folder: Path, *words: str) -> Iterator[Ask]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([FLASH, "run", "--port", str(port), *words], cwd=folder, **quiet) as process:  # type: ignore[call-overload]

        def ask(path: str) -> tuple[int, bytes]:
            connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read()
            finally:
                connection.close()

        try:
            yield ask
        finally:
            process.terminate()


def _until(ask: Ask, path: str, wanted: Callable[[int, bytes], bool]) -> float:
    """When the wanted answer was there."""
    end = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < end:
        with contextlib.suppress(OSError):
            if wanted(*ask(path)):
                return time.perf_counter()
        time.sleep(_PAUSE_S)
    raise nursery.Failed(f"{path} never answered as expected")


if __name__ == "__main__":
    main()
