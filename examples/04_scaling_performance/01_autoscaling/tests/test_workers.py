"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

from xml.etree import ElementTree

import pytest

from cpu_worker import work
from load_test import Span, picture


@pytest.mark.asyncio
async def test_work_is_done() -> None:
    assert (await work.local(0.001)).unwrap()["rounds"] > 0


def test_the_picture_has_a_bar_for_each_job_and_a_line_for_each_worker() -> None:
    spans = [Span(0, 0.1, 0.3, "a"), Span(0, 0.2, 0.4, "b"), Span(0, 0.3, 0.5, "a")]

    drawn = ElementTree.fromstring(picture(spans))

    bars = [one for one in drawn if one.get("fill") == "#3f8f5f"]
    words = [one.text for one in drawn if one.tag.endswith("text")]
    assert len(bars) == 3
    assert "jobs by worker, 2 workers" in words
    assert "jobs that wait or run, 3 at most" in words
