"""An upstream cut at any byte: the client is told, and never sees a clean end."""

import asyncio
from collections.abc import AsyncGenerator, Generator

import httpx2
import pytest

from tests.servers.dialogue import body, config, story
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    UNTIL_CLOSED,
    Exchange,
    ScriptedUpstream,
    chunk,
    scripted,
)

pytestmark = pytest.mark.faults

STORY = story("Once ", "upon ", "a ", "time… ", "🌊 ", "end.")
DONE = STORY.index(b"[DONE]") + len(b"[DONE]")


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def cut(exchange: Exchange) -> None:
        """The text of the question says how: `framing end bytes`."""
        how = exchange.json
        assert isinstance(how, dict)
        framing, end, count = str(how["messages"][0]["content"]).split()
        told = STORY[: int(count)]
        await exchange.send(CHUNKED + chunk(told) if framing == "chunked" else UNTIL_CLOSED + told)
        if end == "reset":
            await asyncio.sleep(0.005)
            exchange.reset()
        elif end == "ended":
            await exchange.send(LAST_CHUNK)
        exchange.writer.close()

    async with scripted(cut) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway"), config(upstream.url)) as running:
        yield running


async def heard(client: httpx2.AsyncClient, how: str, *, stream: bool) -> httpx2.Response:
    return await client.post("/v1/chat/completions", content=body(how, stream=stream))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("how", ["chunked closed", "chunked reset", "until-closed closed"])
async def test_no_cut_looks_like_an_end(client: httpx2.AsyncClient, how: str, stream: bool) -> None:
    places = asyncio.Semaphore(16)

    async def try_at(count: int) -> tuple[int, httpx2.Response]:
        async with places:
            return count, await heard(client, f"{how} {count}", stream=stream)

    # Every byte when streamed; every third when whole, which takes the same way to its end.
    for count, response in await asyncio.gather(
        *(try_at(count) for count in range(0, DONE, 1 if stream else 3))
    ):
        if response.status_code == 200:
            assert stream, f"cut at {count} and yet an answer"
            assert b"[DONE]" not in response.content, f"cut at {count}"
            assert response.content.count(b'event: error\ndata: {"error":') == 1, f"cut at {count}"
            assert response.content.endswith(b"}}\n\n")
        else:
            assert response.status_code == 502
            assert response.json()["error"]["code"] == "upstream_truncated"


@pytest.mark.parametrize("how", ["chunked ended", "until-closed closed"])
async def test_a_whole_story_ends_well(client: httpx2.AsyncClient, how: str) -> None:
    response = await heard(client, f"{how} {len(STORY)}", stream=True)
    assert response.content.endswith(b"data: [DONE]\n\n")
    assert b"event: error" not in response.content


async def test_rows_say_that_answers_were_cut(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    count = STORY.index("time…".encode())
    response = await heard(client, f"chunked closed {count}", stream=True)
    rows = await asyncio.to_thread(gateway.rows)
    (row,) = [row for row in rows if row["request_id"] == response.headers["x-request-id"]]
    assert row["status"] == "error"
    assert row["error_code"] == "upstream_truncated"
    assert (row["tokens_out"], row["counted"]) == (3, "partial")
    assert len({row["request_id"] for row in rows}) == len(rows)
