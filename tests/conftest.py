"""Fixtures for every folder of tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

pytest_plugins = ["runpod_flash.testing.plugin"]

# How long an example takes says nothing on a machine that runs other tests beside this one. The same examples come
# every time, so that a failure is everybody's and not of one run; FUZZ=1 draws others.
settings.register_profile(
    "flash", deadline=None, derandomize="FUZZ" not in os.environ, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("flash")
