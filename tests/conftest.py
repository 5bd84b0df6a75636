"""Fixtures for every folder of tests."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that: those here are sent it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["runpod_flash.testing.plugin"]

# How long an example takes says nothing on a machine that runs other tests beside this one. The same examples come
# every time, so that a failure is everybody's and not of one run; FUZZ=1 draws others, and more of them.
FUZZ = bool(os.environ.get("FUZZ"))
settings.register_profile(
    "flash",
    deadline=None,
    derandomize=not FUZZ,
    max_examples=500 if FUZZ else 60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("flash")
