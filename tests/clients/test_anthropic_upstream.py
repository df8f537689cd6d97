"""anthropic-python, through the gateway, to a server of Anthropic's API: what is said arrives unchanged."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import anthropic
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message

from tests.servers.anthropic_upstream import (
    HELLO,
    SEARCH,
    Answer,
    Upstream,
    end,
    refusal,
    start,
    text,
    thinking,
    tool_use,
)
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.clients

CACHE = {"type": "ephemeral"}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    "cache_control": CACHE,
}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@dataclass
class Line:
    """A client, the gateway and the server behind it."""

    client: AsyncAnthropic
    upstream: Upstream
    http: httpx2.AsyncClient

    async def say(self, *answers: bytes, stream: bool, **fields: Any) -> Message:
        self.upstream.first = [Answer([answer]) for answer in answers]
        body = {"model": "up/claude-test", "max_tokens": 4000, **fields}
        if not stream:
            return cast(Message, await self.client.messages.create(**body))
        async with self.client.messages.stream(**body) as streamed:
            return await streamed.get_final_message()

    @property
    def sent(self) -> dict[str, Any]:
        return self.upstream.asked[-1].json()


@asynccontextmanager
async def _line(folder: Path) -> AsyncGenerator[Line, None]:
    async with Upstream().run() as upstream:
        row = {"type": "anthropic", "base_url": upstream.url, "api_key": "k", "retries": 0}
        tools = {"tools": ["calculator"]}
        config = {"providers": {"up": row, "armed": {**row, **tools}}}
        with Gateway(folder, json.dumps(config)) as gateway:
            key = gateway.key()
            async with (
                AsyncAnthropic(base_url=gateway.url, api_key=key, max_retries=0) as client,
                httpx2.AsyncClient(base_url=gateway.url, headers={"x-api-key": key}) as http,
            ):
                yield Line(client, upstream, http)


@pytest.fixture(scope="module")
async def line(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Line, None]:
    async with _line(tmp_path_factory.mktemp("line")) as made:
        yield made


@STREAMED
async def test_thinking_and_calls_go_back_as_they_were_written(line: Line, stream: bool) -> None:
    ask: list[Any] = [{"role": "user", "content": [{"type": "text", "text": "Oslo?"}]}]
    answer = (
        start()
        + thinking(0, "Let me ", "see.", signature="c2lnbmVk")
        + text(1, "Looking.")
        + tool_use(2, "toolu_01A4xKq", "weather", '{"city":', '"Oslo"}')
        + thinking(3, "And now.", signature="c2lnMg==")
        + tool_use(4, "toolu_01B7yLm", "weather", '{"city":"Rome"}')
        + end("tool_use")
    )
    fields = {
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "tools": [WEATHER],
        "system": [{"type": "text", "text": "Be brief.", "cache_control": CACHE}],
    }
    first = await line.say(answer, stream=stream, messages=ask, **fields)
    assert [block.type for block in first.content] == [
        *("thinking", "text", "tool_use", "thinking", "tool_use")
    ]
    results = [
        {"type": "tool_result", "tool_use_id": "toolu_01A4xKq", "content": "rain"},
        {
            "type": "tool_result",
            "tool_use_id": "toolu_01B7yLm",
            "content": [{"type": "text", "text": "No such place."}],
            "is_error": True,
            "cache_control": CACHE,
        },
    ]
    ask += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    await line.say(HELLO, stream=stream, messages=ask, **fields)
    assert {name: line.sent[name] for name in fields} == fields
    [_, said, returned] = line.sent["messages"]
    assert said["content"] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
        {"type": "text", "text": "Looking."},
        _call("toolu_01A4xKq", "Oslo"),
        {"type": "thinking", "thinking": "And now.", "signature": "c2lnMg=="},
        _call("toolu_01B7yLm", "Rome"),
    ]
    assert returned["content"][1] == results[1]


def _call(call_id: str, city: str) -> dict[str, object]:
    return {"type": "tool_use", "id": call_id, "name": "weather", "input": {"city": city}}


@STREAMED
async def test_the_end_and_the_counts_are_the_servers(line: Line, stream: bool) -> None:
    answer = (
        start(cache_read_input_tokens=100, cache_creation_input_tokens=10)
        + text(0, "One, two")
        + end("stop_sequence").replace(b'"stop_sequence": null', b'"stop_sequence": "three"')
    )
    ask = [{"role": "user", "content": "Count."}]
    message = await line.say(answer, stream=stream, messages=ask, stop_sequences=["three"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "three")
    usage = message.usage
    assert (usage.input_tokens, usage.output_tokens) == (25, 15)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (100, 10)
    assert line.sent["stop_sequences"] == ["three"]


@STREAMED
async def test_a_search_of_anthropics_is_shown_and_goes_back_as_a_call(
    line: Line, stream: bool
) -> None:
    ask: list[Any] = [{"role": "user", "content": "Tides?"}]
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
    message = await line.say(SEARCH, stream=stream, messages=ask, tools=tools)
    assert line.sent["tools"] == tools
    assert [block.type for block in message.content] == [
        *("text", "server_tool_use", "web_search_tool_result", "text"),
        *("server_tool_use", "web_search_tool_result", "text"),
    ]
    found = message.content[2]
    assert found.type == "web_search_tool_result"
    assert isinstance(found.content, list)
    assert [page.url for page in found.content] == ["https://tides.example/oslo"]
    cited = message.content[3]
    assert cited.type == "text"
    assert cited.citations is not None
    assert cited.citations[0].type == "web_search_result_location"
    ask += [message.to_param(), {"role": "user", "content": "And?"}]
    await line.say(HELLO, stream=stream, messages=ask, tools=tools)
    # What the server had encrypted is lost on the way: it is told as a call and its result.
    roles = [row["role"] for row in line.sent["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]
    assert "Tides" in json.dumps(line.sent["messages"][2])


@STREAMED
async def test_thinking_before_a_tool_of_ours_goes_back_with_it(line: Line, stream: bool) -> None:
    ask: list[Any] = [{"role": "user", "content": "6 * 7?"}]
    asking = (
        start()
        + thinking(0, "Calculate.", signature="c2ln")
        + tool_use(1, "toolu_01C9zNp", "calculator", '{"expression":"6 * 7"}')
        + end("tool_use")
    )
    done = start() + text(0, "It is 42.") + end()
    message = await line.say(asking, done, stream=stream, model="armed/claude-test", messages=ask)
    ask += [message.to_param(), {"role": "user", "content": "Sure?"}]
    await line.say(HELLO, stream=stream, model="armed/claude-test", messages=ask)
    assert [row["content"] for row in line.sent["messages"][1:4]] == [
        [
            {"type": "thinking", "thinking": "Calculate.", "signature": "c2ln"},
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
        [{"type": "text", "text": "It is 42."}],
    ]


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (403, "permission_error", anthropic.InternalServerError),  # the operator's own key
        (404, "not_found_error", anthropic.NotFoundError),
        (413, "request_too_large", anthropic.ContentTooLargeError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
async def test_a_refusal_of_the_server_keeps_its_class(
    line: Line, status: int, kind: str, expected: type[anthropic.APIStatusError]
) -> None:
    line.upstream.first = [refusal(status, kind, "No.")]
    with pytest.raises(expected):
        await line.client.messages.create(
            model="up/claude-test", max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
        )


# Counting

COUNT = {"model": "up/claude-test", "messages": [{"role": "user", "content": "Hi"}]}


def _counted(tokens: object) -> Answer:
    body = json.dumps({"input_tokens": tokens}).encode()
    return Answer([body], headers={"content-type": "application/json"}, framing="length")


async def test_a_count_is_the_servers(line: Line) -> None:
    line.upstream.first = [_counted(1234)]
    counted = await line.client.messages.count_tokens(
        **cast(Any, {**COUNT, "tools": [WEATHER], "system": "Be brief."})
    )
    assert counted.input_tokens == 1234
    asked = line.upstream.asked[-1]
    assert asked.path == "/v1/messages/count_tokens"
    assert asked.json() == {
        "model": "claude-test",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "tools": [WEATHER],
        "system": [{"type": "text", "text": "Be brief."}],
    }


async def test_a_count_is_of_what_the_gateway_adds_as_well(line: Line) -> None:
    line.upstream.first = [_counted(99)]
    await line.client.messages.count_tokens(**cast(Any, {**COUNT, "model": "armed/claude-test"}))
    assert [tool["name"] for tool in line.sent["tools"]] == ["calculator"]


@pytest.mark.parametrize(
    "answer",
    [refusal(404, "not_found_error", "No."), refusal(500, "api_error", "No."), _counted("many")],
    ids=["no such path", "a failure", "no number"],
)
async def test_where_there_is_no_count_there_is_an_estimate(line: Line, answer: Answer) -> None:
    line.upstream.first = [answer]
    counted = await line.client.messages.count_tokens(**cast(Any, COUNT))
    assert 0 < counted.input_tokens < 100


async def test_what_is_wrong_with_a_request_is_told_where_it_is_counted(line: Line) -> None:
    line.upstream.first = [refusal(400, "invalid_request_error", "messages: no")]
    with pytest.raises(anthropic.BadRequestError, match="messages: no"):
        await line.client.messages.count_tokens(**cast(Any, COUNT))
    answer = await line.http.post("/v1/messages/count_tokens", content=b"{")
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert "x-request-id" not in answer.headers
