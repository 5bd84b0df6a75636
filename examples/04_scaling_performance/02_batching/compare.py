"""The same requests one after another and all at once: python compare.py [requests]"""

import asyncio
import sys
import time

from cpu_worker import scorer


async def main(count: int) -> None:
    """Say how long both take, and in how many runs of the model."""
    texts = [f"request number {number}" for number in range(count)]
    await scorer.score("start the worker")

    before = await scorer.facts()
    began = time.perf_counter()
    for text in texts:
        await scorer.score(text)
    alone, between = time.perf_counter() - began, await scorer.facts()

    began = time.perf_counter()
    await asyncio.gather(*(scorer.score(text) for text in texts))
    together, after = time.perf_counter() - began, await scorer.facts()

    print(f"one after another: {count} requests in {between['runs'] - before['runs']} runs, {alone:.2f} s")
    print(f"all at once:       {count} requests in {after['runs'] - between['runs']} runs, {together:.2f} s")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 64))
