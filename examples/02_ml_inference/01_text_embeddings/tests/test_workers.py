"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

from gpu_worker import VOCABULARY, Embedder, embedder


def test_the_handle_of_the_model_is_made_without_loading_anything() -> None:
    assert embedder() is embedder()
    assert type(embedder()) is type(Embedder(""))


def test_the_vocabulary_is_the_one_of_the_model() -> None:
    words = VOCABULARY.read_text(encoding="utf-8").splitlines()

    assert len(words) == 30522
    assert words[101:103] == ["[CLS]", "[SEP]"]
