"""Asks the engine of this program's FLASH_HOME, as anyone would: by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def facts(*verb: str, key: str) -> Any:
    """What `flash VERB --json` says under that key."""
    flash = Path(sys.executable).with_name("flash")
    said = subprocess.run([flash, *verb, "--json"], check=True, capture_output=True, text=True)
    return json.loads(said.stdout)[key]
