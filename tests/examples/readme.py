"""The README of an example as something to run: its commands, and what it says that they answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SERVED_AT: Final = "http://localhost:8888"
"""Where the commands of a README expect its app."""
SECTIONS: Final = (
    "Overview", "What You'll Learn", "Architecture", "Quick Start", "API Endpoints", "Deployment", "Cost Estimates",
    "Common Issues", "References",
)  # fmt: skip
VARYING: Final = frozenset({
    "calls", "gpus", "items", "job_id", "last_runs", "load", "load_ms", "next_at", "process", "python_version",
    "queued_ms", "ran_ms", "rounds", "runs", "slot", "total_gb", "training_ms", "used_percent", "worker_id", "workers",
})  # fmt: skip
"""Fields whose values are those of one run; of these only the type is compared."""
TOLERANCE: Final = 0.021
"""How far numbers of a model may be off on another machine."""

_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENDPOINT: Final = re.compile(r"^### ([A-Z]+) (/\S*)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """One block of shell, and what has to come of it, if the README says so."""

    text: str
    answer: Any = None
    """JSON, from the endpoint's section."""
    output: str = ""
    """Text, from the block that follows."""


@dataclass(frozen=True)
class Endpoint:
    """One section about a route."""

    method: str
    path: str
    request: Any
    response: Any

    def is_asked_by(self, command: str) -> bool:
        """Whether a command asks this route."""
        asked = re.search(rf"{SERVED_AT}([^\s\"'?]*)", command)
        if asked is None:
            return False
        chosen = re.search(r"-X (\w+)", command)
        method = chosen[1] if chosen else "POST" if re.search(r" (-d|-F|--data\S*) ", command) else "GET"
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.path))
        return method == self.method and re.fullmatch(pattern, asked[1]) is not None


class Readme:
    """One README.md."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent
        self.text = file.read_text(encoding="utf-8")

    @property
    def sections(self) -> list[str]:
        """The headings of its parts."""
        outside = _FENCE.sub("", self.text)
        return re.findall(r"^## (.+)$", outside, re.MULTILINE)

    @property
    def endpoints(self) -> list[Endpoint]:
        """The routes that it tells of."""
        part = self._part("## API Endpoints")
        pieces = _ENDPOINT.split(part)[1:]
        return [
            Endpoint(method, path, _json_after("Request", text), _json_after("Response", text))
            for method, path, text in zip(pieces[0::3], pieces[1::3], pieces[2::3], strict=True)
        ]

    @property
    def commands(self) -> list[Command]:
        """The commands of "Test the Endpoint"."""
        blocks = _FENCE.findall(self._part("### Test the Endpoint"))
        found: list[Command] = []
        for at, (language, text) in enumerate(blocks):
            if language != "bash":
                continue
            follows = blocks[at + 1] if at + 1 < len(blocks) else ("", "")
            shown = follows[1] if follows[0] == "text" else ""
            answer = json.loads(follows[1]) if follows[0] == "json" else None
            if answer is None and not shown and "=$(curl" not in text:
                answer = next((one.response for one in self.endpoints if one.is_asked_by(text)), None)
            found.append(Command(text, answer, shown))
        return found

    def run(self, served_at: str, environ: Mapping[str, str], scratch: Path, header: str = "") -> list[str]:
        """Runs the commands one after another in one shell, and gives what each printed. AssertionError if one fails.

        Addresses and the folder for temporary files are those of the test; `header` is sent with every request.
        """
        options = [
            "silent",
            "show-error",
            "fail-with-body",
            "max-time = 600",
            *([f'header = "{header}"'] if header else []),
        ]
        (scratch / ".curlrc").write_text("\n".join(options) + "\n")
        script = "set -eu -o pipefail\n"
        outputs = [scratch / f"{number}.out" for number in range(len(self.commands))]
        for command, output in zip(self.commands, outputs, strict=True):
            text = command.text.replace(SERVED_AT, served_at).replace("/tmp/", f"{scratch}/")
            script += f"{{\n{text}}} > {output}\n"
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**os.environ, **environ, "CURL_HOME": str(scratch)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = [output.read_text().replace(f"{scratch}/", "/tmp/") if output.exists() else "" for output in outputs]
        assert ended.returncode == 0, f"{ended.stderr}\n" + "\n".join(printed)
        return printed

    def _part(self, heading: str) -> str:
        """What stands between a heading and the next one that is not below it."""
        _, found, after = self.text.partition(f"{heading}\n")
        assert found, f"{self.folder.name}/README.md has no {heading!r}"
        level = heading.partition(" ")[0]
        hidden = _FENCE.sub(lambda block: block[0].replace("#", "\0"), after)  # comments of shell are no headings
        end = re.search(rf"^#{{1,{len(level)}}} ", hidden, re.MULTILINE)
        return after[: end.start()] if end else after


def differs(expected: Any, found: Any, place: str = "$") -> str:
    """Where an answer is not what the README says; "" if it is."""
    name = place.rpartition(".")[2]
    if name in VARYING:
        same = type(expected) is type(found)
        return "" if same else f"{place} is {found!r}, and not like {expected!r}"
    if isinstance(expected, dict) and isinstance(found, dict):
        if expected.keys() != found.keys():
            return f"{place} has {sorted(found)}, not {sorted(expected)}"
        return next(filter(None, (differs(expected[key], found[key], f"{place}.{key}") for key in expected)), "")
    if isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            return f"{place} has {len(found)} items, not {len(expected)}"
        pairs = enumerate(zip(expected, found, strict=True))
        return next(filter(None, (differs(one, other, f"{place}[{at}]") for at, (one, other) in pairs)), "")
    if isinstance(expected, float) and isinstance(found, (int, float)):
        return "" if abs(expected - found) <= TOLERANCE else f"{place} is {found}, not {expected}"
    return "" if expected == found else f"{place} is {found!r}, not {expected!r}"


def differs_as_text(expected: str, found: str) -> str:
    """The same of printed lines: numbers in words may be others, data of events may not."""
    if plain(expected) == plain(found):
        return ""
    return f"printed\n{found}\nnot\n{expected}"


def plain(text: str) -> str:
    """A text without the numbers of one run."""
    lines = (line if line.startswith("data: ") else re.sub(r"\d[\d.]*", "#", line) for line in text.splitlines())
    return "\n".join(line for line in lines if line.strip())


def _json_after(label: str, text: str) -> Any:
    found = re.search(rf"\*\*{label}\*\*:\n```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return json.loads(found[1]) if found else None
