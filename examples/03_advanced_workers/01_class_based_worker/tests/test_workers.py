"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

from cpu_worker import TEXT, model


def test_equal_arguments_are_one_handle_and_nothing_is_trained_yet() -> None:
    assert model(2) is model(2)
    assert model(2) is not model(3)


def test_the_text_is_there() -> None:
    assert len(TEXT.read_text(encoding="utf-8").split()) > 400
