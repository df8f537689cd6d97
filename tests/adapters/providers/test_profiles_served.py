"""A talk with tools through a running gateway, by a client that knows nothing of the server behind it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack

import orjson
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

from tests.servers.gateway import Gateway
from tests.servers.model_servers import SERVERS, THOUGHTS, WORDS, ModelServer, OpenRouter
from tests.servers.scripted import scripted

pytestmark = pytest.mark.xdist_group("profiles_served")

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object"}},
}
ASK: ChatCompletionMessageParam = {"role": "user", "content": "Weather in Ørsta?"}


@pytest.fixture(scope="module")
async def servers() -> AsyncGenerator[Mapping[str, tuple[ModelServer, str]], None]:
    async with AsyncExitStack() as stack:
        running = {}
        for kind, make in SERVERS.items():
            server = make()
            upstream = await stack.enter_async_context(scripted(server))
            running[kind] = server, f"{upstream.url}/v1"
        yield running


@pytest.fixture(scope="module")
async def client(
    servers: Mapping[str, tuple[ModelServer, str]], tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[AsyncOpenAI, None]:
    rows = {
        kind: {"type": "openai", "base_url": url, "profile": kind, "retries": 0}
        for kind, (_, url) in servers.items()
    }
    config = orjson.dumps({"providers": rows}).decode()
    with Gateway(tmp_path_factory.mktemp("gateway"), config) as gateway:
        key = await asyncio.to_thread(gateway.key)
        async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as openai:
            yield openai


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_talk_with_a_tool_goes_to_its_end(
    client: AsyncOpenAI, servers: Mapping[str, tuple[ModelServer, str]], kind: str
) -> None:
    history: list[ChatCompletionMessageParam] = [ASK]
    answer = await client.chat.completions.create(
        model=f"{kind}/talk", messages=history, tools=[TOOL], max_tokens=50
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert orjson.loads(call.function.arguments) == {"city": "Ørsta"}
    # As most clients do it: what they do not know, such as thinking, they do not keep.
    function = {"name": call.function.name, "arguments": call.function.arguments}
    history += [
        {
            "role": "assistant",
            "tool_calls": [{"id": call.id, "type": "function", "function": function}],  # type: ignore[typeddict-item]  # a plain dict
        },
        {"role": "tool", "tool_call_id": call.id, "content": "Rain."},
    ]
    said = ""
    async for chunk in await client.chat.completions.create(
        model=f"{kind}/talk", messages=history, tools=[TOOL], max_tokens=50, stream=True
    ):
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert said == "".join(WORDS)
    sent = servers[kind][0].bodies[-1]["messages"]
    assert isinstance(sent, list)
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    if kind == "openrouter":
        assert "reasoning" not in sent[1]
        assert sent[1]["reasoning_details"] == OpenRouter.sealed
    if kind == "deepseek":
        assert sent[1]["reasoning_content"] == "".join(THOUGHTS)
