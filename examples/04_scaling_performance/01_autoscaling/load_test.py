"""Sends waves of jobs, watches how many workers there are, and draws both: python load_test.py [--help]"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cpu_worker import work


class Span(NamedTuple):
    """One job, in seconds from the start of the test."""

    sent: float
    began: float
    ended: float
    worker: str


async def one_job(start: float, seconds: float) -> Span:
    """Send a job and note when it was sent, when it began and when it ended."""
    sent = time.monotonic() - start
    job = await work(seconds)
    job.unwrap()
    ended = time.monotonic() - start
    return Span(sent, ended - job.execution_time / 1000, ended, job.worker_id)


async def waves(count: int, jobs: int, seconds: float, pause: float) -> list[Span]:
    """Each wave is sent at once; the pause between two is long enough for the workers to leave."""
    start = time.monotonic()
    spans: list[Span] = []
    for wave in range(count):
        if wave:
            await asyncio.sleep(pause)
        spans += await asyncio.gather(*(one_job(start, seconds) for _ in range(jobs)))
    return spans


def picture(spans: Sequence[Span]) -> str:
    """An SVG: a line for each worker with its jobs, and above it how many jobs wait or run."""
    workers = sorted({span.worker for span in spans}, key=lambda one: min(s.began for s in spans if s.worker == one))
    total = max(span.ended for span in spans)
    width, row, top = 860, 22, 150
    height = top + row * len(workers) + 40

    def x(moment: float) -> float:
        return 90 + (width - 110) * moment / total

    moments = sorted({0.0, total, *(span.sent for span in spans), *(span.ended for span in spans)})
    under_way = [sum(span.sent <= moment < span.ended for span in spans) for moment in moments]
    scale = 90 / max(under_way)
    steps = [f"M {x(0):.1f} 120"]
    for moment, count in zip(moments, under_way, strict=True):
        steps.append(f"H {x(moment):.1f} V {120 - scale * count:.1f}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="90" y="18">jobs that wait or run, {max(under_way)} at most</text>',
        f'<path d="{" ".join(steps)} V 120 Z" fill="#c7ddf5" stroke="#2f6fb0"/>',
        f'<text x="90" y="{top - 8}">jobs by worker, {len(workers)} workers</text>',
    ]
    for at, worker in enumerate(workers):
        y = top + row * at
        lines.append(f'<text x="4" y="{y + 14}">worker {at + 1}</text>')
        for span in spans:
            if span.worker == worker:
                w = max(1.0, x(span.ended) - x(span.began) - 1)
                lines.append(f'<rect x="{x(span.began):.1f}" y="{y}" width="{w:.1f}" height="16" fill="#3f8f5f"/>')
    for tick in range(int(total) + 1):
        lines.append(f'<text x="{x(tick):.1f}" y="{height - 12}" text-anchor="middle">{tick} s</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    """Run the test and say what came of it."""
    parser = argparse.ArgumentParser(description="A load test that draws its result.")
    parser.add_argument("--waves", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=24, help="jobs of a wave")
    parser.add_argument("--seconds", type=float, default=0.2, help="how long a job takes")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds between two waves")
    parser.add_argument("--output", type=Path, default=Path("scaling.svg"))
    chosen = parser.parse_args()
    spans = asyncio.run(waves(chosen.waves, chosen.jobs, chosen.seconds, chosen.pause))
    chosen.output.write_text(picture(spans), encoding="utf-8")
    waited = sorted(span.began - span.sent for span in spans)
    print(f"{len(spans)} jobs by {len({span.worker for span in spans})} workers, drawn in {chosen.output}")
    print(f"waited {waited[len(waited) // 2]:.2f} s in the median, {waited[-1]:.2f} s at most")


if __name__ == "__main__":
    main()
