"""A real browser without a window, told what to do over its own protocol, and cut off from other machines."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.request import urlopen

from websockets.sync.client import connect

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
DESKTOP: Final = (1280, 900, False)
PHONE: Final = (390, 844, True)
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.02
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
)


def program() -> str | None:
    """Where it is installed; None if it is not."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of it, and all that it asked for and complained of."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> Browser:
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True))
            process = _start(folder)
            stack.callback(_end, process)
            address = _page(Path(folder, "DevToolsActivePort"), process)
            self._socket = stack.enter_context(connect(address, max_size=None, open_timeout=_PATIENCE_S, proxy=None))
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.tell(f"{domain}.enable")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its result; what happens meanwhile is noted."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=_PATIENCE_S))
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def open(self, url: str, size: tuple[int, int, bool] = DESKTOP) -> None:
        """Shows a page on a screen of that size, and returns when it is there."""
        width, height, mobile = size
        scale = 2 if mobile else 1
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )
        self.tell("Page.navigate", url="about:blank")  # a page that differs in its # alone would not be loaded
        self.tell("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def until(self, script: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + _PATIENCE_S
        while not self.ask(script):
            assert time.monotonic() < end, f"never true: {script}\n{self.ask('document.body.innerText')[:2000]}"
            time.sleep(_PAUSE_S)

    def photograph(self, file: Path) -> None:
        """The whole page as a picture."""
        size = self.tell("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 4000), "scale": 1}
        picture = self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(picture["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        what, said = message.get("method"), message.get("params", {})
        if what == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif what == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"]["text"])
        elif what == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")


def _start(folder: str) -> subprocess.Popen[bytes]:
    found = program()
    assert found is not None, "no chromium: apt-get install chromium"
    words = [found, *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _page(written: Path, process: subprocess.Popen[bytes]) -> str:
    """The address at which its page is told what to do."""
    end = time.monotonic() + _PATIENCE_S
    while not (written.is_file() and len(lines := written.read_text().splitlines()) == 2):
        assert process.poll() is None, "chromium ended"
        assert time.monotonic() < end, "chromium does not start"
        time.sleep(_PAUSE_S)
    with urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=_PATIENCE_S) as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    address: str = pages[0]["webSocketDebuggerUrl"]
    return address
