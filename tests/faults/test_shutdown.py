"""SIGTERM: short streams finish, long ones are told, rows are settled, nothing is cut silently."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.servers.dialogue import body, config, connected, piece, story
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    chunk,
    frames,
    scripted,
)

pytestmark = pytest.mark.faults


@pytest.fixture
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def tell(exchange: Exchange) -> None:
        if b"short" in exchange.body:
            await exchange.send(CHUNKED + chunk(frames(piece("a "))))
            await asyncio.sleep(1)
            await exchange.send(chunk(story("b")) + LAST_CHUNK)
        elif b"silent" in exchange.body:
            await exchange.until_closed()
        else:
            await exchange.send(CHUNKED + chunk(frames(piece("a "))))
            await exchange.until_closed()

    async with scripted(tell) as server:
        yield server


async def test_sigterm_ends_every_call_in_words(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    with Gateway(tmp_path, config(upstream.url), {"SLUICE_DRAIN": "2"}) as gateway:
        await end_every_call(gateway, upstream)


async def end_every_call(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    key = await asyncio.to_thread(gateway.key)
    async with (
        connected(gateway.url) as short,
        connected(gateway.url) as long,
        connected(gateway.url) as whole,
        connected(gateway.url) as silent,
    ):
        await short.ask(key, body("short"))
        await long.ask(key, body("long"))
        await whole.ask(key, body("long", stream=False))
        await silent.ask(key, body("silent"))
        await short.hear_texts(1)
        await long.hear_texts(1)
        await upstream.received(4)
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        ends = await asyncio.gather(
            *(client.hear(b"never") for client in (short, long, whole, silent))
        )
    took = time.monotonic() - began
    assert await asyncio.to_thread(gateway.process.wait, 20) in (0, -signal.SIGTERM)
    assert took < 10
    short_end, long_end, whole_end, silent_end = ends
    assert b"data: [DONE]\n\n" in short_end
    assert b"event: error" in long_end
    assert b"server_is_shutting_down" in long_end
    assert b"[DONE]" not in long_end
    for end in (whole_end, silent_end):
        assert end.startswith(b"HTTP/1.1 503 ")
        assert b"server_is_shutting_down" in end
    rows = await asyncio.to_thread(gateway.rows)
    ended = sorted((row["status"], row["error_code"]) for row in rows)
    assert ended == [("error", "server_is_shutting_down")] * 3 + [("ok", None)]
    assert not [line for line in gateway.log if "Traceback" in line]


async def test_an_idle_gateway_stops_at_once(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    await asyncio.to_thread(gateway.start)
    began = time.monotonic()
    assert await asyncio.to_thread(gateway.stop) in (0, -signal.SIGTERM)
    assert time.monotonic() - began < 10
    assert not [line for line in gateway.log if "Traceback" in line]


async def test_ctrl_c_leaves_no_traceback(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    await asyncio.to_thread(gateway.start)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGINT)
    assert await asyncio.to_thread(gateway.process.wait, 20) in (0, 130, -signal.SIGINT)
    await asyncio.sleep(0.1)
    assert not [line for line in gateway.log if "Traceback" in line], gateway.log


async def test_a_second_gateway_on_the_same_data_is_refused_in_one_line(tmp_path: Path) -> None:
    with Gateway(tmp_path) as first:
        second = await asyncio.to_thread(first.run, "serve", check=False)
        assert second.returncode == 2
        assert "Traceback" not in second.stderr
        assert "another" in second.stderr
