"""A real package index on loopback: a folder of wheels, with pages of links to them, behind a web server."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.host.test_environments import wheel


class Index:
    """A package index; `asked` has the paths of all that was fetched from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.on_file: Callable[[], None] = lambda: None
        self.url = ""

    def add(self, name: str, body: str = "") -> None:
        """A wheel of that name, and the page that links to it."""
        made = wheel(self.folder / "files", name, body=body)
        page = self.folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(made) as file:
            made.with_name(f"{made.name}.metadata").write_bytes(file.read(f"{name}-1.0.dist-info/METADATA"))
        link = f"/files/{made.name}#sha256={hashlib.sha256(made.read_bytes()).hexdigest()}"
        page.write_text(f'<a href="{link}" data-core-metadata="true">{made.name}</a>')

    @property
    def files(self) -> list[str]:
        """The wheels that were fetched; uv may ask for one in pieces."""
        return sorted({Path(path).name for path in self.asked if path.endswith(".whl")})


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder."""

    def __init__(self, index: Index, *rest: object) -> None:
        self.index = index
        super().__init__(*rest, directory=str(index.folder))  # type: ignore[arg-type]  # as a server makes it

    def do_GET(self) -> None:
        self.index.asked.append(self.path)
        if self.path.endswith(".whl"):
            self.index.on_file()
        super().do_GET()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def served(folder: Path) -> Iterator[Index]:
    index = Index(folder)
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, index))
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
