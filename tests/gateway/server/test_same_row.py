"""The same run is the same in the account, whatever format its client speaks, streamed or not."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import suppress

import httpx2
import orjson
import pytest

from tests.servers.dialogue import calling, config, delta, piece, usage
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    answer,
    chunk,
    frames,
    scripted,
)
from tests.wires import WIRES, Body, row, timeless

MODEL = "helper"
SCHEMA = {"type": "object", "properties": {}}

FUNCTION = {"name": "locate", "parameters": SCHEMA}
TOOLS: dict[str, Body] = {
    **{wire: {"type": "function", "function": FUNCTION} for wire in ("chat", "native", "voice")},
    "responses": {"type": "function", **FUNCTION},
    "messages": {"name": "locate", "input_schema": SCHEMA},
}
"""The client's own tool, in the words of each format that has one."""

END = (piece(finish="stop"), usage(21, 3), b"[DONE]")
COUNTS = {
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
LIMIT = {"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded"}}

SAID: dict[str, bytes] = {
    "text": frames(piece("The sea "), piece("comes "), piece("and goes."), *END),
    "no usage": frames(piece("The sea "), piece("comes."), piece(finish="stop"), b"[DONE]"),
    "nothing": frames(*END),
    "reasoning": frames(
        delta(reasoning_content="Hm. "),
        delta(reasoning_content="The moon."),
        piece("The moon."),
        piece(finish="stop"),
        {**usage(0, 0), "usage": COUNTS},
        b"[DONE]",
    ),
    "refusal": frames(delta(refusal="I'd rather "), delta(refusal="not."), *END),
    "filtered": frames(piece("The "), piece(finish="content_filter"), usage(21, 1), b"[DONE]"),
    "length": frames(piece("The sea"), piece(finish="length"), usage(21, 2), b"[DONE]"),
    "client's call": frames(
        piece("Where? "),
        calling("locate", '{"who": "you"}'),
        piece(finish="tool_calls"),
        usage(40, 9),
        b"[DONE]",
    ),
    "error in the midst": frames(piece("The sea "), piece("is"), LIMIT),
    "cut": frames(piece("The sea "), piece("is")),
    "no stream": frames(b"gibberish"),
}
"""What the upstream says, by what it is a case of."""

EXPECTED: dict[str, Mapping[str, object]] = {
    "text": {"status": "ok", "tokens_in": 21, "tokens_out": 3, "counted": "reported"},
    "no usage": {"status": "ok", "tokens_out": 2, "counted": "estimated"},
    "nothing": {"status": "ok", "tokens_out": 3},
    "reasoning": {"tokens_in": 30, "tokens_out": 12, "tokens_cached": 16, "tokens_reasoning": 7},
    "refusal": {"status": "ok", "finish_reason": "stop", "tokens_out": 3},
    "filtered": {"status": "ok", "finish_reason": "content_filter"},
    "length": {"status": "ok", "finish_reason": "length"},
    "client's call": {"status": "ok", "finish_reason": "tool_calls", "tool_calls": 0},
    "error in the midst": {"status": "error", "counted": "partial", "tokens_out": 2},
    "cut": {"status": "error", "error_code": "upstream_truncated", "tokens_out": 2},
    "no stream": {"status": "error"},
    "server's tool": {"status": "ok", "steps": 2, "tool_calls": 1, "tokens_in": 42},
    "refused": {"status": "refused", "error_code": "context_length_exceeded"},
    "limited": {"status": "error", "error_code": "rate_limit_exceeded"},
}


def script(case: str, exchange: Exchange) -> bytes:
    shown = orjson.loads(exchange.body)["messages"]
    match case:
        case "refused":
            told = {"message": "Too long.", "code": "context_length_exceeded"}
            return answer(400, orjson.dumps({"error": told}))
        case "limited":
            return answer(429, orjson.dumps(LIMIT))
        case "server's tool" if shown[-1]["role"] != "tool":
            wanted = calling("calculator", '{"expression": "6*7"}')
            said = frames(wanted, piece(finish="tool_calls"), usage(21, 5), b"[DONE]")
        case "server's tool":
            said = SAID["text"]
        case _:
            said = SAID[case]
    return CHUNKED + chunk(said) + LAST_CHUNK


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async def nothing(exchange: Exchange) -> None:
        raise AssertionError("each test has a script")

    async with scripted(nothing) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    settings = orjson.loads(config(upstream.url))
    settings["models"] = {MODEL: {"targets": ["up/m"], "tools": ["calculator"]}}
    settings["prices"] = {"up/m": {"input": 1.0, "output": 10.0, "cached": 0.1}}
    with Gateway(tmp_path_factory.mktemp("rows"), orjson.dumps(settings).decode()) as running:
        yield running


def ask(wire: str, *, stream: bool, tool: bool) -> tuple[str, Body]:
    path, body = WIRES[wire]
    more: Body = {"tools": [TOOLS[wire]]} if tool else {}
    return path, {"model": MODEL, "stream": stream, **body, **more}


@pytest.mark.parametrize("case", EXPECTED)
async def test_a_run_is_accounted_alike_on_every_wire(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, case: str
) -> None:
    async def say(exchange: Exchange) -> None:
        await exchange.send(script(case, exchange))

    upstream.script = say
    tool = case == "client's call"
    rows: dict[tuple[str, bool], Body] = {}
    for stream in (True, False):
        for wire in TOOLS if tool else WIRES:
            path, body = ask(wire, stream=stream, tool=tool)
            response = await client.post(path, json=body)
            found = await row(client, response.headers["x-request-id"])
            assert (found["type"], found["stream"]) == (wire, stream)
            assert found.pop("http_status") == response.status_code
            rows[wire, stream] = timeless(found)
    first = rows["chat", True]
    assert EXPECTED[case].items() <= first.items()
    assert {call: found for call, found in rows.items() if found != first} == {}


async def test_a_client_that_leaves_is_accounted_alike_on_every_wire(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, gateway: Gateway
) -> None:
    spoken, left = asyncio.Event(), asyncio.Event()

    async def say(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(frames(piece("It comes. "), piece("It goes. "))))
        spoken.set()
        await exchange.until_closed()
        left.set()

    upstream.script = say
    for stream in (True, False):
        for wire in WIRES:
            spoken.clear()
            left.clear()
            path, body = ask(wire, stream=stream, tool=False)
            call = asyncio.create_task(client.post(path, json=body))
            await asyncio.wait_for(spoken.wait(), 10)
            await asyncio.sleep(0.3)  # for the gateway to hear it
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
            await asyncio.wait_for(left.wait(), 10)
    rows = []
    for _ in range(100):
        rows = (await asyncio.to_thread(gateway.rows))[-2 * len(WIRES) :]
        if all(found["status"] != "open" for found in rows):
            break
        await asyncio.sleep(0.1)
    assert [(found["type"], found["stream"]) for found in rows] == [
        (wire, stream) for stream in (True, False) for wire in WIRES
    ]
    statuses = [found.pop("http_status") for found in rows]
    kept = [timeless(found) for found in rows]
    assert kept[0].items() >= {"status": "cancelled", "tokens_out": 2, "counted": "partial"}.items()
    assert [found for found in kept if found != kept[0]] == []
    assert statuses == [200] * len(WIRES) + [499] * len(WIRES)
