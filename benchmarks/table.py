"""The one table that a run prints, and its form for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import Row

VERDICTS = {True: "[green]pass[/]", False: "[bold red]FAIL[/]", None: ""}


def show(rows: Sequence[Row], console: Console) -> None:
    """Prints the table."""
    table = Table(title=machine(), title_justify="left", title_style="dim", header_style="bold")
    table.add_column("metric")
    table.add_column("figure", justify="right", no_wrap=True)
    table.add_column("× round trip", justify="right")
    table.add_column("goal", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("remarks", style="dim")
    measured = [row for row in rows if not row.about]
    for section, lines in groupby(measured, lambda row: row.section):
        table.add_row(f"[bold]{section}[/]")
        for row in lines:
            table.add_row(
                f"  {row.metric}",
                "–" if row.figure is None else f"{_digits(row.figure)} {row.unit}",
                "" if row.ratio is None else f"{_digits(row.ratio)}",
                "" if row.goal is None else f"{row.goal}",
                VERDICTS[row.good],
                escape(row.note),
            )
        table.add_section()
    console.print(table)
    for row in rows:
        if row.about:
            console.print(f"[bold]{row.metric}:[/] {escape(row.note)}", highlight=False, soft_wrap=False)


def write_json(rows: Sequence[Row], others_cores: float, crowded: Mapping[str, float], path: Path) -> None:
    """The same facts, to be compared with those of other runs."""
    facts = {
        "machine": machine(),
        "at": datetime.now(timezone.utc).isoformat("T", "seconds"),
        "cores_used_by_others": round(others_cores, 2),
        "crowded": {name: round(cores, 2) for name, cores in crowded.items()},
        "rows": [_plain(row) for row in rows],
    }
    path.write_text(json.dumps(facts, indent=2) + "\n")


def machine() -> str:
    """Processor, cores, memory, system and Python."""
    memory = psutil.virtual_memory().total / 1e9
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release()}"
    return f"{_processor()}, {psutil.cpu_count()} cores, {memory:.0f} GB; {system}; {python}"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _digits(value: float) -> str:
    """Three of them are more than these figures deserve."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _plain(row: Row) -> dict[str, Any]:
    return {
        "section": row.section,
        "metric": row.metric,
        "figure": row.figure,
        "unit": row.unit,
        "ratio": row.ratio,
        "goal": None if row.goal is None else str(row.goal),
        "good": row.good,
        "note": row.note,
    }
