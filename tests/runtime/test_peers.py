"""Engine nodes that talk to each other: on both event loops, with the right secret and the wrong one, with strangers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from stepwell.engine.runtime.peer_messages import Answer, Ask, AskWait
from stepwell.engine.runtime.peers import Listener, Peer, PeerUnavailableError
from tests.support.waiting import DEADLINE

SECRET = b"tests" * 8
LOOPS = (asyncio.new_event_loop, uvloop.new_event_loop)
ASK = AskWait(bytes(16), 0)


def run(loop: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(main)


async def says_ended(ask: Ask, number: int) -> Answer:
    return Answer(number, "ENDED")


async def asked_with(secret: bytes) -> Answer:
    listener = Listener(SECRET, says_ended)
    peer = Peer(await listener.open("127.0.0.1"), secret)
    try:
        return await peer.ask(ASK, 5)
    finally:
        peer.close()
        await listener.close()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_peer_is_asked_and_answers(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        assert (await asked_with(SECRET)).outcome == "ENDED"

    run(loop, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_who_does_not_know_the_secret_is_not_answered(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        with pytest.raises(PeerUnavailableError):
            await asked_with(b"another" * 5)

    run(loop, main())


async def test_a_stranger_cannot_have_much_kept_for_it(caplog: pytest.LogCaptureFixture) -> None:
    listener = Listener(SECRET, says_ended)
    host, _, port = (await listener.open("127.0.0.1")).rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        with caplog.at_level(logging.WARNING):
            writer.write((1_000_000).to_bytes(4, "big"))
            async with asyncio.timeout(DEADLINE):
                await reader.read()
    finally:
        writer.close()
        await listener.close()
    assert "does not speak our protocol" in caplog.text


async def test_a_node_that_accepts_and_says_nothing_leaves_no_connection_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stepwell.engine.runtime.peers.CONNECT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer(f"127.0.0.1:{silent.getsockname()[1]}", SECRET)
        with pytest.raises(PeerUnavailableError):
            await peer.ask(ASK, 5)
        loop = asyncio.get_running_loop()
        silent.setblocking(False)
        connection, _ = await loop.sock_accept(silent)
        with connection:
            async with asyncio.timeout(DEADLINE):
                assert await loop.sock_recv(connection, 100) == b"", "the caller has hung up"
