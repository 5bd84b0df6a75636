"""Runs the probes, in order, and says a line of JSON for each: its number, its name, its checks.

On an odd machine a probe may raise, and that is its answer; it may crash or hang, and then whoever started this goes on
after it with `--after`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from runpod_flash.host.doctor import limits, places, tools
from runpod_flash.wire.check import WARNING, Check

Probe = Callable[[], Iterable[Check]]


def probes(home: Path, *, online: bool) -> dict[str, Probe]:
    """Everything that is looked at, by name."""
    found: dict[str, Probe] = {
        "pythons": tools.pythons,
        "uv": tools.uv,
        "data folder": partial(places.data_folder, home),
        "disk": partial(places.disk, home),
        "contents": partial(places.contents, home),
        "socket folder": partial(places.socket_folder, home),
        "processors": limits.processors,
        "memory": limits.memory,
        "graphics cards": tools.graphics_cards,
        "open files": limits.open_files,
        "fork": tools.fork,
        "process ends": limits.process_ends,
        "control group": limits.control_group,
        "namespaces": limits.views,
    }
    return found | ({"package index": tools.package_index} if online else {})


def main() -> None:
    """Looks at everything from the probe after `--after` on."""
    parser = argparse.ArgumentParser(prog="python -m runpod_flash.host.doctor")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--online", action="store_true")
    parser.add_argument("--after", type=int, default=-1)
    options = parser.parse_args()
    for number, (name, probe) in enumerate(probes(options.home, online=options.online).items()):
        if number > options.after:
            _say({"begins": number, "name": name})
            _say({"number": number, "name": name, "checks": [check._asdict() for check in _look(name, probe)]})


def _look(name: str, probe: Probe) -> list[Check]:
    try:
        return list(probe())
    except Exception as error:  # noqa: BLE001 - whatever is odd here is what was asked for
        return [Check(name, WARNING, f"it cannot be told: {type(error).__name__}: {error}")]


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - the answer to whoever started this


if __name__ == "__main__":
    main()
