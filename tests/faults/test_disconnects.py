"""A client that hangs up, at every stage of a call: the model stops, and the row tells the truth."""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Generator
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


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def unset(exchange: Exchange) -> None:
        raise AssertionError("the test sets the script")

    async with scripted(unset) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    env = {"SLUICE_FIRST_EVENT_WAIT": "0.5"}
    with Gateway(tmp_path_factory.mktemp("gateway"), config(upstream.url), env) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.key()


class Teller:
    """An upstream that tells one word every 10 ms until nobody listens, and counts them."""

    def __init__(self, *, silent: str = "") -> None:
        self.silent = silent
        self.told = 0
        self.began = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.began.set()
        if self.silent != "before headers":
            await exchange.send(CHUNKED)
        gone = asyncio.create_task(exchange.until_closed())
        try:
            while not gone.done() and not self.silent:
                await exchange.send(chunk(frames(piece("word "))))
                self.told += 1
                await asyncio.wait((gone,), timeout=0.01)
            await gone
        finally:
            gone.cancel()


async def settled(gateway: Gateway, count: int) -> list[dict[str, object]]:
    for _ in range(50):
        rows = await asyncio.to_thread(gateway.rows)
        if len(rows) >= count and all(row["status"] != "open" for row in rows):
            return rows
        await asyncio.sleep(0.1)
    raise AssertionError(f"rows are still open: {rows}")


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("stage", ["before headers", "before the first event"])
async def test_a_model_that_is_silent_is_left_at_once(
    gateway: Gateway, upstream: ScriptedUpstream, key: str, stage: str, stream: bool
) -> None:
    before = len(await settled(gateway, 0))
    teller = Teller(silent=stage)
    upstream.script = teller
    async with connected(gateway.url) as client:
        await client.ask(key, body(stream=stream))
        await teller.began.wait()
        await asyncio.sleep(0.05)
    left = time.monotonic()
    await asyncio.wait_for(upstream.idle.wait(), 1)
    print(f"upstream closed after {1000 * (time.monotonic() - left):.1f} ms")
    rows = await settled(gateway, before + 1)
    assert len(rows) == before + 1
    assert (rows[-1]["status"], rows[-1]["tokens_out"]) == ("cancelled", 0)


async def test_a_stream_that_has_begun_without_an_event_is_left_at_once(
    gateway: Gateway, upstream: ScriptedUpstream, key: str
) -> None:
    before = len(await settled(gateway, 0))
    upstream.script = Teller(silent="before the first event")
    async with connected(gateway.url) as client:
        await client.ask(key, body())
        heard = await client.hear(b"\r\n\r\n")
        assert heard.startswith(b"HTTP/1.1 200")
    await asyncio.wait_for(upstream.idle.wait(), 1)
    rows = await settled(gateway, before + 1)
    assert [row["request_id"] for row in rows].count(client.request_id) == 1
    assert rows[-1]["status"] == "cancelled"


@pytest.mark.parametrize("words", [1, 3, 20])
async def test_tokens_are_between_what_arrived_and_what_was_told(
    gateway: Gateway, upstream: ScriptedUpstream, key: str, words: int
) -> None:
    before = len(await settled(gateway, 0))
    teller = Teller()
    upstream.script = teller
    async with connected(gateway.url) as client:
        await client.ask(key, body())
        await client.hear_texts(words)
    left = time.monotonic()
    await asyncio.wait_for(upstream.idle.wait(), 1)
    print(f"upstream closed after {1000 * (time.monotonic() - left):.1f} ms")
    rows = await settled(gateway, before + 1)
    (row,) = [row for row in rows if row["request_id"] == client.request_id]
    assert len(rows) == before + 1
    assert row["status"] == "cancelled"
    assert row["counted"] == "partial"
    assert isinstance(row["tokens_out"], int)
    assert len(client.texts()) <= row["tokens_out"] <= teller.told


async def test_a_whole_answer_that_nobody_waits_for_is_counted_as_far_as_it_came(
    gateway: Gateway, upstream: ScriptedUpstream, key: str
) -> None:
    before = len(await settled(gateway, 0))
    teller = Teller()
    upstream.script = teller
    async with connected(gateway.url) as client:
        await client.ask(key, body(stream=False))
        await teller.began.wait()
        await asyncio.sleep(0.2)
    await asyncio.wait_for(upstream.idle.wait(), 1)
    rows = await settled(gateway, before + 1)
    assert len(rows) == before + 1
    assert rows[-1]["status"] == "cancelled"
    assert isinstance(rows[-1]["tokens_out"], int)
    assert 0 < rows[-1]["tokens_out"] <= teller.told


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_hanging_up_after_the_end_changes_nothing(
    gateway: Gateway, upstream: ScriptedUpstream, key: str, stream: bool
) -> None:
    async def tell(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(story("a ", "b ", "c")) + LAST_CHUNK)

    before = len(await settled(gateway, 0))
    upstream.script = tell
    async with connected(gateway.url) as client:
        await client.ask(key, body(stream=stream))
        await client.hear(b"[DONE]" if stream else b'"usage"')
    rows = await settled(gateway, before + 1)
    assert len(rows) == before + 1
    assert (rows[-1]["status"], rows[-1]["tokens_in"], rows[-1]["tokens_out"]) == ("ok", 7, 3)
    assert rows[-1]["counted"] == "reported"


async def test_a_client_that_leaves_while_it_asks_costs_nothing(
    gateway: Gateway, upstream: ScriptedUpstream, key: str
) -> None:
    before = len(await settled(gateway, 0))
    asked = len(upstream.exchanges)
    async with connected(gateway.url) as client:
        await client.ask(key, body(), withheld=5)
    async with connected(gateway.url) as client:
        client.writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n"
        )
    await asyncio.sleep(0.3)
    assert len(await settled(gateway, before)) == before
    assert len(upstream.exchanges) == asked


async def test_a_hundred_that_leave_at_any_moment_leave_a_hundred_rows_and_nothing_open(
    gateway: Gateway, upstream: ScriptedUpstream, key: str
) -> None:
    before = len(await settled(gateway, 0))
    seen: list[str] = []

    async def leave(number: int) -> None:
        async with connected(gateway.url) as client:
            await client.ask(key, body(stream=number % 2 == 0))
            try:
                async with asyncio.timeout(0.02 + number * 0.007):
                    await client.hear(b"never")
            except TimeoutError:
                pass
            if client.request_id:
                seen.append(client.request_id)

    upstream.script = Teller()
    await asyncio.gather(*(leave(number) for number in range(100)))
    await asyncio.wait_for(upstream.idle.wait(), 5)
    rows = await settled(gateway, before + 100)
    ids = [row["request_id"] for row in rows[before:]]
    assert len(ids) == len(set(ids)) == 100
    assert set(seen) <= set(ids)
    with gateway.client(key) as client:
        ready = client.get("/readyz").json()
    assert ready == {"status": "ready", "calls": 0}
    assert not [line for line in gateway.log if re.search("Traceback|exception", line)]


def test_the_gateway_stops_cleanly_after_all_that(gateway: Gateway, tmp_path: Path) -> None:
    gateway.stop()
    assert not [line for line in gateway.log if "Traceback" in line]
