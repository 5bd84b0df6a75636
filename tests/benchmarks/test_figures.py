from __future__ import annotations

import asyncio

import pytest

from benchmarks import laps
from benchmarks.figures import Goal, Row


def test_a_time_is_read_in_round_trips_whatever_its_unit() -> None:
    assert Row("", "", 80, "µs", round_trip_us=4).ratio == 20
    assert Row("", "", 2, "ms", round_trip_us=4).ratio == 500


def test_a_rate_is_read_as_the_time_of_one_call() -> None:
    assert Row("", "", 10_000, "calls/s", round_trip_us=4).ratio == pytest.approx(25)


def test_memory_has_no_ratio() -> None:
    assert Row("", "", 60, "MB").ratio is None


@pytest.mark.parametrize(
    ("goal", "good"),
    [
        (Goal(40, of="ratio"), True),
        (Goal(10, of="ratio"), False),
        (Goal(80), True),
        (Goal(81, at_least=True), False),
    ],
)
def test_a_goal_limits_the_figure_or_its_ratio(goal: Goal, good: bool) -> None:
    assert Row("", "", 80, "µs", round_trip_us=4, goal=goal).good is good


def test_what_could_not_be_measured_misses_its_goal() -> None:
    assert Row("", "", goal=Goal(1)).good is False
    assert Row("", "", broken=True).good is False


def test_only_a_row_with_a_goal_is_judged() -> None:
    assert Row("", "", 80, "µs").good is None


async def _many_lanes() -> tuple[laps.InFlight, int]:
    most = now = 0

    async def call(_: int) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1

    found = await laps.in_flight_async(call, calls=3000)
    return found, most


def test_as_many_calls_are_in_flight_as_there_are_lanes() -> None:
    found, most = asyncio.run(_many_lanes())

    assert most == laps.LANES
    assert found["slowest"] <= found["rate"] <= found["fastest"]
