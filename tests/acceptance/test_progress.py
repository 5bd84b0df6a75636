"""What a job says of its progress, while it runs and afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runpod_flash import CpuLiveServerless, UsageError, progress, remote
from runpod_flash.testing import IsolatedEngine
from runpod_flash.worker.progress import Reporter
from tests.waiting import until

FLASH = (sys.executable, "-c", "from runpod_flash.cli.main import main; main()")


@remote(CpuLiveServerless(name="steps"), max_retries=0)
def steps(go: str, fails: bool) -> str:
    import threading
    from pathlib import Path

    from runpod_flash import progress

    progress({"step": 1, "of": 3})
    while not Path(go).exists():
        time.sleep(0.01)
    for step in range(5000):
        progress(step)
    thread = threading.Thread(target=progress, args=("nearly there",))
    thread.start()
    thread.join()
    if fails:
        raise ValueError("so near")
    return "done"


def flash(*arguments: str) -> str:
    return subprocess.run([*FLASH, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def test_progress_is_seen_while_a_job_runs_and_its_last_word_afterwards(
    flash_engine: IsolatedEngine, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    handle = steps.sync.spawn(str(go), False)
    assert handle.sync.progress() is None or handle.sync.progress() == {"step": 1, "of": 3}
    until(lambda: handle.sync.status().progress)
    status = handle.sync.status()
    assert status == "IN_PROGRESS"
    assert status.progress == {"step": 1, "of": 3}
    assert '"step": 1' in flash("job", handle.id)
    go.touch()
    assert handle.sync.result(30) == "done"
    assert handle.sync.progress() == "nearly there"
    assert json.loads(flash("job", handle.id, "--json"))["progress"] == "nearly there"
    assert json.loads(flash("jobs", "--limit", "1", "--json"))[0]["progress"] == "nearly there"
    lines = [line for line in handle.sync.logs() if line.startswith("progress: ")]
    assert lines[-1] == "progress: nearly there"
    assert len(lines) < 500, "of many at once, most are left out"
    failed = steps.sync.spawn(str(go), True)
    assert failed.sync.wait().error == "ValueError: so near"
    assert failed.sync.progress() == "nearly there"


def test_what_is_too_long_for_progress_is_refused() -> None:
    with pytest.raises(UsageError, match=r"given 70,002 bytes(.|\n)*at most 64 KiB"):
        progress("x" * 70_000)


def test_a_thread_that_a_job_has_left_says_nothing_of_the_next_one() -> None:
    sent: list[bytes] = []
    reporter = Reporter(sent.append)
    for job, value in (("first", "1"), ("", "2"), ("second", "3")):
        reporter.job = job
        reporter.say(value)
        reporter.end()
    assert [one[one.index(b"{") :] for one in sent] == [b'{"job":"first","value":1}', b'{"job":"second","value":3}']
