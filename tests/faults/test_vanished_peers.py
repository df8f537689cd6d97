"""A client whose cable is pulled: no FIN, no RST, only silence. The model must not speak on for long."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest

from gateway.server.peers import has_vanished
from tests.servers.dialogue import body, config, piece
from tests.servers.gateway import Gateway
from tests.servers.scripted import CHUNKED, Exchange, ScriptedUpstream, chunk, frames, scripted

pytestmark = pytest.mark.faults

SPACE = "sluice-test"
HERE, THERE = "10.77.77.1", "10.77.77.2"

# Runs in a network of its own: asks, and reads for ever.
CLIENT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
connection.sendall(sys.stdin.buffer.read())
while connection.recv(65536):
    pass
"""


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)


@pytest.fixture
def network() -> Generator[None, None, None]:
    """A second host on this machine, at the end of a cable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("pulling a cable takes root and iproute2")
    subprocess.run(["ip", "netns", "del", SPACE], check=False, capture_output=True)
    try:
        ip(f"netns add {SPACE}")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine allows no network namespaces: {error.stderr.strip()}")
    try:
        ip(f"link add sluice0 type veth peer name sluice1 netns {SPACE}")
        ip(f"addr add {HERE}/24 dev sluice0")
        ip("link set sluice0 up")
        ip(f"-n {SPACE} addr add {THERE}/24 dev sluice1")
        ip(f"-n {SPACE} link set sluice1 up")
        yield
    finally:
        ip(f"netns del {SPACE}")


@pytest.fixture
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def tell(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        gone = asyncio.create_task(exchange.until_closed())
        while not gone.done():
            await exchange.send(chunk(frames(piece("word "))))
            await asyncio.wait((gone,), timeout=0.05)

    async with scripted(tell) as server:
        yield server


async def test_the_model_stops_within_a_minute_of_the_last_sign_of_life(
    network: None, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with Gateway(tmp_path, config(upstream.url), {"SLUICE_HOST": "0.0.0.0"}) as gateway:
        key = await asyncio.to_thread(gateway.key)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n"
            f"content-length: {len(body())}\r\n\r\n"
        )
        port = gateway.url.rpartition(":")[2]
        inside = ["ip", "netns", "exec", SPACE, sys.executable, "-c", CLIENT, HERE, port]
        with subprocess.Popen(inside, stdin=subprocess.PIPE) as client:  # noqa: ASYNC220  # a moment
            assert client.stdin is not None
            client.stdin.write(head.encode() + body())
            client.stdin.close()
            try:
                await asyncio.wait_for(upstream.received(1), 20)
                await asyncio.sleep(1)
                ip(f"-n {SPACE} link set sluice1 down")
                began = time.monotonic()
                await asyncio.wait_for(upstream.idle.wait(), 60)
            finally:
                client.kill()
        print(f"upstream closed {time.monotonic() - began:.0f} s after the cable was pulled")
        (row,) = await asyncio.to_thread(gateway.rows)
    assert row["status"] == "cancelled"


def test_a_peer_that_is_there_has_not_vanished() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        client.sendall(b"x")
        # Not read by anybody, and yet acknowledged.
        accepted.setblocking(False)
        try:
            while True:
                accepted.send(b"y" * 65536)
        except BlockingIOError:
            pass
        assert not has_vanished(accepted)
        assert not has_vanished(client)
