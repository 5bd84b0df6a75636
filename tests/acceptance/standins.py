"""What stands in for the outside world that the blocks of the specification name.

Packages too heavy for a test are tiny wheels made here, on an index of their own: `uv` takes a package from the first
index that has it, so nobody downloads the real ones. The addresses, the bucket and the checkpoints of the blocks are
those of a server on loopback and of a folder.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import uv

TORCH: Final = '''
"""Stands in for torch: a checkpoint is a text file, and what a model gives names it."""
__version__ = "2.999.0"
class device(str): pass
class Model:
    def __init__(self, text): self.text, self.device, self.training = text, "cpu", True
    def to(self, device): self.device = str(device); return self
    def eval(self): self.training = False; return self
    def generate(self, prompt): return f"{self.text} on {self.device}: {prompt}"
    def predict(self, image, threshold=0.5): return f"{self.text}: {len(image)} bytes above {threshold}"
    def __call__(self, data): return f"{self.text}: {data}"
def load(path):
    with open(path) as file:
        return Model(file.read())
'''
TRANSFORMERS: Final = '''
"""Stands in for transformers."""
def pipeline(task):
    return lambda prompt: f"{task}: {prompt}"
'''
BOTO3: Final = '''
"""Stands in for boto3: one bucket operation, over HTTP to where AWS_ENDPOINT_URL says."""
import os, urllib.request
class client:
    def __init__(self, service): self.service = service
    def get_object(self, Bucket, Key):
        return {"Body": urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/{Bucket}/{Key}")}
'''

WHEELS: Final = (
    ("torch", "2.999.0", TORCH),
    ("transformers", "999.0.0", TRANSFORMERS),
    ("transformers", "4.30.2", TRANSFORMERS),
    ("diffusers", "999.0.0", '"""Stands in for diffusers."""\n'),
    ("boto3", "999.0.0", BOTO3),
)
REAL: Final = ("requests",)
"""What the blocks use, is real, and is not among what the tests run on."""

ADDRESSES: Final = ("https://api.example.com", "https://example.com/image.jpg")
CHECKPOINTS: Final = ("model.pt", "detector.pt", "pretrained_model.pt")
EXPENSIVE: Final = ("asyncio.sleep(10)", "asyncio.sleep(0.01)")
VOLUME: Final = ('networkVolumeId="..."', 'networkVolumeId="model_storage"')
IMAGE: Final = b"\x89an image"


@dataclass(frozen=True)
class World:
    """Where the stand-ins are, and the words of a block rewritten to them."""

    url: str
    checkpoints: Path

    def rewritten(self, text: str) -> str:
        """A block with its addresses on loopback, its checkpoints in the folder, a volume, no expensive work."""
        for address in ADDRESSES:
            text = text.replace(address, f"{self.url}/{address.rpartition('/')[2]}")
        for name in CHECKPOINTS:
            text = text.replace(f'torch.load("{name}")', f'torch.load("{self.checkpoints / name}")')
        return text.replace(*EXPENSIVE).replace(*VOLUME)


class _Handler(BaseHTTPRequestHandler):
    """An index of packages, an image for every other address, and the echo of what is posted."""

    wheels: Path

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if parts[0] == "simple":
            return self._index(parts[1])
        if parts[0] == "wheels":
            return self._answer((self.wheels / parts[1]).read_bytes(), "application/zip")
        return self._answer(IMAGE, "image/jpeg")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["content-length"])), "application/json")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _index(self, name: str) -> None:
        files = sorted(path.name for path in self.wheels.glob(f"{name}-*.whl"))
        if not files:
            return self.send_error(404)
        return self._answer("".join(f'<a href="/wheels/{file}">{file}</a>' for file in files).encode(), "text/html")

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _make_wheel(folder: Path, name: str, version: str, text: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """The stand-ins, as long as the block runs."""
    wheels, checkpoints = folder / "wheels", folder / "checkpoints"
    wheels.mkdir()
    checkpoints.mkdir()
    for wheel in WHEELS:
        _make_wheel(wheels, *wheel)
    for name in CHECKPOINTS:
        (checkpoints / name).write_text(f"the weights of {name}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"wheels": wheels}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield World(f"http://127.0.0.1:{server.server_port}", checkpoints)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def install(where: Path, world: World) -> None:
    """Puts the packages of the blocks where the caller of a block would have installed them."""
    names = sorted({name for name, *_ in WHEELS} | set(REAL))
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--target", str(where), *names]
    subprocess.run(command, check=True, env={**os.environ, "UV_INDEX": f"{world.url}/simple"})
