"""Flash in one file: functions that run elsewhere, and what happens when things go wrong.

Run it with `make demo`, read it from top to bottom. It teaches a computer to read handwritten digits:
1,797 real ones, that scikit-learn ships. Your own Python does not have scikit-learn, and does not get it.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from runpod_flash import CpuLiveServerless, remote

# Up to three worker processes, none while there is nothing to do: an idle one leaves after a second.
digits = CpuLiveServerless(name="digits", workersMax=3, idleTimeout=1)


# ── What runs on workers ──────────────────────────────────────────────────────────────────────────
# A function brings the packages that it needs, and imports them in its body.


@remote(digits, dependencies=["scikit-learn"])
def train(gamma: float, penalty: float) -> float:
    """Learns from 1,347 digits; returns how many of 450 others it then reads right, as a share."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.svm import SVC

    images, numbers = load_digits(return_X_y=True)
    images, unseen, numbers, answers = train_test_split(images, numbers, test_size=450, random_state=1)
    share: float = SVC(gamma=gamma, C=penalty).fit(images, numbers).score(unseen, answers)
    print(f"gamma {gamma}, penalty {penalty}: {share:.1%} of {len(answers)} unseen digits read right")
    return share


@remote(digits, dependencies=["scikit-learn"])
def cross_validate(folds: int) -> list[float]:
    """A longer job: one forest of decision trees after another, each tested on its own part of the digits."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold

    images, numbers = load_digits(return_X_y=True)
    shares = []
    for learn, test in StratifiedKFold(folds).split(images, numbers):
        forest = RandomForestClassifier(n_estimators=100, random_state=0).fit(images[learn], numbers[learn])
        shares.append(float(forest.score(images[test], numbers[test])))
        print(f"fold {len(shares)} of {folds}: {shares[-1]:.1%}")
    return shares


@remote(digits, max_retries=0)
def share_of(right: int, total: int) -> float:
    """Needs no packages, and has a bug."""
    return right / total


# ── What runs here ────────────────────────────────────────────────────────────────────────────────


async def main() -> None:
    await an_environment_of_its_own()
    await none_three_none()
    await a_job_that_fails()
    await kill_minus_nine()
    heading("What is on record")
    await flash("jobs", "--limit", "15")


async def an_environment_of_its_own() -> None:
    heading("A function in an environment of its own")
    say("The first run installs scikit-learn for the function; later runs find it there.")
    job = await train(gamma=0.001, penalty=10)
    share = job.unwrap()
    assert share > 0.97
    say(f"[green]{share:.1%}[/] of unseen digits read right, by worker {job.worker_id} in {job.execution_time} ms")


async def none_three_none() -> None:
    heading("No workers, three workers, no workers")
    await workers_gone()
    say(f"{len(workers())} workers. Twelve ways to train, all at once:")
    ways = list(product([0.0001, 0.001, 0.01, 0.1], [0.1, 1, 10]))
    best: dict[str, float] = {}
    trained = 0
    async for job in train.starmap(ways, ordered=False):
        best[job.worker_id] = max(best.get(job.worker_id, 0), job.unwrap())
        trained += 1
        if trained == len(ways) // 2:
            await flash("ps")
    for worker, share in sorted(best.items()):
        say(f"the best that worker {worker} trained reads [green]{share:.1%}[/] right")
    assert 1 < len(best) <= 3
    await workers_gone()
    say(f"{len(workers())} workers again, a second later.")


async def a_job_that_fails() -> None:
    heading("A job that fails")
    job = await share_of(right=450, total=0)
    story = job.traceback or ""
    assert "return right / total" in story
    say("It does not raise here; the job tells what happened, at your own line:")
    console.print(story.rstrip(), style="red", markup=False)


async def kill_minus_nine() -> None:
    heading("kill -9 in mid-run")
    call = asyncio.ensure_future(cross_validate(folds=6))
    await something_printed()
    assert not call.done()
    killed = engine()["pid"]
    os.kill(killed, signal.SIGKILL)
    say(f"The engine, process {killed}, has just been killed. The worker does not mind:")
    job = await call
    shares = job.unwrap()
    assert len(shares) == 6
    assert job.attempts == 1, "the worker ran on, so nothing had to be done twice"
    assert engine()["pid"] != killed
    say(
        f"[green]{sum(shares) / 6:.1%}[/] right, in {job.attempts} attempt by worker {job.worker_id}; "
        f"engine {engine()['pid']} took over and told us"
    )


# ── How it is told ────────────────────────────────────────────────────────────────────────────────

console = Console(highlight=False)
FLASH = str(Path(sys.executable).with_name("flash"))


def heading(words: str) -> None:
    console.print()
    console.rule(f"[bold]{words}", align="left")


def say(words: str) -> None:
    console.print(words)


async def flash(*verb: str) -> None:
    """Shows what that command shows, as if it were typed in another terminal."""
    console.print(f"\n[dim]$[/] [bold]flash {' '.join(verb)}")
    command = await asyncio.create_subprocess_exec(FLASH, *verb)
    assert await command.wait() == 0


def ask(*verb: str) -> Any:
    """What that command says to programs."""
    return json.loads(subprocess.check_output([FLASH, *verb, "--json"]))


def engine() -> Any:
    return ask("engine", "status")


def workers() -> list[dict[str, Any]]:
    return [worker for endpoint in ask("ps") for worker in endpoint["workers"]]


async def workers_gone() -> None:
    deadline = time.monotonic() + 15
    while workers():
        assert time.monotonic() < deadline, "idle workers should have left by now"
        await asyncio.sleep(0.2)


async def something_printed() -> None:
    while "fold 1" not in await asyncio.to_thread(printed_by_running_jobs):  # noqa: ASYNC110
        await asyncio.sleep(0.1)


def printed_by_running_jobs() -> str:
    jobs = [job["job"] for job in ask("jobs", "--status", "IN_PROGRESS")]
    logs = [subprocess.run([FLASH, "logs", job], capture_output=True, check=True, text=True) for job in jobs]
    return "".join(log.stdout for log in logs)


if __name__ == "__main__":
    # An engine with data of its own, so that your jobs stay yours. It is kept: the next run is quick.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = os.environ["FLASH_HOME"] = os.environ.get("FLASH_DEMO_HOME") or str(cache / "flash-demo")
    try:
        asyncio.run(main())
    finally:
        subprocess.run([FLASH, "engine", "stop"], stdout=subprocess.DEVNULL, check=True)
    say("\nNothing is left running. To look at these jobs yourself:")
    console.print(f"FLASH_HOME={home} {FLASH} jobs", soft_wrap=True)
