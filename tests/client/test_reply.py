"""A reply wakes the task that waits for it at once, and is like any other future for everybody else."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from runpod_flash.client.reply import Reply
from runpod_flash.wire.frame import Frame

FRAME = Frame(1, 0, 1, b"{}", ())
whose: ContextVar[str] = ContextVar("whose", default="")


def in_callback(reply: Reply, said: list[str]) -> None:
    """What a reader of a socket does: the loop calls it, and no task."""

    def read() -> None:
        reply.deliver(FRAME)
        said.append("delivered")

    asyncio.get_running_loop().call_soon(read)


def test_who_waits_goes_on_before_the_delivery_returns_and_in_its_own_context() -> None:
    async def wait() -> list[str]:
        said: list[str] = []
        whose.set("the task's")
        reply = Reply(loop=asyncio.get_running_loop())
        in_callback(reply, said)
        assert await reply is FRAME
        said.append(f"awake in {whose.get()} context")
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)
        return said

    assert asyncio.run(wait()) == ["awake in the task's context", "delivered"]


def test_all_that_wait_are_woken_if_there_are_several() -> None:
    async def wait() -> None:
        reply = Reply(loop=asyncio.get_running_loop())
        in_callback(reply, [])
        found = await asyncio.gather(asyncio.shield(reply), asyncio.wait_for(reply, 60), _await(reply))
        assert list(found) == [FRAME] * 3

    asyncio.run(wait())


def test_a_wait_that_is_cancelled_or_fails_is_as_with_any_future() -> None:
    async def wait() -> None:
        loop = asyncio.get_running_loop()
        reply = Reply(loop=loop)
        task = loop.create_task(_await(reply))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert reply.cancelled()
        failed = Reply(loop=loop)
        loop.call_soon(failed.set_exception, ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            await failed

    asyncio.run(wait())


def test_what_ends_the_program_in_who_was_woken_reaches_the_loop_and_not_the_reader() -> None:
    said: list[str] = []

    async def leave() -> None:
        reply = Reply(loop=asyncio.get_running_loop())
        in_callback(reply, said)
        await reply
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        asyncio.run(leave())
    assert said == ["delivered"]


async def _await(reply: Reply) -> Frame:
    return await reply
