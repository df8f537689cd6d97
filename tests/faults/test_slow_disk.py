"""A disk that takes no row for a while: engines are asked meanwhile, but clients hear nothing before it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from keys import lock
from tests.servers.dialogue import Listener, body, config, connected, story
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    chunk,
    scripted,
)

pytestmark = pytest.mark.faults


@pytest.fixture
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def tell(exchange: Exchange) -> None:
        if b"silent" in exchange.body:
            await exchange.until_closed()
        else:
            await exchange.send(CHUNKED + chunk(story("Hello ", "there.")) + LAST_CHUNK)

    async with scripted(tell) as server:
        yield server


def hung(gateway: Gateway) -> AbstractContextManager[None]:
    """As if a flush took its time."""
    return lock.held(gateway.folder / "data" / "sluice.db.lock", 5)


async def test_an_answer_waits_for_its_row_and_not_its_engine(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with Gateway(tmp_path, config(upstream.url)) as gateway:
        key = await asyncio.to_thread(gateway.key)
        async with connected(gateway.url) as stream, connected(gateway.url) as whole:
            with hung(gateway):
                await stream.ask(key, body())
                await whole.ask(key, body(stream=False))
                await upstream.received(2)
                for client in (stream, whole):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.5):
                            await client.reader.readexactly(1)
            assert b"[DONE]" in await stream.hear(b"[DONE]\n\n")
            assert b"Hello there." in await whole.hear(b"Hello there.")
            assert stream.texts() == ["Hello ", "there."]
        rows = await asyncio.to_thread(gateway.rows)
        assert {row["request_id"] for row in rows} == {stream.request_id, whole.request_id}
        assert [row["status"] for row in rows] == ["ok", "ok"]


async def test_whoever_waits_for_an_engine_is_told_at_once_that_the_disk_fails(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with Gateway(tmp_path, config(upstream.url)) as gateway:
        key = await asyncio.to_thread(gateway.key)
        database, elsewhere = tmp_path / "data" / "sluice.db", tmp_path / "moved.db"
        for streamed in (True, False):
            async with asyncio.timeout(20):
                while not await _served(gateway, key):  # it is tried again within a second
                    pass
            database.rename(elsewhere)
            async with connected(gateway.url) as client, asyncio.timeout(5):
                await client.ask(key, body("silent", stream=streamed))
                assert b"ledger_unavailable" in await client.hear(b"Try again.")
            elsewhere.rename(database)


async def test_a_disk_that_hangs_ends_every_call_in_words(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    with Gateway(tmp_path, config(upstream.url), {"SLUICE_FIRST_EVENT_WAIT": "1"}) as gateway:
        key = await asyncio.to_thread(gateway.key)
        async with (
            connected(gateway.url) as stream,
            connected(gateway.url) as whole,
            connected(gateway.url) as silent,
            connected(gateway.url) as wrong,
            connected(gateway.url) as left,
        ):
            with hung(gateway):
                await stream.ask(key, body())
                await whole.ask(key, body(stream=False))
                await silent.ask(key, body("silent"))
                await wrong.ask(key, b'{"model": "up/m"}')
                await left.ask(key, body("silent, and left"))
                await upstream.received(4)
                left.writer.close()
                ends = await asyncio.gather(*map(_end, (stream, whole, silent, wrong)))
        for end in ends:
            assert end.startswith(b"HTTP/1.1 503 ")
            assert b"ledger_unavailable" in end
            assert b"x-request-id" not in end
        await asyncio.to_thread(gateway.stop)
        rows = await asyncio.to_thread(gateway.rows)
        ended = sorted((row["status"], row["error_code"], row["tokens_out"]) for row in rows)
        # What was asked is accounted, though nobody heard the answer.
        failed = [("error", "ledger_unavailable", written) for written in (0, 0, 2, 2)]
        assert ended == [("cancelled", None, 0), *failed]
        assert not [line for line in gateway.log if "Traceback" in line or "retrieved" in line]


async def _served(gateway: Gateway, key: str) -> bool:
    async with connected(gateway.url) as client:
        await client.ask(key, body())
        if b" 200 " not in await client.hear(b"\r\n\r\n"):
            return False
        return b"[DONE]" in await client.hear(b"[DONE]")


async def _end(client: Listener) -> bytes:
    async with asyncio.timeout(30):
        return await client.hear(b"Try again.")
