"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from workers.cpu.endpoint import prepare_reviews, summarize
from workers.gpu.endpoint import score_features


@pytest.mark.asyncio
async def test_a_negation_is_a_word_of_its_own() -> None:
    features = await prepare_reviews.local(["It is not good, not good at all"])

    assert features == [{"not_good": 2, "at": 1, "all": 1}]


@pytest.mark.asyncio
async def test_the_model_learns_what_it_is_told() -> None:
    known = [{"great": 1}, {"awful": 1}]
    scores = (await score_features.local(known, [1, 0], [*known, {"green": 1}])).unwrap()

    assert scores[0] > 0.6
    assert scores[1] < 0.4
    assert scores[2] == 0.5


@pytest.mark.asyncio
async def test_labels_that_do_not_fit_are_refused() -> None:
    job = await score_features.local([{"great": 1}], [1, 0], [{"great": 1}])

    assert isinstance(job.exception, ValueError)


@pytest.mark.asyncio
async def test_scores_become_words() -> None:
    summary = await summarize.local([0.9, 0.1, 0.5])

    assert summary == {"labels": ["positive", "negative", "unsure"], "positive_share": 0.33}
