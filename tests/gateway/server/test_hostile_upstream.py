"""Whatever an upstream says, and wherever it cuts its bytes: on every wire all readers read the same."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest

from tests.readers import naive, strict
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

Frame = dict[str, Any]

HOSTILE = (
    'one\rtwo\r\nthree\n\ndata: [DONE]\n\nevent: error\ndata: {"error": {"message": "no"}}\n\n'
    ": ping\nid: 1\nretry: 1\n\u2028four\u2029five\u0085six\x0b\x0c\x1c\x1d\x1e\x00\ufeff👍🏽 seven"
)
HUGE = "0123456789abcde\n" * (1 << 16)
"""One MiB."""

SAY: dict[str, Any] = {"role": "user", "content": "Hi"}

TOOLS = """
def find(what: str) -> str:
    \"\"\"Finds it.\"\"\"
    return what + {hostile!r}
"""

WIRES: dict[str, tuple[str, Frame]] = {
    "chat": ("/v1/chat/completions", {"messages": [SAY]}),
    "native": ("/chat", {"message": "Hi"}),
    "voice": ("/voice/chat/completions", {"messages": [SAY]}),
    "completion": ("/v1/completions", {"prompt": "Hi"}),
    "responses": ("/v1/responses", {"input": "Hi"}),
    "messages": ("/v1/messages", {"max_tokens": 9, "messages": [SAY]}),
}


def _of_chat(frame: Frame) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in frame["choices"])


TEXT: dict[str, Callable[[Frame], str]] = {
    "chat": _of_chat,
    "voice": _of_chat,
    "native": lambda frame: frame["text"] if frame["type"] == "delta" else "",
    "completion": lambda frame: "".join(choice["text"] for choice in frame["choices"]),
    "responses": lambda frame: (
        frame["delta"] if frame["type"] == "response.output_text.delta" else ""
    ),
    "messages": lambda frame: frame.get("delta", {}).get("text", ""),
}
"""What a client takes for text in a frame of each wire."""


def whole(*parts: object, reason: str = "stop") -> bytes:
    return frames(*parts, piece(finish=reason), usage(7, 3), b"[DONE]")


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
    folder: Path = tmp_path_factory.mktemp("hostile")
    (folder / "hostile_tools.py").write_text(TOOLS.format(hostile=HOSTILE), "utf-8")
    settings = orjson.loads(config(upstream.url))
    settings["tools"] = {"find": {"type": "python", "call": "hostile_tools:find"}}
    settings["models"] = {"finder": {"targets": ["up/m"], "tools": ["find"]}}
    settings["wires"] = {"voice": {"plain": False}}
    with Gateway(folder, orjson.dumps(settings).decode()) as running:
        yield running


@pytest.fixture(scope="module")
async def client(gateway: Gateway) -> AsyncGenerator[httpx2.AsyncClient, None]:
    headers = {"authorization": f"Bearer {await asyncio.to_thread(gateway.key)}"}
    async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as http:
        yield http


def script(upstream: ScriptedUpstream, *turns: bytes, dribble: bool = False) -> None:
    """One turn for each request, the last one for all further."""

    async def say(exchange: Exchange) -> None:
        said = turns[min(len(upstream.exchanges), len(turns)) - 1]
        await exchange.send(CHUNKED)
        if dribble:
            for byte in said:
                await exchange.send(chunk(bytes([byte])))
                await asyncio.sleep(0)
        else:
            await exchange.send(chunk(said))
        await exchange.send(LAST_CHUNK)

    upstream.exchanges.clear()
    upstream.script = say


async def stream(
    client: httpx2.AsyncClient, wire: str, model: str = "up/m", **more: object
) -> list[Frame]:
    """The frames of an answer, which are the same to every reader."""
    path, body = WIRES[wire]
    response = await client.post(path, json={"model": model, "stream": True, **body, **more})
    assert response.status_code == 200, response.text
    heard = list(strict([response.content]))
    assert [data for _, data in heard] == list(naive([response.content]))
    *told, (_, last) = heard
    assert "[DONE]" not in [data for _, data in told]
    return [json.loads(data) for _, data in told] + ([] if last == "[DONE]" else [json.loads(last)])


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("dribble", [False, True], ids=["at once", "byte by byte"])
async def test_text_comes_through_unharmed(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str, dribble: bool
) -> None:
    script(upstream, whole(piece(HOSTILE), piece("👍"), piece("")), dribble=dribble)
    assert "".join(map(TEXT[wire], await stream(client, wire))) == HOSTILE + "👍"


@pytest.mark.parametrize("wire", WIRES)
async def test_a_mebibyte_in_one_piece_comes_through(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str
) -> None:
    script(upstream, whole(piece(HUGE), piece(HUGE)))
    assert "".join(map(TEXT[wire], await stream(client, wire))) == 2 * HUGE


@pytest.mark.parametrize("wire", WIRES)
async def test_an_emoji_whose_halves_come_apart_is_whole_again(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str
) -> None:
    cut = [
        orjson.dumps(piece("½")).replace("½".encode(), half)
        for half in (b"\\ud83d", b"\\udc4d", b"\\ud83d")
    ]
    script(upstream, whole(piece("a"), *cut, piece("z")))
    assert "".join(map(TEXT[wire], await stream(client, wire))) == "a👍z"


@pytest.mark.parametrize("wire", WIRES)
async def test_what_tools_are_asked_and_find_stays_in_its_frame(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str
) -> None:
    wanted = calling("find", json.dumps({"what": HOSTILE}))
    script(upstream, whole(wanted, reason="tool_calls"), whole(piece("found")))
    told = await stream(client, wire, "finder")
    assert "".join(map(TEXT[wire], told)) == "found"
    shown = [text for frame in told for text in _texts(frame)]
    if wire in ("chat", "native", "responses"):
        assert any(HOSTILE + HOSTILE in text for text in shown)


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire != "completion"])
async def test_thoughts_refusals_and_odd_tools_stay_in_their_frames(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str
) -> None:
    odd = calling(HOSTILE, HOSTILE)
    said = [delta(reasoning_content=HOSTILE), delta(refusal=HOSTILE), odd]
    script(upstream, whole(*said, reason="tool_calls"), dribble=True)
    await stream(client, wire)
    script(upstream, whole(calling("find", HOSTILE), calling(HOSTILE, "{}")), whole(piece("done")))
    await stream(client, wire, "finder")


@pytest.mark.parametrize("wire", WIRES)
async def test_an_error_keeps_to_its_frame_and_its_body(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, wire: str
) -> None:
    told = {"error": {"message": HOSTILE, "type": HOSTILE, "code": HOSTILE, "param": HOSTILE}}
    script(upstream, frames(piece("a"), told))
    last = (await stream(client, wire))[-1]
    assert any("three\n\ndata: [DONE]" in text for text in _texts(last))

    async def refuse(exchange: Exchange) -> None:
        await exchange.send(answer(400, orjson.dumps(told)))

    upstream.script = refuse
    path, body = WIRES[wire]
    for streamed in (False, True):
        response = await client.post(path, json={"model": "up/m", "stream": streamed, **body})
        if response.headers["content-type"].startswith("text/event-stream"):
            heard = [data for _, data in strict([response.content])]
            assert heard == list(naive([response.content]))
        else:
            assert len(response.text.splitlines()) == 1
            assert response.status_code == (200 if wire == "voice" else 400)
            assert any("three\n\ndata: [DONE]" in text for text in _texts(response.json()))


async def test_the_sdks_read_what_the_readers_do(
    client: httpx2.AsyncClient, gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    script(upstream, whole(piece(HOSTILE), piece(HUGE), piece("👍")), dribble=False)
    key = client.headers["authorization"].removeprefix("Bearer ")
    heard: dict[str, str] = {}
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key) as sdk:
        asked = await sdk.chat.completions.create(model="up/m", messages=[SAY], stream=True)  # type: ignore[list-item]  # a message
        heard["chat"] = "".join([each.choices[0].delta.content or "" async for each in asked])
        continued = await sdk.completions.create(model="up/m", prompt="Hi", stream=True)
        heard["completion"] = "".join([each.choices[0].text async for each in continued])
        async with sdk.responses.stream(model="up/m", input="Hi") as answered:
            heard["responses"] = (await answered.get_final_response()).output_text
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key) as other,
        other.messages.stream(model="up/m", max_tokens=9, messages=[SAY]) as message,  # type: ignore[list-item]  # one
    ):
        heard["messages"] = await message.get_final_text()
    assert {wire for wire, text in heard.items() if text != HOSTILE + HUGE + "👍"} == set()


def _texts(value: object) -> list[str]:
    """All texts in a value."""
    match value:
        case str():
            return [value]
        case dict():
            return [text for item in value.values() for text in _texts(item)]
        case list():
            return [text for item in value for text in _texts(item)]
        case _:
            return []
