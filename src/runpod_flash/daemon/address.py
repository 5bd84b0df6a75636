"""Where an engine is found: its socket, and a file in the data folder that says where that is."""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import time
from pathlib import Path

from runpod_flash._version import __version__
from runpod_flash.wire import rundir

logger = logging.getLogger(__name__)


class Address:
    """The address of one engine, which holds the lock: nobody else makes or removes these files meanwhile."""

    def __init__(self, home: Path, folder: Path) -> None:
        self._socket = folder / rundir.SOCKET
        self._file = home / rundir.ENGINE_FILE

    def listen(self, backlog: int) -> socket.socket:
        """Listens. A socket that a dead engine left there gives way in one step: nobody finds nothing."""
        address = self._socket
        temporary = address.with_name(f"{address.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(temporary))
            temporary.chmod(0o600)
            listener.listen(backlog)
            listener.setblocking(False)
            if address.is_dir():  # nothing of ours, but in a folder that is ours alone
                shutil.rmtree(address)
            temporary.replace(address)
        except BaseException:
            listener.close()
            temporary.unlink(missing_ok=True)
            raise
        return listener

    def announce(self, gateway_url: str) -> None:
        """Writes the file: for clients with another XDG_RUNTIME_DIR, and for people."""
        facts = {
            "socket": str(self._socket),
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": __version__,
            "started_at": int(time.time()),
            "gateway_url": gateway_url,
        }
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        temporary.replace(self._file)
        logger.info("version %s listens at %s (process %d)", __version__, self._socket, os.getpid())

    def disappear(self) -> None:
        """Whoever looks for an engine finds none. May be called again."""
        self._socket.unlink(missing_ok=True)
        self._file.unlink(missing_ok=True)
