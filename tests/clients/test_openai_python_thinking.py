"""openai-python on the Responses API, with a server of Anthropic's API behind the gateway: signed thinking
goes back as it came, whoever keeps the history."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response

from tests.servers.anthropic_upstream import (
    HELLO,
    SEARCH,
    Answer,
    Upstream,
    end,
    start,
    text,
    thinking,
    tool_use,
)
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.clients

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CALL = "toolu_01A4xKq"
BOTH = (
    start()
    + thinking(0, "Calculate, ", "and look.", signature="c2ln")
    + text(1, "One moment. ")
    + tool_use(2, "toolu_01C9zNp", "calculator", '{"expression":"6 * 7"}')
    + end("tool_use")
)
LOOK = (
    start()
    + thinking(0, "Now look.", signature="c2lnMg==")
    + tool_use(1, CALL, "weather", '{"city":"Oslo"}')
    + end("tool_use")
)
OUTPUT = {"type": "function_call_output", "call_id": CALL, "output": "rain"}
SAID = [
    [
        {"type": "thinking", "thinking": "Calculate, and look.", "signature": "c2ln"},
        {"type": "text", "text": "One moment. "},
        {
            "type": "tool_use",
            "id": "toolu_01C9zNp",
            "name": "calculator",
            "input": {"expression": "6 * 7"},
        },
    ],
    [
        {
            "type": "tool_result",
            "tool_use_id": "toolu_01C9zNp",
            "content": [{"type": "text", "text": "42"}],
        }
    ],
    [
        {"type": "thinking", "thinking": "Now look.", "signature": "c2lnMg=="},
        {"type": "tool_use", "id": CALL, "name": "weather", "input": {"city": "Oslo"}},
    ],
    [
        {
            "type": "tool_result",
            "tool_use_id": CALL,
            "content": [{"type": "text", "text": "rain"}],
        }
    ],
]


@dataclass
class Line:
    client: AsyncOpenAI
    upstream: Upstream
    gateway: Gateway

    async def ask(self, *answers: bytes, stream: bool, **fields: Any) -> Response:
        self.upstream.first = [Answer([answer]) for answer in answers]
        body = {"model": "up/claude-test", "tools": [WEATHER], **fields}
        if not stream:
            whole: Response = await self.client.responses.create(**body)
            return whole
        async with self.client.responses.stream(**body) as streamed:
            return await streamed.get_final_response()

    @property
    def sent(self) -> list[Any]:
        messages: list[Any] = json.loads(self.upstream.asked[-1].body)["messages"]
        return [row["content"] for row in messages]


@pytest.fixture
async def line(tmp_path: Path) -> AsyncGenerator[Line, None]:
    async with Upstream().run() as upstream:
        row = {"type": "anthropic", "base_url": upstream.url, "api_key": "k", "retries": 0}
        config = {"providers": {"up": {**row, "tools": ["calculator"]}}}
        with Gateway(tmp_path, json.dumps(config)) as gateway:
            async with AsyncOpenAI(
                base_url=f"{gateway.url}/v1", api_key=gateway.key(), max_retries=0
            ) as client:
                yield Line(client, upstream, gateway)


streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@streamed
async def test_a_client_that_keeps_nothing_follows_the_answer(line: Line, stream: bool) -> None:
    first = await line.ask(BOTH, LOOK, stream=stream, input="Oslo?")
    assert [item.type for item in first.output] == [
        *("reasoning", "message", "mcp_call", "reasoning", "function_call")
    ]
    second = await line.ask(HELLO, stream=stream, input=[OUTPUT], previous_response_id=first.id)
    assert line.sent[1:] == SAID
    assert second.output_text == "Hello, wörld\u2028!"


async def test_what_is_kept_outlives_the_process(line: Line) -> None:
    first = await line.ask(BOTH, LOOK, stream=False, input="Oslo?")
    line.gateway.kill()
    line.gateway.start()
    again = line.client.with_options(base_url=f"{line.gateway.url}/v1")
    line.upstream.first = [Answer([HELLO])]
    await again.responses.create(
        model="up/claude-test",
        tools=[WEATHER],  # type: ignore[list-item]  # a plain mapping
        input=[OUTPUT],  # type: ignore[list-item]  # a plain mapping
        previous_response_id=first.id,
    )
    assert line.sent[1:] == SAID


@streamed
async def test_a_client_that_keeps_all_brings_it_back(line: Line, stream: bool) -> None:
    alone = {"store": False, "include": ["reasoning.encrypted_content"]}
    first = await line.ask(BOTH, LOOK, stream=stream, input="Oslo?", **alone)
    history = [{"role": "user", "content": "Oslo?"}, *first.output, OUTPUT]
    await line.ask(HELLO, stream=stream, input=history, **alone)
    assert line.sent[1:] == SAID


@streamed
async def test_items_that_are_named_are_those_that_were_said(line: Line, stream: bool) -> None:
    first = await line.ask(BOTH, LOOK, stream=stream, input="Oslo?")
    named = [{"type": "item_reference", "id": item.id} for item in first.output]
    history = [{"role": "user", "content": "Oslo?"}, *named, OUTPUT]
    await line.ask(HELLO, stream=stream, input=history)
    assert line.sent[1:] == SAID


@streamed
async def test_a_search_of_the_provider_is_a_native_item(line: Line, stream: bool) -> None:
    answer = await line.ask(SEARCH, stream=stream, input="Tides?")
    assert [item.type for item in answer.output] == [
        *("message", "web_search_call", "message", "web_search_call", "message")
    ]
    cited = [
        annotation
        for item in answer.output
        if item.type == "message"
        for part in item.content
        if part.type == "output_text"
        for annotation in part.annotations
    ]
    assert [one.url for one in cited if one.type == "url_citation"]
