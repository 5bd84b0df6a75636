"""`flash engine unit`: what lets systemd start the engine with the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

import click

from runpod_flash.cli import views
from runpod_flash.cli.pages import Page, examples

BOOTED: Final = Path("/run/systemd/system")
"""There where systemd is what starts services."""

# oneshot: the engine is a process of its own, which also hands over to another version of itself. The unit is only to
# see that there is one; a unit that watched a process would start a second engine beside that.
UNIT: Final = """\
[Unit]
Description=Flash engine ({home})

[Service]
Type=oneshot
RemainAfterExit=yes
Environment={environment}
ExecStart={flash} engine start
ExecStop={flash} engine stop --grace {grace}
TimeoutStopSec={patience}

[Install]
WantedBy=default.target
"""
_ESCAPES: Final = {"%": "%%", "\\": "\\\\", '"': '\\"'}
_GRACE_S: Final = 30


@click.command(
    cls=Page,
    see=("engine start", "deploy"),
    epilog=examples(
        "flash engine unit > ~/.config/systemd/user/flash.service",
        "systemctl --user enable --now flash && loginctl enable-linger    with the machine, not the login",
    ),
)
def unit() -> None:
    """Print a unit of systemd that starts this engine when the machine does.

    Without it, what is deployed answers again from the first flash command or call after a restart of the machine. The
    unit names this installation and this data folder (FLASH_HOME): print it anew when either moves.
    """
    from runpod_flash.cli.engine import ENDING_SECONDS
    from runpod_flash.settings import load

    home = load().home
    click.echo(
        UNIT.format(
            home=views.clean(str(home)).replace("%", "%%"),
            environment=_word(f"FLASH_HOME={home}", command=False),
            flash=" ".join(map(_word, _program())),
            grace=_GRACE_S,
            patience=_GRACE_S + round(ENDING_SECONDS),
        ),
        nl=False,
    )


def _program() -> list[str]:
    """This command, by a path that says which installation is meant."""
    script = Path(sys.executable).with_name("flash")
    if os.access(script, os.X_OK):
        return [str(script)]
    return [sys.executable, "-c", "from runpod_flash.cli.main import main; main()"]


def _word(text: str, *, command: bool = True) -> str:
    """One word for systemd: blanks and quotes as they are, and nothing in it for a specifier or, in a command, `$`."""
    quoted = "".join(_ESCAPES.get(char) or (char if char.isprintable() else _bytes(char)) for char in text)
    return f'"{quoted.replace("$", "$$") if command else quoted}"'


def _bytes(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))
