"""Each kind of server through the provider: the same events from all, and no request that one refuses."""

import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager

import pytest

from adapters.providers.openai import OpenAIProvider
from adapters.providers.profiles import PROFILES, guess
from gateway.errors import GatewayError
from gateway.events import (
    Complete,
    Delta,
    Event,
    ReasoningDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
    Usage,
)
from gateway.request import ChatRequest, Message
from tests.servers.model_servers import CALLS, SERVERS, THOUGHTS, WORDS, ModelServer
from tests.servers.scripted import scripted

ASK: Message = {"role": "user", "content": "Hi"}
ALL = pytest.mark.parametrize("kind", SERVERS)


@asynccontextmanager
async def served(
    kind: str, **config: object
) -> AsyncGenerator[tuple[ModelServer, OpenAIProvider], None]:
    server = SERVERS[kind]()
    async with scripted(server) as upstream:
        row = {"base_url": f"{upstream.url}/v1", "profile": kind, **config}
        provider = OpenAIProvider("up", row)
        try:
            yield server, provider
        finally:
            await provider.aclose()


async def heard(
    provider: OpenAIProvider, model: str, messages: Sequence[Message] = (ASK,), **fields: object
) -> tuple[list[Event], GatewayError | None]:
    options = {name: value for name, value in fields.items() if name != "n"}
    request = ChatRequest(
        model=model, messages=messages, options=options, n=2 if "n" in fields else 1
    )
    events: list[Event] = []
    try:
        async with aclosing(provider.stream(request)) as stream:
            async for batch in stream:
                events += batch
    except GatewayError as error:
        return events, error
    return events, None


def text(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def thought(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, ReasoningDelta))


def end(events: Sequence[Event]) -> Complete:
    last = events[-1]
    assert isinstance(last, Complete)
    return last


def test_every_profile_has_a_server() -> None:
    assert SERVERS.keys() == PROFILES.keys()


# What they say


@ALL
async def test_text_and_usage_are_the_same_from_all(kind: str) -> None:
    async with served(kind) as (_, provider):
        events, error = await heard(provider, "text")
    assert error is None
    assert events[:-1] == [Delta(word) for word in WORDS]
    usage = end(events).usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (10, 5)
    cached = {"deepseek": 4, "llama-server": 4}
    assert usage.cached_tokens == cached.get(kind, 0)
    assert end(events).finish_reason == "stop"


@ALL
async def test_thinking_is_found_wherever_it_is(kind: str) -> None:
    async with served(kind) as (_, provider):
        events, error = await heard(provider, "thinking")
    assert error is None
    assert text(events) == "".join(WORDS)
    assert thought(events) == ("" if kind == "openai" else "".join(THOUGHTS))


@ALL
@pytest.mark.parametrize("count", [1, 2])
async def test_tool_calls_are_put_together_however_they_come(kind: str, count: int) -> None:
    async with served(kind) as (_, provider):
        events, error = await heard(provider, "tool" if count == 1 else "tools")
    assert error is None
    starts = {event.call_id: event.name for event in events if isinstance(event, ToolCallStart)}
    whole = {event.call_id: event.arguments for event in events if isinstance(event, ToolCallReady)}
    pieces = dict.fromkeys(starts, "")
    for event in events:
        if isinstance(event, ToolCallDelta):
            pieces[event.call_id] += event.fragment
    assert whole == pieces
    told = [(starts[call_id], arguments.replace(" ", "")) for call_id, arguments in whole.items()]
    assert told == [(name, arguments.replace(" ", "")) for name, arguments in CALLS[:count]]
    assert end(events).finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("kind", "status", "code", "message"),
    [
        ("openai", 502, "upstream_error", "Broken."),
        ("ollama", 502, "upstream_truncated", "broke off"),
        ("deepseek", 502, "upstream_truncated", "insufficient_system_resource"),
        ("groq", 502, "upstream_error", "Over capacity"),
        ("llama-server", 502, "upstream_error", "Compute error."),
        ("vllm", 502, "upstream_error", "Engine dead."),
        ("openrouter", 502, "upstream_error", "Provider disconnected"),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error_after_its_text(
    kind: str, status: int, code: str, message: str
) -> None:
    async with served(kind) as (_, provider):
        events, error = await heard(provider, "breaking")
    assert events == [Delta(WORDS[0])]
    assert error is not None
    assert (error.status, error.code, error.retryable) == (status, code, True)
    assert message in error.message


@pytest.mark.parametrize(
    ("kind", "model", "status", "code", "retryable"),
    [
        ("openai", "unpaid", 429, "insufficient_quota", False),
        ("ollama", "absent", 404, None, False),
        ("deepseek", "unpaid", 429, "insufficient_quota", False),
        ("groq", "too-large", 413, "rate_limit_exceeded", False),
        ("groq", "misled", 502, "tool_use_failed", True),
        ("groq", "full", 503, "upstream_error", True),
        ("llama-server", "loading", 503, "upstream_error", True),
        ("llama-server", "too-long", 400, "context_length_exceeded", False),
        ("vllm", "too-long", 400, "400", False),
        ("openrouter", "unpaid", 429, "insufficient_quota", False),
        ("openrouter", "limited", 429, "rate_limit_exceeded", True),
        ("openrouter", "moderated", 400, "content_policy_violation", False),
    ],
)
async def test_a_refusal_has_one_meaning_whoever_says_it(
    kind: str, model: str, status: int, code: str | None, retryable: bool
) -> None:
    async with served(kind) as (_, provider):
        events, error = await heard(provider, model)
    assert events == []
    assert error is not None
    assert (error.status, error.code, error.retryable) == (status, code, retryable)


async def test_what_the_server_behind_openrouter_said_is_told() -> None:
    async with served("openrouter") as (_, provider):
        _, error = await heard(provider, "limited")
    assert error is not None
    assert error.message == "Provider returned error: m is temporarily rate-limited upstream."
    assert error.retry_after == 7


async def test_llama_server_s_timings_stand_for_usage_that_was_not_asked_for() -> None:
    async with served("llama-server", stream_usage=False) as (_, provider):
        events, _ = await heard(provider, "text")
    assert end(events).usage == Usage(10, 5, cached_tokens=4)


# What they are asked


HISTORY: Sequence[Message] = (
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Hi", "name": "Quist"},
    {"role": "assistant", "content": "Hello.", "reasoning_content": "A greeting."},
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": "Rain."},
)
OPTIONS = {
    "max_tokens": 9,
    "logprobs": True,
    "top_logprobs": 2,
    "logit_bias": {"1": 2},
    "n": 2,
    "temperature": 0.5,
    "reasoning_effort": "minimal",
}


@ALL
async def test_no_request_is_refused_for_how_the_server_deviates(kind: str) -> None:
    messages = [*HISTORY, {**HISTORY[2], "content": "Rain, then."}, ASK]
    async with served(kind) as (server, provider):
        events, error = await heard(provider, "text", messages, **OPTIONS)
    assert error is None
    assert text(events) == "".join(WORDS)
    [body] = server.bodies
    assert body["temperature"] == 0.5
    sent = body["messages"]
    assert isinstance(sent, list)
    assert len(sent) == len(messages)
    limit = {"openai": "max_completion_tokens"}.get(kind, "max_tokens")
    assert body[limit] == 9
    assert len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1
    one_system = ("ollama", "deepseek", "llama-server", "vllm")
    assert sent[0]["role"] == ("system" if kind in one_system else "developer")
    assert ("name" in sent[1]) == (kind != "groq")


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("openai", {}),
        ("groq", {}),
        ("ollama", {"reasoning": "A greeting."}),
        ("openrouter", {"reasoning": "A greeting."}),
        ("llama-server", {"reasoning_content": "A greeting."}),
        ("vllm", {"reasoning": "A greeting.", "reasoning_content": "A greeting."}),
        ("deepseek", {"reasoning_content": "A greeting."}),
        ("default", {"reasoning_content": "A greeting."}),
    ],
)
async def test_earlier_thinking_goes_back_where_it_is_taken(
    kind: str, fields: dict[str, str]
) -> None:
    async with served(kind) as (server, provider):
        await heard(provider, "text", HISTORY)
    sent = server.bodies[0]["messages"]
    assert isinstance(sent, list)
    assert sent[2] == {"role": "assistant", "content": "Hello.", **fields}


async def test_a_model_of_ollama_s_that_is_to_call_no_tools_is_told_of_none() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    async with served("ollama") as (server, provider):
        events, _ = await heard(provider, "text", tools=tools, tool_choice="none")
        assert text(events) == "".join(WORDS)
        await heard(provider, "text", tools=tools, tool_choice="auto")
    assert [body.get("tools") for body in server.bodies] == [None, tools]


async def test_deepseek_gets_thinking_with_calls_that_were_made_without() -> None:
    async with served("deepseek") as (server, provider):
        _, error = await heard(provider, "text", HISTORY)
        assert error is None
        await heard(provider, "text", (ASK, {"role": "assistant", "content": "Hello."}, ASK))
    first, second = (body["messages"] for body in server.bodies)
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert first[4]["reasoning_content"] == " "
    assert second[1] == {"role": "assistant", "content": "Hello."}


async def test_what_is_left_out_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="adapters.providers.openai")
    async with served("groq") as (server, provider):
        for _ in range(2):
            await heard(provider, "text", HISTORY, **OPTIONS)
    assert not {"logprobs", "top_logprobs", "logit_bias", "n"} & server.bodies[0].keys()
    left_out = [r.args[1] for r in caplog.records if r.msg.startswith("requests to") and r.args]
    assert sorted(left_out) == ["logit_bias", "logprobs", "messages[].name", "n", "top_logprobs"]
    assert "Quist" not in caplog.text


async def test_a_history_that_fits_is_sent_as_it_is() -> None:
    async with served("default") as (server, provider):
        await heard(provider, "text", HISTORY, **OPTIONS)
    assert server.bodies[0]["messages"] == list(HISTORY)
    assert server.bodies[0]["n"] == 2


async def test_the_row_stands_before_the_profile() -> None:
    row = {"max_tokens_field": "max_completion_tokens", "omit": ["temperature"]}
    async with served("ollama", **row) as (server, provider):
        await heard(provider, "text", max_tokens=7, temperature=1, logit_bias={})
    body = server.bodies[0]
    assert body["max_completion_tokens"] == 7
    assert not {"max_tokens", "temperature", "logit_bias"} & body.keys()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://API.Groq.com/openai/v1", "groq"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("http://localhost:11434/v1", "ollama"),
        ("http://[::1]:11434/v1", "ollama"),
        ("http://localhost:8080/v1", "default"),
        ("https://openrouter.ai.example.org/v1", "default"),
    ],
)
def test_a_profile_is_told_by_an_address_that_leaves_no_doubt(url: str, kind: str) -> None:
    assert guess(url) == kind


def test_an_unknown_profile_is_a_mistake_that_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^profile: expected one of default, openai, ollama"):
        OpenAIProvider("up", {"profile": "olama"})
