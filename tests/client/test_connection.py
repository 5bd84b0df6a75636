"""The socket of a link: what is written arrives in order, whatever its size, and its end is told once."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runpod_flash.client.connection import Connection


class Peer:
    """The other end, and what our end was told."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        self.received = b""
        self.ends = 0
        self.over = asyncio.Event()
        self.connection = Connection(loop, ours, self._received, self._lost)

    def _received(self, data: memoryview) -> None:
        self.received += data

    def _lost(self) -> None:
        self.ends += 1
        self.over.set()

    async def read(self, size: int) -> bytes:
        loop, data = asyncio.get_running_loop(), b""
        while len(data) < size and (piece := await loop.sock_recv(self.sock, 1 << 20)):
            data += piece
        return data


@asynccontextmanager
async def connected() -> AsyncIterator[Peer]:
    peer = Peer(asyncio.get_running_loop())
    try:
        yield peer
    finally:
        peer.connection.abort()
        peer.sock.close()


def test_what_does_not_fit_into_the_socket_follows_in_order() -> None:
    async def write_much() -> None:
        async with connected() as peer:
            sent = [bytes([n]) * (1 << 20) for n in range(8)]
            for each in sent:
                peer.connection.write(each)
            writable = peer.connection.writable
            assert writable is not None  # the peer has read nothing of eight megabytes
            assert await peer.read(8 << 20) == b"".join(sent)
            await writable
            assert peer.connection.writable is None

    asyncio.run(write_much())


def test_closing_sends_what_waits_and_the_last_words() -> None:
    async def close() -> None:
        async with connected() as peer:
            peer.connection.write(b"a" * (3 << 20))
            peer.connection.close([b"good", b"bye"])
            peer.connection.write(b"too late")
            assert await peer.read(4 << 20) == b"a" * (3 << 20) + b"goodbye"
            peer.sock.close()
            await peer.over.wait()
            assert peer.ends == 1

    asyncio.run(close())


def test_the_peer_may_answer_until_it_has_read_the_last_words() -> None:
    async def close() -> None:
        async with connected() as peer:
            peer.connection.write(b"a question, ")
            peer.connection.close([b"goodbye"])
            peer.sock.sendall(b"an answer")  # to a closed socket it would end the connection, with what lies there
            assert await peer.read(1 << 20) == b"a question, goodbye"
            assert peer.ends == 0
            peer.sock.close()
            await peer.over.wait()
            assert peer.received == b"", "nobody waits for it any more"

    asyncio.run(close())


def test_last_words_without_a_loop_are_waited_for_too() -> None:
    async def connect() -> Peer:
        return Peer(asyncio.get_running_loop())

    peer = asyncio.run(connect())
    heard = []

    def answer() -> None:
        peer.sock.setblocking(True)
        heard.append(peer.sock.recv(1 << 20))
        peer.sock.sendall(b"an answer")
        heard.append(peer.sock.recv(1 << 20))
        peer.sock.close()

    other = threading.Thread(target=answer, daemon=True)
    other.start()
    peer.connection.send_last(b"goodbye", patience_s=20)
    other.join()
    assert heard == [b"goodbye", b""]


def test_the_end_of_the_peer_is_told_once_after_all_that_it_sent() -> None:
    async def leave() -> None:
        async with connected() as peer:
            peer.sock.sendall(b"last words")
            peer.sock.close()
            await peer.over.wait()
            peer.connection.write(b"to nobody")
            peer.connection.abort()
            await asyncio.sleep(0)
            assert (peer.received, peer.ends) == (b"last words", 1)

    asyncio.run(leave())


def test_a_write_to_a_peer_that_is_gone_ends_the_connection() -> None:
    async def write() -> None:
        async with connected() as peer:
            peer.sock.close()
            peer.connection.write(b"anybody?")
            await peer.over.wait()

    asyncio.run(write())
