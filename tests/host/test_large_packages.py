"""Large system packages, which take a minute to fetch and unpack: `make test-system`."""

from __future__ import annotations

import os

import pytest

from tests.host.conftest import Machine
from tests.host.test_system_packages import build

pytestmark = pytest.mark.skipif("TEST_SYSTEM" not in os.environ, reason="takes a minute: make test-system")


def test_ffmpeg_encodes_a_second_of_sound_and_pictures_and_jq_reads_what_it_says(machine: Machine) -> None:
    def encode() -> None:
        import subprocess

        source = "-f lavfi -i testsrc=duration=1:size=160x120:rate=10 -f lavfi -i sine=d=1"
        lines = [
            f"ffmpeg -v error -y {source} -c:v libx264 -c:a aac film.mp4",
            "ffprobe -v error -show_entries format=duration -of json film.mp4 | jq -r .format.duration",
        ]
        done = subprocess.run(" && ".join(lines), shell=True, capture_output=True, text=True, check=False)
        if done.stdout.strip() != "1.000000":
            raise ValueError(done)

    machine.start()
    machine.engine.patience = 100.0
    state = build(machine, "ffmpeg", "jq", key="a")
    assert state.phase == "ready", state.error
    done = machine.call(machine.worker(state.path), encode)
    assert done.ok, done.error
