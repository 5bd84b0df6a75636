"""What judging a function before its first call costs: its text read, its names looked at, what it imports traced.

Packing it, which had to be done in any case, is part of the figure. Time on a processor, since that is what it uses.
The functions are alike and of a usual size, and each has a text and helpers of its own; the first of a program also
pays for reading what is installed.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import nursery
from benchmarks.figures import Goal, Row, Rows, Run

HEAD: Final = """
import json, logging, math
import numpy as np
from pydantic import BaseModel

log = logging.getLogger("bench")
WEIGHTS = np.ones((50, 50))
LABELS = {"a": 1, "b": [1, 2, 3]}

class Order(BaseModel):
    item: str
    count: int = 1
    tags: list[str] = []
"""
FUNCTION: Final = '''
LIMIT_{n} = {n}

def helper_{n}(values, scale=1.0):
    total = 0.0
    for index, value in enumerate(values):
        total += math.sqrt(abs(value)) * scale * index
    return total / max(len(values), LIMIT_{n} or 1)

def work_{n}(order: Order, rows: list, *, depth: int = 3) -> dict:
    """A function of a usual size."""
    import base64
    import dateutil.parser
    try:
        import orjson
    except ImportError:
        orjson = None

    def clean(row):
        return {{key.strip(): value for key, value in row.items() if value is not None}}

    class Result:
        label = LABELS["a"]

        def __init__(self, score):
            self.score = score

    cleaned = [clean(row) for row in rows]
    scores = [helper_{n}([len(str(value)) for value in row.values()]) for row in cleaned]
    matrix = np.asarray(WEIGHTS[:depth, :depth]) @ np.ones(depth)
    best = max(range(len(scores)), key=lambda index: scores[index], default=None)
    when = dateutil.parser.parse("2024-01-01")
    log.info("scored %d rows of %s", len(rows), order.item)
    answer = {{"best": best, "matrix": matrix.tolist(), "when": when.isoformat()}}
    if orjson is None:
        answer["text"] = json.dumps(scores)
    answer["order"] = Order(item=order.item, count=depth).model_dump()
    answer["code"] = base64.b64encode(str(Result(1).score).encode()).decode()
    return answer
'''


def rows(run: Run) -> Rows:
    """Of many functions in a process of their own."""
    found, trip = run.beside(lambda: nursery.run(__name__, run.calls(60), core=run.core))
    note = f"{min(found[1:]):.1f} to {max(found):.1f} ms; the first of the program {found[0]:.0f} ms"
    yield Row("Flash", "judging and packing a function, once", median(found[1:]), "ms", trip, Goal(5), note)


def _judge(number: int) -> list[float]:
    """Milliseconds for each function."""
    from runpod_flash.client.shipment import prepare

    with tempfile.TemporaryDirectory() as folder:
        text = HEAD + "".join(FUNCTION.format(n=n) for n in range(number))
        (Path(folder) / "to_be_judged.py").write_text(text)
        sys.path.insert(0, folder)
        module = importlib.import_module("to_be_judged")
        taken = []
        for n in range(number):
            begin = time.process_time_ns()
            prepare(vars(module)[f"work_{n}"], ())
            taken.append((time.process_time_ns() - begin) / 1e6)
    return taken


if __name__ == "__main__":
    print(json.dumps(_judge(int(sys.argv[1]))))
