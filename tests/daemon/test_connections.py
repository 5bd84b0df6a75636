from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from runpod_flash.daemon.connections import OUTBOX_LIMIT, Link, Reception
from runpod_flash.engine.turn import Link as EngineLink
from runpod_flash.wire import frame, kinds, messages
from runpod_flash.wire.frame import Frame, FrameReader
from runpod_flash.wire.messages import Hello, Refuse, Welcome
from tests.waiting import async_until

CLIENT = Hello(proto_min=1, proto_max=1, role="client", version="1", pid=7)


class Engine:
    """Notes who came, what they said and who left; refuses hosts that lack the key."""

    def __init__(self) -> None:
        self.came: list[EngineLink] = []
        self.frames: list[Frame] = []
        self.gone: list[EngineLink] = []
        self.reply: Callable[[EngineLink, Frame], None] = lambda link, message: None

    @property
    def links(self) -> Engine:
        return self

    def welcome(self, proto: int) -> Welcome:
        return Welcome(
            proto=proto,
            engine="e",
            start_no=1,
            version="1",
            pid=1,
            data_dir="/d",
            blob_dir="/b",
            durability="process",
            lease_ms=1,
            beat_ms=1,
        )

    def client_joined(self, link: EngineLink, hello: Hello) -> Refuse | None:
        self.came.append(link)
        return None

    def host_joined(self, link: EngineLink, hello: Hello) -> Refuse | None:
        return None if hello.key == "right" else Refuse(code="unknown_host", what="who is that")

    worker_joined = host_joined

    def received(self, link: EngineLink, message: Frame) -> None:
        self.frames.append(message)
        self.reply(link, message)

    def left(self, link: EngineLink) -> None:
        self.gone.append(link)


class Peer:
    """Somebody who connects."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._frames = FrameReader()
        self._arrived: list[Frame] = []

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> Any:
        """The next head; None at the end of the connection."""
        while not self._arrived:
            data = await asyncio.wait_for(self.reader.read(1 << 20), 10)
            if not data:
                return None
            self._arrived = self._frames.feed(data)
        message = self._arrived.pop(0)
        self.sid = message.sid
        return messages.decode(message)

    async def greet(self, hello: Hello = CLIENT) -> Any:
        self.say(hello.encode())
        return await self.hear()


class Desk:
    """A reception that listens."""

    def __init__(self, path: Path, *, hello_s: float = 10.0) -> None:
        self.path = path
        self.outdated = False
        self.handed_over = 0
        self.engine = Engine()
        self.reception = Reception(
            self.engine, outdated=lambda: self.outdated, hand_over=self._hand_over, hello_s=hello_s
        )
        self.peers: list[Peer] = []

    def _hand_over(self) -> None:
        self.handed_over += 1

    async def peer(self) -> Peer:
        peer = Peer(*await asyncio.open_unix_connection(str(self.path), limit=1 << 16))
        self.peers.append(peer)
        return peer

    async def run(self, scene: Callable[[Desk], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: Link(self.reception), str(self.path))
        try:
            await asyncio.wait_for(scene(self), 30)
        finally:
            for peer in self.peers:
                peer.writer.close()
            server.close()
            await self.reception.close(1)


Play = Callable[..., None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest, short_path: Path) -> Iterator[Play]:
    """Runs a scene at a desk, on each kind of loop."""
    loop = request.param()

    def run(scene: Callable[[Desk], Awaitable[None]], **options: Any) -> None:
        async def all_of_it() -> None:
            await Desk(short_path / "s", **options).run(scene)

        loop.run_until_complete(all_of_it())

    yield run
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()


# ── greeting ──────────────────────────────────────────────────────────────────────────────────────


def test_a_greeting_is_answered_and_frames_reach_the_engine(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        peer.say(CLIENT.encode() + messages.Query(what="jobs").encode(sid=1))
        assert isinstance(await peer.hear(), Welcome)
        await async_until(lambda: desk.engine.frames)
        assert [(link.role, link.pid) for link in desk.engine.came] == [("client", 7)]
        peer.writer.close()
        await async_until(lambda: desk.engine.gone)
        assert desk.engine.gone == desk.engine.came

    play(scene)


@pytest.mark.parametrize(
    "first",
    [
        messages.Ping().encode(),
        frame.encode(kinds.HELLO, b"{not json"),
        frame.encode(kinds.HELLO, b'{"role": "client"}'),
        frame.encode(250, b"{}"),
    ],
    ids=["another frame", "no JSON", "half a greeting", "unknown frame"],
)
def test_who_does_not_greet_is_refused(play: Play, first: bytes) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        peer.say(first)
        answer = await peer.hear()
        assert isinstance(answer, Refuse)
        assert answer.code == "bad_hello"
        assert await peer.hear() is None
        assert desk.engine.came == desk.engine.gone == []

    play(scene)


def test_who_says_nothing_is_refused_after_a_while(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        assert "no greeting within 0.05 s" in (await peer.hear()).what
        assert await peer.hear() is None

    play(scene, hello_s=0.05)


def test_an_unknown_role_is_refused(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        answer = await peer.greet(Hello(proto_min=1, proto_max=1, role="king", version="1", pid=7))
        assert "'king'" in answer.what
        assert await peer.hear() is None

    play(scene)


@pytest.mark.parametrize("role", ["host", "worker"])
def test_a_key_is_for_the_engine_to_judge(play: Play, role: str) -> None:
    async def scene(desk: Desk) -> None:
        for key, kind in (("right", Welcome), ("wrong", Refuse)):
            peer = await desk.peer()
            hello = Hello(proto_min=1, proto_max=1, role=role, version="1", pid=7, key=key)
            assert isinstance(await peer.greet(hello), kind)
            if kind is Refuse:
                assert await peer.hear() is None
        assert desk.engine.gone == [], "who was refused has never been there"

    play(scene)


def test_the_newest_common_protocol_is_spoken(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        answer = await peer.greet(Hello(proto_min=0, proto_max=9, role="client", version="9", pid=7))
        assert answer.proto == kinds.PROTO_MAX

    play(scene)


def test_a_client_too_new_to_be_understood_gets_a_newer_engine(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        answer = await peer.greet(Hello(proto_min=8, proto_max=9, role="client", version="9", pid=7))
        assert answer.handover
        assert desk.handed_over == 1

    play(scene)


def test_one_too_old_is_told_to_upgrade(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        answer = await peer.greet(Hello(proto_min=0, proto_max=0, role="client", version="0", pid=7))
        assert not answer.handover
        assert "upgrade" in answer.fix
        assert desk.handed_over == 0

    play(scene)


def test_an_engine_whose_package_was_replaced_makes_room(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        desk.outdated = True
        peer = await desk.peer()
        answer = await peer.greet()
        assert (answer.code, answer.handover) == ("replaced", True)
        assert desk.handed_over == 1

    play(scene)


def test_nobody_comes_in_while_the_engine_leaves(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        desk.reception.leaving = True
        peer = await desk.peer()
        answer = await peer.greet()
        assert (answer.code, answer.handover) == ("leaving", True)

    play(scene)


# ── frames ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "garbage",
    [struct.pack("<IBBHIQ", 9 << 20, kinds.SUBMIT, 0, 0, 2, 1), b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ids=["9 MiB", "HTTP"],
)
def test_bytes_that_are_no_frame_end_the_link_with_a_word(play: Play, garbage: bytes) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        await peer.greet()
        peer.say(garbage)
        assert (await peer.hear()).code == "bad_frame"
        assert await peer.hear() is None
        await async_until(lambda: desk.engine.gone)

    play(scene)


def test_a_frame_of_the_greatest_size_arrives_in_pieces(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        await peer.greet()
        part = os.urandom(kinds.FRAME_LIMIT - 1000)
        peer.say(messages.Query(what="jobs").encode([part], sid=1))
        await async_until(lambda: desk.engine.frames)
        assert desk.engine.frames[0].parts == (part,)

    play(scene)


# ── slow readers ──────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_read_from_who_does_not_read(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        answer = messages.Ok().encode([bytes(1 << 20)], sid=2)
        desk.engine.reply = lambda link, message: link.send(answer)
        peer = await desk.peer()
        await peer.greet()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(64):
            peer.say(messages.Query(what="jobs").encode([bytes(1 << 16)], sid=1))
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        (link,) = desk.engine.came
        answered = len(desk.engine.frames)
        assert OUTBOX_LIMIT < getattr(link, "write_backlog") < OUTBOX_LIMIT + (4 << 20)  # noqa: B009
        assert answered < 64
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(64):
            assert isinstance(await peer.hear(), messages.Ok)

    play(scene)


def test_output_is_left_out_for_who_does_not_read_it_and_nothing_else_is(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        await peer.greet()
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        (link,) = desk.engine.came
        lines = ["x" * 1000] * 100
        for n in range(300):
            head = messages.Log(job="j", attempt=1, worker="w", fd=1, at_ms=0, n=100 * n, lines=lines)
            link.send(head.encode(sid=1))
            await asyncio.sleep(0)
        link.send(messages.Ok().encode(sid=1, flags=kinds.END))
        peer.reader._transport.resume_reading()  # type: ignore[attr-defined]
        heard = [await peer.hear()]
        while not isinstance(heard[-1], messages.Ok):
            heard.append(await peer.hear())
        logs, notice = heard[:-2], heard[-2]
        skipped = 100 * (300 - len(logs))
        assert 0 < len(logs) < 150
        assert notice.lines[0].startswith(f"({skipped} lines skipped")

    play(scene)


# ── many at once ──────────────────────────────────────────────────────────────────────────────────


def test_a_thousand_frames_in_one_piece_leave_room_for_others_between_them(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        loop, handled_when_others_came = asyncio.get_running_loop(), []

        def reply(link: EngineLink, message: Frame) -> None:
            if message.sid == 1:
                loop.call_soon(lambda: handled_when_others_came.append(len(desk.engine.frames)))

        desk.engine.reply = reply
        peer = await desk.peer()
        await peer.greet()
        peer.say(b"".join(messages.Query(what="jobs").encode(sid=1 + 2 * n) for n in range(1000)))
        await async_until(lambda: len(desk.engine.frames) == 1000)
        assert [message.sid for message in desk.engine.frames] == [1 + 2 * n for n in range(1000)]
        assert handled_when_others_came[0] < 200

    play(scene)


def test_what_came_before_the_end_of_a_connection_is_heard_before_it(play: Play) -> None:
    async def scene(desk: Desk) -> None:
        peer = await desk.peer()
        await peer.greet()
        peer.say(b"".join(messages.Query(what="jobs").encode(sid=1 + 2 * n) for n in range(1000)))
        peer.writer.close()
        await async_until(lambda: desk.engine.gone)
        assert len(desk.engine.frames) == 1000

    play(scene)
