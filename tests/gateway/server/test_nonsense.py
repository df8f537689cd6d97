"""Nonsense at every place of a request: refused in the surface's own shape with a reason and the place, or
answered; never a fault of ours."""

import asyncio
import random
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Any

import httpx2
import orjson
import pytest

from tests.conftest import Valid
from tests.servers.dialogue import config, story
from tests.servers.gateway import Gateway
from tests.servers.scripted import CHUNKED, LAST_CHUNK, Exchange, chunk, scripted

pytestmark = pytest.mark.xdist_group("nonsense")

MODEL = "up/m"
USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {}}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}
TEXT = {"type": "text", "text": "t"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
THINKING = {"reasoning_content": "r", "reasoning_details": [{"text": "x", "signature": "s"}]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

CHAT = {
    "model": MODEL,
    "n": 1,
    "stop": ["x"],
    "temperature": 1,
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "metadata": {"a": "b"},
    "stream_options": {"include_usage": True},
    "logit_bias": {"1": 2},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [TEXT, IMAGE]},
        {"role": "assistant", "content": None, "tool_calls": [CALL], **THINKING},
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ],
}
FUNCTION = {"type": "function", "name": "f", "parameters": {}, "strict": True}
RESPONSES = {
    "model": MODEL,
    "instructions": "i",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "name": "n",
            "arguments": "{}",
            "error": {"content": [TEXT]},
            "server_label": "l",
        },
    ],
    "tools": [FUNCTION],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [FUNCTION]},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}, "verbosity": "low"},
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "top_logprobs": 1,
    "truncation": "auto",
}
USE = {"type": "server_tool_use", "id": "srvtoolu_gw_1", "name": "n", "input": {"a": 1}}
FOUND = {"type": "web_search_result", "url": "u", "title": "t", "encrypted_content": "e"}
MESSAGES = {
    "model": MODEL,
    "max_tokens": 5,
    "system": [{**TEXT, "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                TEXT,
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "A"},
                },
                {
                    "type": "document",
                    "title": "t",
                    "source": {"type": "content", "content": [TEXT]},
                },
                {"type": "search_result", "title": "t", "source": "s", "content": [TEXT]},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                USE,
                {
                    "type": "web_search_tool_result",
                    "tool_use_id": "srvtoolu_gw_1",
                    "content": [FOUND],
                },
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": [TEXT]}],
        },
    ],
    "stop_sequences": ["x"],
    "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "tool", "name": "f"},
}
VOICE = {
    "model": MODEL,
    "messages": [USER],
    "call": {"id": "k", "customer": {"number": "+1"}, "orgId": "o"},
    "customer": {"number": "+1"},
    "elevenlabs_extra_body": {"session_id": "s", "caller_id": "x"},
    "functions": [{"name": "f", "parameters": {}}],
}
COMPLETION = {
    "model": MODEL,
    "prompt": ["a", "b"],
    "n": 1,
    "best_of": 1,
    "echo": True,
    "suffix": "",
}

SURFACES: dict[str, Any] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETION,
    "/chat": {**CHAT, "message": "x"},
    "/v1/responses": RESPONSES,
    "/v1/responses/input_tokens": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": MESSAGES,
    "/voice/chat/completions": VOICE,
    "/v1/embeddings": {"model": MODEL, "input": ["a"], "encoding_format": "float", "dimensions": 3},
}
ANSWERS = {
    "/v1/chat/completions": "CreateChatCompletionResponse",
    "/voice/chat/completions": "CreateChatCompletionResponse",
    "/v1/completions": "CreateCompletionResponse",
    "/v1/responses": "Response",
}
"""OpenAI's schemas of what is answered there."""

ABSENT = object()
NONSENSE: list[Any] = [
    ABSENT,
    *(None, True, False, 0, -1, 1.5, 10**19, 1e308),
    *("", "x", "\x00", "\u2028", "\r\n", "data: [DONE]"),
    *([], [[]], [None], [1], ["x"], [{}], {}, {"": ""}, {"x": {}}),
    *({"type": "text"}, {"type": None}, {"type": []}, {"type": "function"}, {"role": "user"}),
    *({"type": "item_reference", "id": "msg_x"}, [{"type": "web_search"}]),
]
RAW = [
    *(b"", b" ", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"a=b&c=d"),
    *(b'{"model":NaN}', b'{"model":"\\ud800"}', b'{"\\ud800":1}', b'{"model":"x\xff"}'),
    b'{"model":"up/m","seed":1e999}',
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"model":"up/m","messages":' + b"[" * 1000 + b"]" * 1000 + b"}",
]
SAMPLE = 250
"""Requests to each surface, always the same ones."""


def places(value: object, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of everything that is in a body."""
    if before:
        yield before
    items: Iterable[tuple[Any, object]] = ()
    match value:
        case dict():
            items = value.items()
        case list():
            items = enumerate(value)
    for name, item in items:
        yield from places(item, (*before, name))


def spoil(body: object, place: tuple[Any, ...], nonsense: object) -> Any:
    spoilt = orjson.loads(orjson.dumps(body))
    *way, last = place
    inner = spoilt
    for name in way:
        inner = inner[name]
    if nonsense is ABSENT:
        del inner[last]
    else:
        inner[last] = nonsense
    return spoilt


@pytest.fixture(scope="module")
async def client(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[httpx2.AsyncClient, None]:
    async def speak(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(story("Hello ", "there.")) + LAST_CHUNK)

    async with scripted(speak) as upstream:
        with Gateway(tmp_path_factory.mktemp("nonsense"), config(upstream.url)) as gateway:
            key = await asyncio.to_thread(gateway.key)
            headers = {"authorization": f"Bearer {key}"}
            async with httpx2.AsyncClient(
                base_url=gateway.url, headers=headers, timeout=60
            ) as http:
                yield http


def check(valid: Valid, path: str, response: httpx2.Response) -> None:
    told = response.json()
    if response.status_code == 200:
        if path in ANSWERS:
            valid(ANSWERS[path], told)
    elif path.startswith("/v1/messages"):
        assert told["type"] == "error"
        assert told["error"]["type"].endswith("_error")
        assert told["error"]["message"]
    else:
        valid("ErrorResponse", told)
        assert told["error"]["message"]


@pytest.mark.parametrize("path", SURFACES)
async def test_nonsense_is_refused_with_a_reason_or_answered(
    client: httpx2.AsyncClient, valid: Valid, path: str
) -> None:
    base = SURFACES[path]
    tries = [(place, nonsense) for place in places(base) for nonsense in NONSENSE]
    random.Random(7).shuffle(tries)
    refused = 0
    for place, nonsense in tries[:SAMPLE]:
        body = {"stream": False, **spoil(base, place, nonsense)}
        response = await client.post(path, json=body)
        # The upstream of these tests makes no embeddings, which is its own fault.
        faulty = response.status_code >= 500 and path != "/v1/embeddings"
        assert not faulty, (place, nonsense, response.text)
        assert b"internal_error" not in response.content, (place, nonsense)
        check(valid, path, response)
        if response.status_code == 400 and not path.startswith("/v1/messages"):
            refused += 1
            assert response.json()["error"]["param"], (place, nonsense, response.text)
    assert refused or path.startswith("/v1/messages")


@pytest.mark.parametrize("path", SURFACES)
async def test_what_is_no_json_is_refused_in_the_surfaces_shape(
    client: httpx2.AsyncClient, valid: Valid, path: str
) -> None:
    for content in RAW:
        response = await client.post(path, content=content)
        assert response.status_code == 400, content[:40]
        check(valid, path, response)
