"""Calls that block, on the loop in a thread: how they end."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from runpod_flash.client import background


def test_ctrl_c_cancels_a_call_from_its_first_moment_on() -> None:
    cancelled = threading.Semaphore(0)

    async def interrupted() -> None:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.release()
            raise

    for _ in range(200):
        with pytest.raises(KeyboardInterrupt):
            background.run(interrupted())
        assert cancelled.acquire(timeout=10), "it ran on"
