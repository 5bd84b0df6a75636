"""The program `flash`, from its start to its end."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Does what the command line says, and leaves."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # else somebody wants it ignored, as of a program in the background
        # Half of the time of a short command goes by in imports; Ctrl-C is not to show which one it has met.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from runpod_flash.cli.failures import close_output
    from runpod_flash.cli.verbs import flash

    signal.signal(signal.SIGINT, interrupted)
    for stream in (sys.stdout, sys.stderr):
        # What a job printed must not end us because this terminal cannot show it.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        flash(prog_name="flash")
    finally:
        close_output()
