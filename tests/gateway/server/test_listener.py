"""Connections as peers make them, byte by byte."""

import asyncio
import re
from collections.abc import Generator

import pytest

from tests.servers.gateway import Gateway

QUESTION = b'{"model": "demo-fast", "messages": [{"role": "user", "content": "say yes"}]}'
WISH = (
    b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
async def key(gateway: Gateway) -> bytes:
    return (await asyncio.to_thread(gateway.key)).encode()


def ask(key: bytes, headers: bytes = b"", body: bytes = QUESTION) -> bytes:
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n"
        b"%scontent-length: %d\r\n\r\n%s" % (key, headers, len(body), body)
    )


async def exchange(gateway: Gateway, *parts: bytes, answers: int = 1) -> tuple[list[int], bytes]:
    """The statuses of the answers to what is sent in so many packets, and all their bytes."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            while len(received.split(b'"usage"')) <= answers:
                read = await reader.read(65536)
                if not read:
                    break
                received += read
    finally:
        writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", received)], received


async def test_a_wish_for_another_protocol_is_declined_and_the_request_answered(
    gateway: Gateway, key: bytes
) -> None:
    wishing = ask(key, WISH)
    head, body = wishing[: -len(QUESTION)], wishing[-len(QUESTION) :]
    for parts in ([wishing], [head, body], [head[:40], head[40:] + body[:7], body[7:]]):
        statuses, received = await exchange(gateway, *parts)
        assert statuses == [200]
        assert b'"content":"yes"' in received


async def test_a_connection_goes_on_after_a_declined_wish(gateway: Gateway, key: bytes) -> None:
    listing = b"GET /healthz HTTP/1.1\r\nhost: x\r\n%s\r\n" % WISH
    together = listing + ask(key, WISH) + ask(key)
    statuses, _ = await exchange(gateway, together, answers=2)
    assert statuses == [200, 200, 200]


async def test_chunks_may_follow_a_wish(gateway: Gateway, key: bytes) -> None:
    head = ask(key, WISH + b"transfer-encoding: chunked\r\n", b"").replace(
        b"content-length: 0\r\n", b""
    )
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(QUESTION), QUESTION)
    statuses, _ = await exchange(gateway, head + sent)
    assert statuses == [200]


async def test_a_tunnel_is_not_made(gateway: Gateway) -> None:
    statuses, _ = await exchange(
        gateway, b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\nhello"
    )
    assert statuses[0] in (400, 404, 405)
