"""For tests of programs that use Flash: a real engine of their own, and the certainty that nothing of it is left.

    from runpod_flash.testing import isolated_engine

    with isolated_engine() as engine:
        assert shop.total.sync([1, 2]).output == 3

With pytest the same is a fixture: `pytest_plugins = ["runpod_flash.testing.plugin"]`, then ask for `flash_engine`.
"""

from __future__ import annotations

from runpod_flash.testing.isolated import IsolatedEngine, LeftBehind, isolated_engine

__all__ = ["IsolatedEngine", "LeftBehind", "isolated_engine"]
