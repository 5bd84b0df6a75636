"""The remote functions, called in this process: no engine, no worker, nothing to wait for."""

import pytest

from cpu_worker import review_push


@pytest.mark.asyncio
async def test_subjects_without_a_type_and_long_ones_get_a_remark() -> None:
    commits = [
        {"id": "aaaaaaa1", "message": "feat(cart)!: kept for a week"},
        {"id": "bbbbbbb2", "message": "wip"},
        {"id": "ccccccc3", "message": "fix: " + "x" * 80},
    ]
    review = (await review_push.local("example/shop", commits)).unwrap()

    assert review["kinds"] == {"feat": 1, "other": 1, "fix": 1}
    assert [remark[:7] for remark in review["remarks"]] == ["bbbbbbb", "ccccccc"]
