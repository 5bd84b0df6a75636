"""Asks the engine of this program's FLASH_HOME, as anyone would: by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def workers() -> list[dict[str, Any]]:
    """Those that live now."""
    flash = Path(sys.executable).with_name("flash")
    said = subprocess.run([flash, "ps", "--json"], check=True, capture_output=True, text=True)
    return [worker for endpoint in json.loads(said.stdout) for worker in endpoint.get("workers") or ()]
