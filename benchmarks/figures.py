"""A figure, what it is read beside, and whether it is good enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from benchmarks import yardstick

Unit = Literal["µs", "ms", "calls/s", "MB", "% of a core"]
Found = TypeVar("Found")
MICROSECONDS: dict[Unit, float] = {"µs": 1, "ms": 1000}


@dataclass(frozen=True)
class Goal:
    """A limit on the figure itself, or on its ratio to the yardstick."""

    limit: float
    of: Literal["figure", "ratio"] = "figure"
    at_least: bool = False

    def met(self, figure: float, ratio: float | None) -> bool:
        """Whether the figure keeps to it."""
        value = ratio if self.of == "ratio" else figure
        if value is None:
            return False
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.limit:,g}" + (" ×" if self.of == "ratio" else "")


@dataclass(frozen=True)
class Row:
    """One line of the table. Without a figure, `note` says why."""

    section: str
    metric: str
    figure: float | None = None
    unit: Unit = "µs"
    round_trip_us: float | None = None
    """The yardstick, read right before and right after this was measured."""
    goal: Goal | None = None
    note: str = ""
    broken: bool = False
    """Could not be measured, though it should have been."""
    about: bool = False
    """No measurement: `note` says what the figures of that name stand for."""

    @property
    def ratio(self) -> float | None:
        """How many round trips of the yardstick this takes (of a rate: one call of it)."""
        if self.figure is None or not self.round_trip_us:
            return None
        if self.unit == "calls/s":
            return 1e6 / self.figure / self.round_trip_us
        return self.figure * MICROSECONDS[self.unit] / self.round_trip_us

    @property
    def good(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.broken:
            return False
        if self.goal is None:
            return None
        return self.figure is not None and self.goal.met(self.figure, self.ratio)


@dataclass
class Run:
    """How this run measures, and the yardstick through it."""

    core: int | None
    """Everything of a sequential figure is pinned to this core; None: nothing is."""
    quick: bool = False
    peers: bool = True
    """Whether the systems of others are measured within a group of ours, too."""
    trips: list[yardstick.Reading] = field(default_factory=list)

    def beside(self, measure: Callable[[], Found]) -> tuple[Found, float]:
        """What is found, and the yardstick's mean of right before and right after, as machines change by the minute."""
        before = self.round_trip_us()
        found = measure()
        return found, (before + self.round_trip_us()) / 2

    def round_trip_us(self) -> float:
        """Reads the yardstick."""
        self.trips.append(yardstick.round_trip_us(self.core))
        return self.trips[-1].typical

    def calls(self, number: int) -> str:
        """That many, or a tenth of it when there is no time."""
        return str(number // 10 if self.quick else number)


Rows = Iterator[Row]
