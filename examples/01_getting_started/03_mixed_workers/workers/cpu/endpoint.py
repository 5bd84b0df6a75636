"""What runs on CPU workers: texts become features before, and scores become words after."""

from typing import Any

from runpod_flash import CpuLiveServerless, remote

cpu_config = CpuLiveServerless(
    name="01_03_mixed_workers_cpu",
    workersMin=0,
    workersMax=3,
    idleTimeout=300,
)


@remote(resource_config=cpu_config)
async def prepare_reviews(texts: list[str]) -> list[dict[str, int]]:
    """Count the words of each text, without those that say nothing; `not good` counts as `not_good`."""
    import re
    from collections import Counter

    silent = {"the", "a", "an", "and", "or", "it", "is", "was", "i", "to", "of", "in", "this", "my", "with", "for"}

    def features(text: str) -> dict[str, int]:
        """The words of one text and how often each occurs."""
        words = re.sub(r"\b(not|never|no)\s+(\w+)", r"\1_\2", text.lower())
        return dict(Counter(word for word in re.findall(r"[a-z_]+", words) if word not in silent))

    return [features(text) for text in texts]


@remote(resource_config=cpu_config)
async def summarize(scores: list[float]) -> dict[str, Any]:
    """Turn scores between 0 and 1 into labels, and say what share is positive."""

    def label(score: float) -> str:
        """A word for a score."""
        if 0.4 < score < 0.6:
            return "unsure"
        return "positive" if score >= 0.6 else "negative"

    labels = [label(score) for score in scores]
    return {"labels": labels, "positive_share": round(labels.count("positive") / len(labels), 2)}
