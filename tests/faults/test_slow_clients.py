"""Clients that do not read, or hardly speak: bounded in what they cost, and dropped."""

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.servers.dialogue import body, config, connected, piece
from tests.servers.gateway import Gateway
from tests.servers.scripted import CHUNKED, Exchange, ScriptedUpstream, chunk, frames, scripted

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(Flood()) as server:
        yield server


class Flood:
    """Speaks as fast as it is listened to."""

    def __init__(self) -> None:
        self.sent = 0

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        load = chunk(frames(*[piece("word " * 40)] * 50))
        while True:
            await exchange.send(load)
            self.sent += len(load)


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    env = {"SLUICE_SEND_TIMEOUT": "2", "SLUICE_BODY_TIMEOUT": "2", "SLUICE_HEARTBEAT": "1"}
    with Gateway(tmp_path_factory.mktemp("gateway"), config(upstream.url), env) as running:
        yield running


def resident(gateway: Gateway) -> int:
    """Bytes of memory."""
    fields = Path(f"/proc/{gateway.pid}/statm").read_text().split()
    return int(fields[1]) * 4096


async def test_clients_that_never_read_cost_little_and_are_dropped(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    key = await asyncio.to_thread(gateway.key)
    async with connected(gateway.url) as warm:
        await warm.ask(key, body())
        await warm.hear_texts(1)
    await asyncio.wait_for(upstream.idle.wait(), 5)
    before, address = resident(gateway), urlsplit(gateway.url)
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
        f"content-length: {len(body())}\r\n\r\n"
    ).encode() + body()
    asked, sockets = len(upstream.exchanges), []
    for _ in range(20):
        client = socket.create_connection((address.hostname, address.port))
        client.sendall(request)
        sockets.append(client)
    await asyncio.wait_for(upstream.received(asked + 20), 10)
    await asyncio.sleep(1)
    grown = resident(gateway) - before
    began = time.monotonic()
    await asyncio.wait_for(upstream.idle.wait(), 15)
    print(f"{grown / 20 / 1024:.0f} KiB for each, dropped {time.monotonic() - began:.1f} s later")
    assert grown / 20 < 1 << 20
    rows = await asyncio.to_thread(gateway.rows)
    assert [row["status"] for row in rows[-20:]] == ["cancelled"] * 20
    for client in sockets:
        client.close()
    assert not [line for line in gateway.log if "Traceback" in line]


async def test_headers_that_dribble_in_are_not_waited_for(gateway: Gateway) -> None:
    async with connected(gateway.url) as client:
        began = time.monotonic()
        client.writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        for _ in range(40):
            try:
                client.writer.write(b"x-a: b\r\n")
                async with asyncio.timeout(0.5):
                    if not await client.reader.read(1):
                        break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert 5 < time.monotonic() - began < 18


async def test_a_body_that_never_comes_gets_408(gateway: Gateway) -> None:
    key = await asyncio.to_thread(gateway.key)
    async with connected(gateway.url) as client:
        await client.ask(key, body(), withheld=1)
        heard = await asyncio.wait_for(client.hear(b"}}"), 10)
    assert heard.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"request_timeout"' in heard


async def test_a_header_without_end_is_cut(gateway: Gateway) -> None:
    async with connected(gateway.url) as client:
        client.writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: ")
        try:
            for _ in range(200):
                client.writer.write(b"a" * 4096)
                await client.writer.drain()
                await asyncio.sleep(0.001)
        except ConnectionError:
            return
        assert await client.reader.read() == b""


async def test_heartbeats_are_comments_without_an_empty_line(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    async def hesitate(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(frames(piece("a "))))
        await exchange.until_closed()

    key = await asyncio.to_thread(gateway.key)
    upstream.script = hesitate
    async with connected(gateway.url) as client:
        await client.ask(key, body())
        heard = await asyncio.wait_for(client.hear(b": ping\n"), 10)
    assert b": ping\n\n" not in heard
