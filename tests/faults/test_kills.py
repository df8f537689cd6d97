"""The process killed under load, again and again: every request id that a client saw has one row."""

import asyncio
import random
import re
import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx2
import pytest

from tests.servers.dialogue import body, config, piece, usage
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

KILLS = 20
CLIENTS = 24


@pytest.fixture
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def tell(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        words = random.randint(0, 30)
        for _ in range(words):
            await exchange.send(chunk(frames(piece("word "))))
            await asyncio.sleep(0.005)
        ending = frames(piece(finish="stop"), usage(5, words), b"[DONE]")
        await exchange.send(chunk(ending) + LAST_CHUNK)

    async with scripted(tell) as server:
        yield server


class Crowd:
    """Clients that ask without a pause, and note which request ids they saw and which ended well."""

    def __init__(self, key: str) -> None:
        self.headers = {"authorization": f"Bearer {key}"}
        self.seen: set[str] = set()
        self.complete: dict[str, int] = {}
        self._news = asyncio.Condition()

    async def see(self, count: int) -> None:
        """Until so many more responses have begun."""
        wanted = len(self.seen) + count
        async with self._news:
            await self._news.wait_for(lambda: len(self.seen) >= wanted)

    async def _see(self, request_id: str) -> None:
        async with self._news:
            self.seen.add(request_id)
            self._news.notify_all()

    async def ask(self, url: str, number: int) -> None:
        """Until the gateway is gone."""
        async with httpx2.AsyncClient(base_url=url, headers=self.headers, timeout=30) as client:
            while True:
                try:
                    if number % 3:
                        await self._stream(client)
                    else:
                        await self._collect(client)
                except httpx2.TransportError:
                    return

    async def _stream(self, client: httpx2.AsyncClient) -> None:
        content = body()
        async with client.stream("POST", "/v1/chat/completions", content=content) as response:
            request_id = response.headers["x-request-id"]
            await self._see(request_id)
            heard = b"".join([part async for part in response.aiter_bytes()])
        if heard.endswith(b"[DONE]\n\n"):
            self.complete[request_id] = heard.count(b'"content":"word "')

    async def _collect(self, client: httpx2.AsyncClient) -> None:
        response = await client.post("/v1/chat/completions", content=body(stream=False))
        request_id = response.headers["x-request-id"]
        await self._see(request_id)
        self.complete[request_id] = response.json()["usage"]["completion_tokens"]


async def test_twenty_kills_lose_and_double_nothing(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    gateway = Gateway(tmp_path, config(upstream.url))
    crowd = Crowd(await asyncio.to_thread(gateway.key))
    for _ in range(KILLS):
        await asyncio.to_thread(gateway.start)
        asking = [asyncio.create_task(crowd.ask(gateway.url, number)) for number in range(CLIENTS)]
        await crowd.see(random.randint(1, 150))
        await asyncio.to_thread(gateway.kill)
        await asyncio.gather(*asking)
    await asyncio.to_thread(gateway.start)
    await asyncio.to_thread(gateway.stop)

    rows = await asyncio.to_thread(gateway.rows)
    by_id = {str(row["request_id"]): row for row in rows}
    assert len(by_id) == len(rows)
    assert crowd.seen - set(by_id) == set()
    assert {row["status"] for row in rows} <= {"ok", "interrupted"}
    # A whole answer whose settlement was still in the air at the kill is an interrupted row.
    for request_id, words in crowd.complete.items():
        if by_id[request_id]["status"] == "ok":
            assert by_id[request_id]["tokens_out"] == words
    settled = sum(by_id[request_id]["status"] == "ok" for request_id in crowd.complete)
    print(
        f"{len(crowd.seen)} seen, {len(rows)} rows, {settled} of {len(crowd.complete)} whole ones ok"
    )
    assert settled >= 0.9 * len(crowd.complete)
    integrity = await asyncio.to_thread(check_integrity, tmp_path / "data" / "sluice.db")
    assert integrity == "ok"
    assert not [line for line in gateway.log if re.search("Traceback", line)]


def check_integrity(file: Path) -> str:
    with sqlite3.connect(file) as connection:
        return str(connection.execute("pragma integrity_check").fetchone()[0])
