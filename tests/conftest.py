"""Fixtures for every folder of tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["runpod_flash.testing.plugin"]

# How long an example takes says nothing on a machine that runs other tests beside this one.
settings.register_profile("flash", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("flash")
