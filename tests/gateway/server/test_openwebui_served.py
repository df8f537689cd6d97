"""A running gateway as an Open WebUI uses it: with its bodies and headers as they were recorded."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx2
import orjson
import pytest

from tests.servers.dialogue import config, piece, story, usage
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

HEADERS = {
    "x-openwebui-chat-id": "chat-1",
    "x-openwebui-message-id": "message-1",
    "x-openwebui-user-id": "u-1",
    "x-openwebui-user-name": "Ada%20Lovelace",
    "x-openwebui-user-email": "ada@example.com",
    "x-openwebui-user-role": "user",
    "x-openwebui-task": "",
}
TURN = {
    "stream": True,
    "model": "desk",
    "messages": [{"role": "user", "content": "What is 2 + 2?"}],
    "stream_options": {"include_usage": True},
}
TITLE = {
    "model": "desk",
    "messages": [
        {
            "role": "user",
            "content": "### Task:\nGenerate a concise, 3-5 word title.\n### Chat History:\n"
            "<chat_history>\nUSER: What is 2 + 2?\n</chat_history>",
        }
    ],
    "stream": False,
    "max_completion_tokens": 1000,
}


async def speak(exchange: Exchange) -> None:
    """Calls the calculator where it is offered; else names the chat."""
    asked = orjson.loads(exchange.body)
    if asked["messages"][-1]["role"] == "tool":
        said = story("It is ", "4.")
    elif asked.get("tools"):
        function = {"name": "calculator", "arguments": '{"expression": "2 + 2"}'}
        call = {"index": 0, "id": "call_abcdefgh", "type": "function", "function": function}
        delta = {"tool_calls": [call]}
        calling = {**piece(), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        said = frames(calling, piece(finish="tool_calls"), usage(5, 3), b"[DONE]")
    else:
        said = story('{"title": "', "Sums", '"}')
    await exchange.send(CHUNKED + chunk(said) + LAST_CHUNK)


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(speak) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    settings = orjson.loads(config(upstream.url))
    settings["models"] = {
        "desk": {
            "targets": ["up/large"],
            "tools": ["calculator"],
            "system": "Be brief.",
            "name": "The desk",
        },
        "small": {"targets": ["up/small"]},
    }
    settings["tiers"] = {"webui": {"trust": True, "task_model": "small"}}
    folder = tmp_path_factory.mktemp("gateway")
    with Gateway(folder, orjson.dumps(settings).decode()) as running:
        yield running


@pytest.fixture(scope="module")
async def client(gateway: Gateway) -> AsyncGenerator[httpx2.AsyncClient, None]:
    secret = await asyncio.to_thread(gateway.key, "webui@example.com", "--tier", "webui")
    headers = {"authorization": f"Bearer {secret}", **HEADERS}
    async with httpx2.AsyncClient(
        base_url=f"{gateway.url}/v1", headers=headers, timeout=30
    ) as http:
        yield http


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, Any]:
    for _ in range(50):
        found = await client.get(f"/usage/{response.headers['x-request-id']}")
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    result: dict[str, Any] = found.json()
    return result


def read_as_open_webui(text: str) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """Text, events and usages, as its middleware takes them from the lines of a stream."""
    said, events, usages = "", [], []
    for line in text.splitlines():
        if not line.startswith("data:") or line == "data: [DONE]":
            continue
        data = json.loads(line.removeprefix("data:"))
        assert "error" not in data
        if "event" in data:
            events.append(data["event"])
        if data.get("usage"):
            usages.append(data["usage"])
        for choice in data.get("choices", []):
            assert "tool_calls" not in choice["delta"]
            said += choice["delta"].get("content") or ""
    return said, events, usages


async def test_its_list_of_models_has_names(client: httpx2.AsyncClient) -> None:
    models = {model["id"]: model for model in (await client.get("/models")).json()["data"]}
    assert models["desk"]["name"] == "The desk"
    assert "name" not in models["small"]


async def test_a_turn_shows_what_runs_and_counts_once(client: httpx2.AsyncClient) -> None:
    response = await client.post("/chat/completions", json=TURN)
    assert response.headers["x-tool-notifications"] == "openwebui"
    said, events, usages = read_as_open_webui(response.text)
    assert said == "It is 4."
    assert [event["type"] for event in events] == ["status", "status"]
    assert [event["data"]["done"] for event in events] == [False, True]
    assert "2 + 2" in events[0]["data"]["description"]
    assert [usage["total_tokens"] for usage in usages] == [5 + 3 + 7 + 2]
    assert (await row(client, response))["attributes"] == {
        "user": "ada@example.com",
        "conversation": "chat-1",
    }


@pytest.mark.parametrize("task", ["title_generation", None], ids=["header", "words"])
async def test_a_chore_is_a_cheap_models_and_none_of_the_chat(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, task: str | None
) -> None:
    headers = {name: value for name, value in client.headers.items() if name != "x-openwebui-task"}
    if task is not None:
        headers["x-openwebui-task"] = task
    async with httpx2.AsyncClient(base_url=client.base_url, headers=headers) as http:
        response = await http.post("/chat/completions", json=TITLE)
    content = response.json()["choices"][0]["message"]["content"]
    assert json.loads(content) == {"title": "Sums"}
    sent = orjson.loads(upstream.exchanges[-1].body)
    assert sent["model"] == "small"
    assert sent["messages"] == TITLE["messages"]
    assert "tools" not in sent
    told = await row(client, response)
    assert told["model"] == "small"
    assert told["attributes"] == {"user": "ada@example.com", "task": task or "task"}


async def test_a_chat_is_kept_without_its_chores(client: httpx2.AsyncClient) -> None:
    chat = {"x-openwebui-chat-id": "chat-2"}
    await client.post("/chat/completions", json=TURN, headers=chat)
    before = (await client.get("/conversations/chat-2")).json()
    assert [message["role"] for message in before["messages"]] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]
    chore = {**chat, "x-openwebui-task": "title_generation"}
    await client.post("/chat/completions", json=TITLE, headers=chore)
    assert (await client.get("/conversations/chat-2")).json() == before


async def test_the_headers_of_another_key_are_not_believed(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    other = await asyncio.to_thread(gateway.key, "eve@example.com")
    headers = {"authorization": f"Bearer {other}", "x-openwebui-task": "title_generation"}
    response = await client.post("/chat/completions", json=TURN, headers=headers)
    assert read_as_open_webui(response.text)[0] == "It is 4."
    async with httpx2.AsyncClient(base_url=client.base_url, headers=headers) as http:
        told = await row(http, response)
    assert "user" not in told.get("attributes", {})
    assert "task" not in told.get("attributes", {})


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{task_model: smal}", "tiers.webui.task_model: The model 'smal' does not exist"),
        ("{jwt_secret: x}", "tiers.webui.jwt_secret: is for a tier with trust: true"),
    ],
    ids=["no model", "no trust"],
)
def test_a_wrong_row_of_a_tier_stops_the_start(gateway: Gateway, row: str, problem: str) -> None:
    settings = gateway.folder / "wrong.yaml"
    settings.write_text(f"tiers: {{webui: {row}}}")
    broken = Gateway(gateway.folder / "broken", settings.read_text())
    done = broken.run("serve", check=False)
    assert done.returncode
    assert re.search(re.escape(problem), done.stdout + done.stderr)
