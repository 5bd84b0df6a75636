"""What runs on CPU workers: one function that hands out work to another, and waits for it, from inside its worker."""

from typing import Any

from runpod_flash import CpuLiveServerless, remote

# Two endpoints: a worker that only waits for its calls lends its place, so one endpoint of one worker would do as well.
count_config = CpuLiveServerless(
    name="03_03_nested_calls_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)
report_config = CpuLiveServerless(
    name="03_03_nested_calls_report",
    workersMin=0,
    workersMax=1,
    idleTimeout=300,
)


@remote(resource_config=count_config)
async def count_words(part: str) -> dict[str, int]:
    """Count the words of one part of a text."""
    import re
    from collections import Counter

    return dict(Counter(re.findall(r"[a-z]+", part.lower())))


@remote(resource_config=report_config, timeout=60)
async def report(text: str, parts: int, top: int) -> dict[str, Any]:
    """Split a text, have its parts counted beside each other, and put the counts together."""
    from collections import Counter

    lines = text.splitlines()
    size = max(1, -(-len(lines) // parts))
    pieces = ["\n".join(lines[at : at + size]) for at in range(0, len(lines), size)]

    total: Counter[str] = Counter()
    workers: set[str] = set()
    async for job in count_words.map(pieces, ordered=False):
        total.update(job.unwrap())  # raises here what the call raised there
        workers.add(job.worker_id)
    longer = Counter({word: times for word, times in total.items() if len(word) > 3})
    return {
        "parts": len(pieces),
        "workers": len(workers),
        "words": total.total(),
        "most_common": longer.most_common(top),
    }
