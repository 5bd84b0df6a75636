"""Makes demo.svg, the picture in the README, from what the demo really prints: run it when the demo changes.

.venv/bin/python docs/images/make_demo_svg.py
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DEMO = ROOT / "examples" / "demo" / "digits.py"
COLUMNS = 118


def main() -> None:
    """Runs the demo in a terminal of its own, for the first time, and draws what that terminal showed."""
    with tempfile.TemporaryDirectory() as home:
        shown = _shown_by([sys.executable, str(DEMO)], home)
        for ours, anybodys in ((home, "~/.cache/flash-demo"), (str(ROOT), "~/flash")):
            shown = shown.replace(ours, anybodys)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(f"\x1b[2m$\x1b[0m \x1b[1mmake demo\x1b[0m\n{shown.rstrip()}"))
    picture = console.export_svg(title="Flash", unique_id="demo")
    # No font from another site: every system has one with letters of equal width.
    picture = re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL)
    (HERE / "demo.svg").write_text(picture, encoding="utf-8")


def _shown_by(command: list[str], home: str) -> str:
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 100, COLUMNS, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "FLASH_DEMO_HOME": home}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ) as demo:
        os.close(theirs)
        shown = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    if demo.returncode:
        sys.exit(shown.decode())
    return shown.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the way a terminal says that nobody writes to it any more
        return b""


if __name__ == "__main__":
    main()
