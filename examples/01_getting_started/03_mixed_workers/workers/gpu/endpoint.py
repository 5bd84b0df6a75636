"""What runs on GPU workers: a model is trained on labelled features and scores others."""

from runpod_flash import GpuGroup, LiveServerless, remote

gpu_config = LiveServerless(
    name="01_03_mixed_workers_gpu",
    gpus=[GpuGroup.ANY],
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=gpu_config)
async def score_features(known: list[dict[str, int]], labels: list[int], features: list[dict[str, int]]) -> list[float]:
    """Train naive Bayes on `known`, whose labels are 0 or 1, and give the probability of 1 for each of `features`.

    It is small enough to need no library; a model on a card has its place here, with its packages in `dependencies`.
    """
    import math
    from collections import Counter

    if set(labels) != {0, 1} or len(labels) != len(known):
        raise ValueError("there must be a label of 0 or 1 for each known text, and both must occur")

    counts: dict[int, Counter[str]] = {0: Counter(), 1: Counter()}
    for words, label in zip(known, labels, strict=True):
        counts[label].update(words)
    vocabulary = len(counts[0].keys() | counts[1].keys())

    def probability(words: dict[str, int]) -> float:
        """By Bayes, with one occurrence of each word added."""
        weight = math.log(labels.count(1) / labels.count(0))
        for word, times in words.items():
            shares = [(counts[label][word] + 1) / (counts[label].total() + vocabulary) for label in (0, 1)]
            weight += times * math.log(shares[1] / shares[0])
        return round(1 / (1 + math.exp(-weight)), 3)

    return [probability(words) for words in features]
