"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

from cpu_worker import Scorer, scorer


def test_the_handle_is_made_without_starting_anything() -> None:
    assert type(scorer) is type(Scorer(1, 1))
