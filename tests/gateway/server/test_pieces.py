"""An answer is the same whether its pieces come one by one, past all who wait, or together."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Generator, Sequence

import httpx2
import orjson
import pytest

from tests.servers.dialogue import calling, piece, usage
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    Script,
    ScriptedUpstream,
    chunk,
    frames,
    scripted,
)
from tests.wires import WIRES, row, timeless

PAUSE = 0.02
"""Seconds between pieces. They may still come together on a busy machine, which changes nothing here."""
WORDS = ["The ", "sea ", "comes ", "and ", "goes, ", "a word that is long ", "é\u2028 ", "ends."]
PIECES = [
    *(frames(piece(word)) for word in WORDS),
    frames(piece(finish="stop")),
    frames(usage(21, 8), b"[DONE]"),
]
SHOUT = """
from contextlib import aclosing
from dataclasses import replace

from gateway.events import Delta


async def shout(call, events):
    async with aclosing(events):
        async for batch in events:
            yield [
                replace(event, text=event.text.upper()) if isinstance(event, Delta) else event
                for event in batch
            ]
"""
OWN = re.compile(
    rb"(chatcmpl|resp|msg|cmpl)[-_][0-9a-zA-Z_]+|\"(created|created_at|completed_at)\": ?[0-9.]+"
    rb"|\"obfuscation\": ?\"[^\"]*\"|[0-9a-f]{8}-[0-9a-f-]{27}|\"duration_ms\": ?[0-9]+"
)
"""What is each answer's own."""


def apart(parts: Sequence[bytes], pause: float = PAUSE) -> Script:
    async def say(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        for part in parts:
            await exchange.send(chunk(part))
            await asyncio.sleep(pause)
        await exchange.send(LAST_CHUNK)

    return say


def together(parts: Sequence[bytes]) -> Script:
    async def say(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b"".join(parts)) + LAST_CHUNK)

    return say


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(together(PIECES)) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    up = {"type": "openai", "base_url": f"{upstream.url}/v1", "retries": 0}
    hasty = {**up, "timeout": {"first_event": 2, "idle": 0.5}}
    settings = {
        "providers": {"up": up, "hasty": hasty},
        "models": {"helper": {"targets": ["up/m"], "tools": ["calculator"]}},
    }
    with Gateway(tmp_path_factory.mktemp("pieces"), orjson.dumps(settings).decode()) as running:
        yield running


async def answered(
    client: httpx2.AsyncClient, wire: str, *, model: str = "up/m", stream: bool = True
) -> httpx2.Response:
    path, body = WIRES[wire]
    return await client.post(path, json={"model": model, "stream": stream, **body})


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("wire", WIRES)
async def test_bytes_and_rows_are_the_same_apart_and_together(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str, stream: bool
) -> None:
    ways: list[Callable[[Sequence[bytes]], Script]] = [apart, together]
    said, rows = [], []
    for way in ways:
        upstream.script = way(PIECES)
        answer = await answered(client, wire, stream=stream)
        said.append(OWN.sub(b"*", answer.content))
        rows.append(timeless(await row(client, answer.headers["x-request-id"])))
    assert said[0] == said[1]
    assert rows[0] == rows[1]
    assert b"comes" in said[0]
    assert (rows[0]["status"], rows[0]["tokens_out"]) == ("ok", 8)


async def test_what_nobody_counts_is_estimated_alike(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    parts = [*PIECES[:-1], frames(b"[DONE]")]
    rows = []
    for way in (apart(parts), together(parts)):
        upstream.script = way
        answer = await answered(client, "chat")
        rows.append(timeless(await row(client, answer.headers["x-request-id"])))
    assert rows[0] == rows[1]
    assert rows[0]["counted"] == "estimated"


async def test_the_next_round_knows_what_was_said_piece_by_piece(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    asked = calling("calculator", '{"expression": "6*7"}')
    first = [*PIECES[:-2], frames(asked), frames(piece(finish="tool_calls"), b"[DONE]")]
    before = len(upstream.exchanges)

    async def say(exchange: Exchange) -> None:
        rounds = len(upstream.exchanges) - before
        await (apart(first) if rounds == 1 else apart(PIECES))(exchange)

    upstream.script = say
    answer = await answered(client, "chat", model="helper")
    texts = [
        choice["delta"].get("content") or ""
        for line in answer.text.splitlines()
        if line.startswith("data: {")
        for choice in orjson.loads(line[6:])["choices"]
    ]
    assert "".join(texts) == "".join(WORDS) * 2
    second = upstream.exchanges[-1].json
    assert isinstance(second, dict)
    told, result = second["messages"][-2:]
    assert (told["role"], told["content"]) == ("assistant", "".join(WORDS))
    assert (result["role"], result["content"]) == ("tool", "42")


async def test_the_limit_between_events_counts_from_the_last_piece(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    """Twelve pieces take more than twice the limit, the silence after them more than once."""

    async def say(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        for _ in range(12):
            await exchange.send(chunk(frames(piece("on "))))
            await asyncio.sleep(0.1)
        await exchange.until_closed()

    upstream.script = say
    answer = await answered(client, "chat", model="hasty/m")
    assert answer.text.count('"on "') == 12
    assert "sent nothing for 0.5 s" in answer.text


async def test_a_client_that_reads_late_misses_nothing(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    """The lane is closed as long as writing waits for the client, and opens again."""
    count, long = 3000, "x" * 2000

    async def say(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        for number in range(count):
            await exchange.send(chunk(frames(piece(f"{number} {long}"))))
        await exchange.send(chunk(frames(piece(finish="stop"), b"[DONE]")) + LAST_CHUNK)

    upstream.script = say
    path, body = WIRES["chat"]
    numbers = []
    asked = {"model": "up/m", "stream": True, **body}
    async with client.stream("POST", path, json=asked) as answer:
        await asyncio.sleep(1)
        async for line in answer.aiter_lines():
            if found := re.search(r'"content":"(\d+) ', line):
                numbers.append(int(found[1]))
                if len(numbers) % 500 == 0:
                    await asyncio.sleep(0.1)
    assert numbers == list(range(count))


async def test_an_interceptor_of_the_operator_sees_every_piece(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shouting")
    (folder / "shout.py").write_text(SHOUT)
    up = {"type": "openai", "base_url": f"{upstream.url}/v1"}
    settings = {"providers": {"up": up}, "interceptors": ["shout:shout"]}
    upstream.script = apart(PIECES)
    running = Gateway(folder, orjson.dumps(settings).decode(), {"PYTHONPATH": str(folder)})
    await asyncio.to_thread(running.start)
    try:
        key = await asyncio.to_thread(running.key)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=running.url, headers=headers, timeout=30) as http:
            answer = await answered(http, "chat")
    finally:
        await asyncio.to_thread(running.stop)
    for word in WORDS:
        assert orjson.dumps(word.upper()).decode()[1:-1].replace("\u2028", "\\u2028") in answer.text
