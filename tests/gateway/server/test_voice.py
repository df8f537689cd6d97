"""Telephone calls through a running gateway: whose requests are spoken, and how an answer fares."""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.routing import Route

from adapters.wires.openai_chat import OpenAIChatWire
from adapters.wires.voice import VoiceWire
from gateway.server.app import create_app
from gateway.server.routes import CallEndpoint
from gateway.server.settings import Settings
from tests.servers.dialogue import config, piece, story
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

NUMBER = "+15550100001"
TOOL = '''
from gateway.engine.tools.tool import ToolContext


def who_calls(context: ToolContext) -> str:
    """Tells who calls."""
    return f"{context.caller} in {context.conversation}"
'''


def body(**more: object) -> bytes:
    asked: dict[str, object] = {
        "model": "up/m",
        "messages": [{"role": "user", "content": "Tell me."}],
        "call": {"id": "call-1", "type": "inboundPhoneCall", "orgId": "org-secret"},
        "phoneNumber": {"number": "+15550100002", "twilioAuthToken": "tw-secret"},
        "customer": {"number": NUMBER},
        "metadata": {"secret": "hush"},
    }
    return orjson.dumps(asked | more)


async def speak(exchange: Exchange) -> None:
    await exchange.send(CHUNKED + chunk(story("**Hello** ", "there.")) + LAST_CHUNK)


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(speak) as server:
        yield server


@pytest.fixture(autouse=True)
def polite(upstream: ScriptedUpstream) -> None:
    upstream.script = speak


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    settings = orjson.loads(config(upstream.url))
    settings["tools"] = {"who_calls": {"type": "python", "call": "caller:who_calls"}}
    settings["models"] = {"desk": {"targets": ["up/m"], "tools": ["who_calls"]}}
    settings["tiers"] = {"phone": {}}
    settings["wires"] = {
        "voice": {"tiers": ["phone"], "fillers": ["One moment."], "filler_after": 3}
    }
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "caller.py").write_text(TOOL)
    with Gateway(folder, orjson.dumps(settings).decode(), {"SLUICE_LOG_LEVEL": "debug"}) as running:
        yield running


def chunks(response: httpx2.Response) -> list[dict[str, Any]]:
    assert response.headers["content-type"].startswith("text/event-stream")
    found = re.findall(r"^data: (\{.*)$", response.text, re.MULTILINE)
    assert response.text.endswith("data: [DONE]\n\n")
    return [json.loads(data) for data in found]


def text(response: httpx2.Response) -> str:
    return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks(response))


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, Any]:
    for _ in range(50):
        found = await client.get(f"/v1/usage/{response.headers['x-request-id']}")
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    result: dict[str, Any] = found.json()
    return result


PATHS = [
    f"{base}/chat/completions{more}"
    for base in ("/api", "", "/v1", "/voice", "/voice/v1")
    for more in ("", "/", "/chat/completions", "/chat/completions/")
]


@pytest.mark.parametrize("path", PATHS)
async def test_a_telephone_call_is_answered_on_every_path(
    client: httpx2.AsyncClient, path: str
) -> None:
    response = await client.post(path, content=body())
    assert response.status_code == 200
    assert text(response) == "Hello there."
    assert (await row(client, response))["type"] == "voice"


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("/voice")])
async def test_other_requests_on_shared_paths_are_answered_as_ever(
    client: httpx2.AsyncClient, path: str
) -> None:
    asked = {"model": "up/m", "messages": [{"role": "user", "content": "Tell me."}]}
    response = await client.post(path, json=asked)
    assert response.json()["choices"][0]["message"]["content"] == "**Hello** there."
    assert (await row(client, response))["type"] == "chat"


async def test_the_wires_own_path_takes_plain_requests(client: httpx2.AsyncClient) -> None:
    asked = {"model": "up/m", "messages": [{"role": "user", "content": "Tell me."}]}
    assert text(await client.post("/voice/chat/completions", json=asked)) == "Hello there."


async def test_a_tier_can_be_given_to_the_telephone(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    key = await asyncio.to_thread(gateway.key, "phone@example.com", "--tier", "phone")
    asked = {"model": "up/m", "messages": [{"role": "user", "content": "Tell me."}]}
    response = await client.post(
        "/api/chat/completions", json=asked, headers={"authorization": f"Bearer {key}"}
    )
    assert text(response) == "Hello there."


async def test_nothing_of_the_call_goes_to_the_model(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    await client.post("/api/chat/completions", content=body(max_tokens=250, temperature=0.5))
    sent = orjson.loads(upstream.exchanges[-1].body)
    assert set(sent) <= {
        "model",
        "messages",
        "stream",
        "stream_options",
        "max_tokens",
        "temperature",
    }
    assert sent["max_tokens"] == 250


async def test_a_row_knows_the_call_and_the_log_does_not(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    response = await client.post("/api/chat/completions/", content=body())
    told = (await row(client, response))["attributes"]
    assert told == {"caller": NUMBER, "conversation": "call-1"}
    log = "".join(gateway.log)
    assert '"caller":"…01"' in log
    rows = str(await asyncio.to_thread(gateway.rows))
    for secret in ("tw-secret", "org-secret", "hush"):
        assert secret not in log + rows
    assert NUMBER not in log


async def test_a_tool_knows_who_calls(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def script(exchange: Exchange) -> None:
        sent = orjson.loads(exchange.body)
        if sent["messages"][-1]["role"] == "tool":
            said = story(sent["messages"][-1]["content"])
        else:
            function = {"name": "who_calls", "arguments": "{}"}
            call = {"index": 0, "id": "call_abcdefgh", "type": "function", "function": function}
            delta = {"content": "Let me see.", "tool_calls": [call]}
            asking = {**piece(), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            said = frames(asking, piece(finish="tool_calls"), b"[DONE]")
        await exchange.send(CHUNKED + chunk(said) + LAST_CHUNK)

    upstream.script = script
    response = await client.post("/api/chat/completions", content=body(model="desk"))
    assert text(response) == f"Let me see.\n{NUMBER} in call-1"
    assert "tool_notification" not in response.text
    assert "tool_calls" not in response.text


async def test_the_role_is_there_before_the_model_answers(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        await speak(exchange)

    upstream.script = script
    asked = body(call={"id": "call-2"})
    async with client.stream("POST", "/api/chat/completions", content=asked) as response:
        lines = response.aiter_lines()
        first = json.loads((await anext(lines)).removeprefix("data: "))
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        release.set()
        rest = "\n".join([line async for line in lines])
    assert rest.rstrip().endswith("data: [DONE]")


async def test_silence_is_filled_once_and_costs_nothing(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(4)
        await speak(exchange)

    upstream.script = script
    call = {"id": "call-3", "type": "inboundPhoneCall"}
    response = await client.post("/api/chat/completions", content=body(call=call))
    assert text(response) == "One moment. <flush /> Hello there."
    assert (await row(client, response))["tokens_out"] == 2
    again = await client.post("/api/chat/completions", content=body(call=call))
    assert text(again) == "Hello there."


async def test_other_platforms_are_not_sent_tags(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await asyncio.sleep(4)
        await speak(exchange)

    upstream.script = script
    asked = {"model": "up/m", "messages": [{"role": "user", "content": "Tell me."}]}
    response = await client.post("/voice/chat/completions", json=asked)
    assert text(response) == "One moment. Hello there."


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("more", "status", "code"),
    [({}, 429, "rate_limit_exceeded"), ({"model": "none"}, 404, "model_not_found")],
    ids=["upstream", "model"],
)
async def test_a_failure_is_spoken(
    client: httpx2.AsyncClient,
    upstream: ScriptedUpstream,
    stream: bool,
    more: dict[str, object],
    status: int,
    code: str,
) -> None:
    async def script(exchange: Exchange) -> None:
        error = {"error": {"message": "Slow down.", "type": "requests", "code": code}}
        await exchange.send(answer(429, orjson.dumps(error)))

    upstream.script = script
    response = await client.post("/api/chat/completions", content=body(stream=stream, **more))
    assert response.status_code == 200
    if stream:
        assert text(response).startswith("Sorry")
        last = chunks(response)[-1]
        assert last["choices"][0]["finish_reason"] == "stop"
    else:
        last = response.json()
        assert last["choices"][0]["message"]["content"].startswith("Sorry")
    assert last["failure"]["code"] == code
    told = await row(client, response)
    assert told["status"] in ("error", "refused")
    assert told["http_status"] == 200
    assert told["error_code"] == code


async def test_a_cut_answer_ends_with_an_apology(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(frames(piece("The price is"))))
        exchange.reset()

    upstream.script = script
    response = await client.post("/api/chat/completions", content=body())
    assert re.fullmatch("(The price is… )?Sorry, .*", text(response))
    assert chunks(response)[-1]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("path", ["/api/chat/completions", "/voice/chat/completions"])
async def test_a_wrong_key_stays_a_wrong_key(gateway: Gateway, path: str) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        response = await http.post(path, content=body(), headers={"authorization": "Bearer sk-no"})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/api/chat/completions", "/voice/chat/completions/"])
async def test_news_are_taken_without_a_row(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, path: str
) -> None:
    asked = len(upstream.exchanges)
    news = {"message": {"type": "status-update", "status": "ended", "call": {"id": "call-1"}}}
    response = await client.post(path, json=news)
    assert (response.status_code, response.json()) == (200, {})
    assert "x-request-id" not in response.headers
    assert len(upstream.exchanges) == asked


@pytest.mark.parametrize(
    "path", ["/", "/api", "/voice/", "/api/chat/completions", "/chat/completions/"]
)
async def test_who_only_looks_finds_somebody(gateway: Gateway, path: str) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "x-vapi-secret"], ids=str)
async def test_a_key_is_taken_bare(gateway: Gateway, header: str) -> None:
    key = await asyncio.to_thread(gateway.key)
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        response = await http.post("/api/chat/completions", content=body(), headers={header: key})
    assert response.status_code == 200


async def test_silence_has_heartbeats_sooner_than_elsewhere(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    release = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await release.wait()
        await speak(exchange)

    upstream.script = script
    asked = body(call={"id": "call-4"})
    started = time.monotonic()
    async with client.stream("POST", "/api/chat/completions", content=asked) as response:
        async for line in response.aiter_lines():
            if line.startswith(":"):
                assert time.monotonic() - started < 10
                release.set()
    assert release.is_set()


async def test_who_goes_on_talking_hears_only_the_newer_answer(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    asked = asyncio.Event()
    left = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if asked.is_set():
            await speak(exchange)
            return
        await exchange.send(CHUNKED + chunk(frames(piece("Well, "))))
        asked.set()
        await exchange.until_closed()
        left.set()

    upstream.script = script
    call = {"id": "call-5", "type": "inboundPhoneCall"}
    older = asyncio.ensure_future(client.post("/api/chat/completions", content=body(call=call)))
    await asyncio.wait_for(asked.wait(), 20)
    newer = await client.post("/api/chat/completions", content=body(call=call))
    assert text(newer) == "Hello there."
    await asyncio.wait_for(left.wait(), 20)
    ended = await older
    assert text(ended) in ("", "Well, ")
    assert chunks(ended)[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks(ended)[-1]["failure"]["code"] == "superseded"


@pytest.mark.parametrize(
    ("wires", "kind"),
    [("voice", "voice"), ("openai_chat", "chat"), ("openai_chat,voice", "chat")],
    ids=str,
)
def test_a_path_is_served_whichever_of_its_wires_are(tmp_path: Path, wires: str, kind: str) -> None:
    app = create_app(Settings.load({"SLUICE_DATA_DIR": str(tmp_path), "SLUICE_WIRES": wires}))
    (endpoint,) = (
        route.endpoint
        for route in app.routes
        if isinstance(route, Route)
        and route.path == "/api/chat/completions"
        and "POST" in (route.methods or ())
    )
    assert isinstance(endpoint, CallEndpoint)
    assert (
        endpoint.operation.summary
        == {
            "voice": VoiceWire().describe().summary,
            "chat": OpenAIChatWire().describe().summary,
        }[kind]
    )
