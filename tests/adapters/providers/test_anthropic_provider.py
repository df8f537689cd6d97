"""The Anthropic provider against a real server on a real socket, which speaks by script."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from anthropic import AsyncAnthropic
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.providers.anthropic import AnthropicProvider
from adapters.providers.anthropic_stream import LARGEST_OUTPUT, MessageReader
from adapters.providers.splitter import EventSplitter
from gateway.engine.limits import LoopLimits
from gateway.engine.loop import ToolLoop
from gateway.engine.router import Router
from gateway.engine.router import Upstream as Upstreamed
from gateway.engine.tools.tool import ToolContext
from gateway.engine.turns import Turns
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnreachable,
)
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    Json,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.ports import Provider
from gateway.records import ApiKey, Call
from gateway.request import ChatRequest
from tests.servers import anthropic_upstream as wire
from tests.servers.anthropic_upstream import HOLD, Answer, Upstream

KEY = "sk-ant-secret-0123456789"
PATIENCE = 60  # seconds after which a test that hangs fails
ASK = ChatRequest(model="claude-test", messages=[{"role": "user", "content": "Hi"}])


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream().run() as running:
        yield running


@pytest.fixture
async def provider(upstream: Upstream) -> AsyncIterator[AnthropicProvider]:
    made = AnthropicProvider("claude", {"api_key": KEY, "base_url": upstream.url})
    yield made
    await made.aclose()


async def collect(provider: Provider, request: ChatRequest = ASK) -> list[Event]:
    events: list[Event] = []
    async with asyncio.timeout(PATIENCE), aclosing(provider.stream(request)) as batches:
        async for batch in batches:
            assert batch, "an empty batch"
            events += batch
    return events


async def fail(provider: Provider, request: ChatRequest = ASK) -> tuple[list[Event], GatewayError]:
    events: list[Event] = []

    async def consume() -> None:
        async with asyncio.timeout(PATIENCE), aclosing(provider.stream(request)) as batches:
            async for batch in batches:
                events.extend(batch)

    with pytest.raises(GatewayError) as caught:
        await consume()
    return events, caught.value


def read(stream: bytes, cuts: Sequence[int] = ()) -> tuple[MessageReader, list[Event]]:
    reader, splitter = MessageReader(clock=lambda: 0.0), EventSplitter()
    events: list[Event] = []
    for left, right in pairwise([0, *sorted(cuts), len(stream)]):
        events += reader.read(splitter.feed(stream[left:right]))
    return reader, events


def steady(events: Sequence[Event]) -> list[Event]:
    """Without what only a clock can say."""
    return [
        replace(event, duration=0.0) if isinstance(event, ToolCallResult) else event
        for event in events
    ]


HELLO = [
    Delta("Hello"),
    Delta(", wörld\u2028!"),
    Complete("stop", "end_turn", Usage(25, 15)),
]
SEARCH_RESULT = (
    '[{"type":"web_search_result","url":"https://tides.example/oslo","title":"Tides",'
    '"page_age":"1 day"}]'
)
SCRIPTS = {
    "text": (wire.HELLO, HELLO),
    "thinking": (
        wire.THOUGHTS,
        [
            ReasoningDelta("Let me "),
            ReasoningDelta("see."),
            ReasoningDelta("", signature="c2lnbmVk"),
            ReasoningDelta("", redacted="cmVkYWN0ZWQ="),
            Delta("Two."),
            Complete("stop", "end_turn", Usage(135, 40, 100, 10, 22)),
        ],
    ),
    "parallel tools": (
        wire.TOOLS,
        [
            Delta("Looking."),
            ToolCallStart("toolu_1", "weather"),
            ToolCallDelta("toolu_1", '{"ci'),
            ToolCallDelta("toolu_1", 'ty": "Oslo"}'),
            ToolCallReady("toolu_1", '{"city": "Oslo"}'),
            ToolCallStart("toolu_2", "now"),
            ToolCallReady("toolu_2", "{}"),
            Complete("tool_calls", "tool_use", Usage(25, 60)),
        ],
    ),
    "tools of the server": (
        wire.SEARCH,
        [
            Delta("I look. "),
            ToolCallStart("srvtoolu_1", "web_search", "provider"),
            ToolCallDelta("srvtoolu_1", '{"query": "tides"}'),
            ToolCallReady("srvtoolu_1", '{"query": "tides"}'),
            ToolCallResult("srvtoolu_1", "ok", SEARCH_RESULT),
            Delta("High at noon."),
            Citation("https://tides.example/oslo", "Tides", start=8, end=21),
            ToolCallStart("srvtoolu_2", "web_search", "provider"),
            ToolCallDelta("srvtoolu_2", '{"query": "more"}'),
            ToolCallReady("srvtoolu_2", '{"query": "more"}'),
            ToolCallResult(
                "srvtoolu_2",
                "error",
                '{"type":"web_search_tool_result_error","error_code":"max_uses_exceeded"}',
            ),
            Delta(" That is all."),
            Complete("stop", "end_turn", Usage(300, 80)),
        ],
    ),
}
scripts = pytest.mark.parametrize(("stream", "expected"), SCRIPTS.values(), ids=SCRIPTS.keys())


# The stream


@scripts
async def test_a_stream_becomes_events(
    upstream: Upstream, provider: AnthropicProvider, stream: bytes, expected: list[Event]
) -> None:
    upstream.answer = Answer([stream])
    assert steady(await collect(provider)) == expected


@scripts
async def test_a_stream_that_ends_with_its_connection_becomes_the_same_events(
    upstream: Upstream, provider: AnthropicProvider, stream: bytes, expected: list[Event]
) -> None:
    upstream.answer = Answer([stream], framing="eof")
    assert steady(await collect(provider)) == expected


@pytest.mark.parametrize("framing", ["chunked", "eof"])
async def test_a_stream_that_comes_byte_by_byte_becomes_the_same_events(
    upstream: Upstream, provider: AnthropicProvider, framing: wire.Framing
) -> None:
    pieces = [wire.SEARCH[i : i + 1] for i in range(len(wire.SEARCH))]
    upstream.answer = Answer(pieces, framing=framing)
    assert steady(await collect(provider)) == SCRIPTS["tools of the server"][1]


@scripts
def test_line_ends_do_not_matter(stream: bytes, expected: list[Event]) -> None:
    for line_end in (b"\r\n", b"\r"):
        assert read(stream.replace(b"\n", line_end))[1] == expected


@scripts
@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_cuts_do_not_matter(stream: bytes, expected: list[Event], data: st.DataObject) -> None:
    line_end = data.draw(st.sampled_from([b"\n", b"\r\n"]))
    stream = stream.replace(b"\n", line_end)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=40))
    assert read(stream, cuts)[1] == expected


@scripts
def test_a_stream_cut_at_any_byte_is_never_complete(stream: bytes, expected: list[Event]) -> None:
    for length in range(len(stream)):
        reader, events = read(stream[:length])
        assert not reader.complete
        assert not any(isinstance(event, Complete) for event in events)
        assert events == expected[: len(events)]


@pytest.mark.parametrize("framing", ["chunked", "eof", "length"])
async def test_a_connection_cut_at_any_byte_is_an_error(
    upstream: Upstream, provider: AnthropicProvider, framing: wire.Framing
) -> None:
    stream = wire.TOOLS
    expected = SCRIPTS["parallel tools"][1]
    for length in range(0, len(stream), 7 if framing == "eof" else 41):
        upstream.answer = Answer([stream[:length]], framing=framing, finish=False)
        if framing == "length":
            upstream.answer = Answer(
                [stream[:length]],
                headers={"content-type": wire.STREAM, "content-length": str(len(stream))},
                framing="eof",
            )
        events, error = await fail(provider)
        assert isinstance(error, ProviderTruncated)
        assert error.retryable
        assert events == expected[: len(events)]


async def test_the_last_byte_matters(upstream: Upstream, provider: AnthropicProvider) -> None:
    upstream.answer = Answer([wire.HELLO[:-1]], framing="eof")
    events, error = await fail(provider)
    assert events == HELLO[:-1]
    assert isinstance(error, ProviderTruncated)


async def test_nothing_after_the_end_is_read(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.HELLO + wire.error("api_error", "late") + wire.text(9, "x")])
    assert await collect(provider) == HELLO


async def test_events_that_arrived_together_are_one_batch(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.TOOLS])
    async with aclosing(provider.stream(ASK)) as batches:
        sizes = [len(batch) async for batch in batches]
    assert sum(sizes) == len(SCRIPTS["parallel tools"][1])
    assert len(sizes) <= 2  # the head of the response may take the first bytes along


async def test_events_are_not_held_back(upstream: Upstream, provider: AnthropicProvider) -> None:
    upstream.answer = Answer([wire.start() + wire.text(0, "Hello"), HOLD])
    async with aclosing(provider.stream(ASK)) as batches:
        async with asyncio.timeout(5):
            assert list(await anext(batches)) == [Delta("Hello")]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
        ("something_new", "stop"),
        (None, "stop"),
    ],
)
def test_stop_reasons(reason: str | None, finish: str) -> None:
    _, events = read(wire.start() + wire.text(0, "a") + wire.end(reason))
    assert events[-1] == Complete(finish, reason, Usage(25, 15))  # type: ignore[arg-type]


def test_the_reason_of_a_refusal_is_told() -> None:
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    delta = {"stop_reason": "refusal", "stop_details": details}
    stream = (
        wire.start()
        + wire.event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}})
        + wire.event({"type": "message_stop"})
    )
    assert read(stream)[1] == [
        RefusalDelta("Not this."),
        Complete("content_filter", "refusal", Usage(25, 3)),
    ]


ODD_STREAMS = {
    "unknown events": wire.event({"type": "message_mood", "mood": "fine"}),
    "unknown blocks": wire.block(7, {"type": "hologram", "x": 1}, {"type": "beam_delta"}),
    "unknown deltas of a block never opened": wire.event(
        {"type": "content_block_delta", "index": 77, "delta": {"type": "input_json_delta"}}
    ),
    "a result of an earlier turn": wire.block(
        7, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_9", "content": []}
    ),
    "no data": b"event: ping\n\n",
    "comments": b": keep-alive\n\n",
    "the last word of OpenAI": b"data: [DONE]\n\n",
    "data that is no object": b'data: [1, "x"]\n\n',
    "a list for an index": wire.event({"type": "content_block_stop", "index": [1]}),
    "numbers for texts": wire.block(
        7, {"type": "text", "text": 1}, {"type": "text_delta", "text": None}
    ),
    "a usage of the wrong shape": wire.event({"type": "message_delta", "usage": [1]}),
    "counts of the wrong shape": wire.event(
        {"type": "message_delta", "usage": {"input_tokens": "many", "output_tokens": None}}
    ),
}


@pytest.mark.parametrize("odd", ODD_STREAMS.values(), ids=ODD_STREAMS.keys())
def test_what_is_not_known_is_passed_over(odd: bytes) -> None:
    stream = wire.start() + odd + wire.text(0, "Hello", ", wörld\u2028!") + odd + wire.end()
    assert read(stream)[1] == HELLO


def test_the_name_of_an_event_stands_in_for_a_missing_type() -> None:
    stream = b'event: content_block_delta\ndata: {"index":0,"delta":{"type":"text_delta","text":"a"}}\n\n'
    assert read(stream)[1] == [Delta("a")]


def test_usage_is_the_largest_seen_and_never_added_up() -> None:
    stream = (
        wire.start(cache_read_input_tokens=7)
        + wire.event(
            {"type": "message_delta", "delta": {}, "usage": {"input_tokens": 0, "output_tokens": 9}}
        )
        + wire.end(output_tokens=12, cache_read_input_tokens=None)
    )
    assert read(stream)[1] == [Complete("stop", "end_turn", Usage(32, 12, 7))]


def test_no_usage_is_no_usage() -> None:
    stream = wire.event({"type": "message_stop"})
    assert read(stream)[1] == [Complete("stop", None, None)]


def test_arguments_that_were_cut_short_are_never_ready() -> None:
    call = wire.tool_use(0, "toolu_1", "weather", '{"city": "Os')
    _, cut = read(wire.start() + call + wire.end("max_tokens"))
    assert not any(isinstance(event, ToolCallReady) for event in cut)
    _, wrong = read(wire.start() + call + wire.end("tool_use"))
    assert wrong[-2] == ToolCallReady("toolu_1", '{"city": "Os')


def test_arguments_may_come_with_the_start() -> None:
    start = {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {"zone": "CET"}}
    _, events = read(wire.start() + wire.block(0, start) + wire.end("tool_use"))
    assert events[1] == ToolCallReady("toolu_1", '{"zone":"CET"}')


def test_blocks_that_were_never_closed_are_closed_at_the_end() -> None:
    opened = wire.tool_use(0, "toolu_1", "now").split(b"event: content_block_stop")[0]
    _, events = read(wire.start() + opened + wire.end("tool_use"))
    assert events[1:] == [
        ToolCallReady("toolu_1", "{}"),
        Complete("tool_calls", "tool_use", Usage(25, 15)),
    ]


def test_ids_are_made_unique() -> None:
    calls = (
        wire.tool_use(0, "same", "a") + wire.tool_use(1, "same", "b") + wire.tool_use(2, "", "c")
    )
    _, events = read(wire.start() + calls + wire.end("tool_use"))
    started = [event.call_id for event in events if isinstance(event, ToolCallStart)]
    ready = [event.call_id for event in events if isinstance(event, ToolCallReady)]
    assert len(set(started)) == 3
    assert started[0] == "same"
    assert started == ready


def test_results_are_capped() -> None:
    result = {
        "type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": {"type": "bash_code_execution_result", "stdout": "é" * LARGEST_OUTPUT},
    }
    stream = (
        wire.start()
        + wire.tool_use(0, "srvtoolu_1", "bash_code_execution", kind="server_tool_use")
        + wire.block(1, result)
        + wire.block(2, result)
        + wire.end()
    )
    results = [e for e in read(stream)[1] if isinstance(e, ToolCallResult)]
    assert len(results) == 1, "a call has one result, however often it is told"
    assert results[0].status == "ok"
    assert LARGEST_OUTPUT - 2 <= len(results[0].output.encode()) <= LARGEST_OUTPUT + 40
    assert results[0].output.endswith("bytes more]")


def test_the_time_of_a_result_is_measured_from_its_arguments() -> None:
    ticks = iter([10.0, 12.5])
    reader, splitter = MessageReader(clock=lambda: next(ticks)), EventSplitter()
    stream = (
        wire.start()
        + wire.tool_use(0, "m1", "lookup", "{}", kind="mcp_tool_use")
        + wire.block(
            1,
            {
                "type": "mcp_tool_result",
                "tool_use_id": "m1",
                "is_error": True,
                "content": [{"type": "text", "text": "no"}],
            },
        )
    )
    events = reader.read(splitter.feed(stream))
    assert events[-1] == ToolCallResult("m1", "error", '[{"type":"text","text":"no"}]', 2.5)


def test_halves_of_characters_do_not_break_the_stream() -> None:
    stream = wire.text(0, "a\ud83d") + wire.text(0, "\udc4d")  # which the script writes as escapes
    assert b'"a\\ud83d"' in stream
    reader, events = read(stream)
    assert events == [Delta("a"), Delta("👍")]
    assert reader.failure is None


# Answers that are not streams


async def test_an_answer_that_is_not_streamed_is_taken_whole(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "toolu_1", "name": "now", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 5, "output_tokens": 6},
    }
    upstream.answer = Answer(
        [json.dumps(message).encode()],
        headers={"content-type": "application/json"},
        framing="length",
    )
    assert await collect(provider) == [
        ReasoningDelta("Hm."),
        ReasoningDelta("", signature="sig"),
        Delta("Hello"),
        ToolCallStart("toolu_1", "now"),
        ToolCallReady("toolu_1", '{"a":1}'),
        Complete("tool_calls", "tool_use", Usage(5, 6)),
    ]


async def test_an_answer_that_is_cut_short_is_never_taken_whole(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    message = {"type": "message", "content": [{"type": "text", "text": "Hello"}]}
    whole = json.dumps(message).encode()
    for length in range(len(whole)):
        upstream.answer = Answer(
            [whole[:length]], headers={"content-type": "application/json"}, framing="eof"
        )
        events, error = await fail(provider)
        assert events == []
        assert isinstance(error, ProviderTruncated)


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("text/html", b"<html>Sign in</html>", "upstream_malformed"),
        ("application/json", b'{"error":{"type":"api_error","message":"x"}}', "upstream_error"),
        ("application/json", b'{"detail":"Not Found"}', "upstream_malformed"),
        ("application/json", b"[]", "upstream_malformed"),
        ("text/event-stream", b"data: {not json}\n\n", "upstream_malformed"),
        ("text/event-stream", b"data: " + b"x" * (5 << 20), "upstream_malformed"),
        ("text/event-stream", b"data: " + b"[" * 100_000 + b"\n\n", "upstream_malformed"),
        ("text/plain", b"hello", "upstream_truncated"),
    ],
    ids=["a page", "an error", "another object", "a list", "broken", "endless", "deep", "prose"],
)
async def test_what_is_no_answer_is_an_error(
    upstream: Upstream, provider: AnthropicProvider, content_type: str, body: bytes, code: str
) -> None:
    upstream.answer = Answer([body], headers={"content-type": content_type}, framing="eof")
    events, error = await fail(provider)
    assert events == []
    assert isinstance(error, ProviderFailed)
    assert (error.status, error.code) == (502, code)


# Failures


@pytest.mark.parametrize(
    ("status", "kind", "told", "code", "retryable"),
    [
        (400, "invalid_request_error", 400, None, False),
        (401, "authentication_error", 502, "upstream_auth", False),
        (402, "billing_error", 429, "insufficient_quota", False),
        (403, "permission_error", 502, "upstream_auth", False),
        (404, "not_found_error", 404, None, False),
        (408, "timeout_error", 504, "upstream_timeout", True),
        (409, "conflict_error", 409, None, True),
        (413, "request_too_large", 413, None, False),
        (422, "invalid_request_error", 400, None, False),
        (429, "rate_limit_error", 429, "rate_limit_exceeded", True),
        (500, "api_error", 502, "upstream_error", True),
        (501, "api_error", 502, "upstream_error", True),
        (503, "api_error", 503, "upstream_error", True),
        (504, "timeout_error", 504, "upstream_timeout", True),
        (529, "overloaded_error", 503, "upstream_error", True),
        (307, "api_error", 502, "upstream_malformed", False),
    ],
)
async def test_a_refusal_becomes_an_error(
    upstream: Upstream,
    provider: AnthropicProvider,
    status: int,
    kind: str,
    told: int,
    code: str,
    retryable: bool,
) -> None:
    upstream.answer = wire.refusal(status, kind, f"No, {KEY}!", location="http://127.0.0.1:1/")
    events, error = await fail(provider)
    assert events == []
    assert isinstance(error, ProviderFailed)
    assert (error.status, error.code, error.retryable) == (told, code, retryable)
    assert KEY not in error.message
    assert "127.0.0.1" not in error.message
    assert len(upstream.asked) == 1, "the engine retries, the SDK does not"


@pytest.mark.parametrize(
    ("kind", "told", "code", "retryable"),
    [
        ("invalid_request_error", 400, None, False),
        ("authentication_error", 502, "upstream_auth", False),
        ("billing_error", 429, "insufficient_quota", False),
        ("not_found_error", 404, None, False),
        ("request_too_large", 413, None, False),
        ("rate_limit_error", 429, "rate_limit_exceeded", True),
        ("timeout_error", 504, "upstream_timeout", True),
        ("api_error", 502, "upstream_error", True),
        ("overloaded_error", 503, "upstream_error", True),
        ("a_new_error", 502, "upstream_error", True),
    ],
)
async def test_an_error_within_the_stream_comes_after_what_was_said(
    upstream: Upstream,
    provider: AnthropicProvider,
    kind: str,
    told: int,
    code: str,
    retryable: bool,
) -> None:
    said = wire.start() + wire.text(0, "Hel")
    upstream.answer = Answer([said + wire.error(kind, "Sorry") + wire.end()])
    events, error = await fail(provider)
    assert events == [Delta("Hel")]
    assert isinstance(error, ProviderFailed)
    assert (error.status, error.code, error.retryable) == (told, code, retryable)


async def test_a_prompt_that_is_too_long_is_told_as_openai_tells_it(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = wire.refusal(
        400, "invalid_request_error", "prompt is too long: 215000 tokens > 200000 maximum"
    )
    _, error = await fail(provider)
    assert (error.status, error.code, error.param) == (400, "context_length_exceeded", "messages")
    assert "215000" in error.message


async def test_an_empty_purse_is_not_the_clients_fault(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = wire.refusal(
        400, "invalid_request_error", "Your credit balance is too low to access the API."
    )
    _, error = await fail(provider)
    assert (error.status, error.code, error.retryable) == (429, "insufficient_quota", False)
    assert error.message == "The provider 'claude' has no credit left."


async def test_a_model_that_is_not_known_is_told_as_openai_tells_it(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = wire.refusal(404, "not_found_error", "model: claude-test")
    _, error = await fail(provider)
    assert (error.status, error.code, error.param) == (404, "model_not_found", "model")


@pytest.mark.parametrize("status", [429, 529])
@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({"retry_after": "7"}, 7, 7),
        ({"retry_after": "0.5"}, 0.5, 0.5),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5, 1.5),
        ({"retry_after": format_datetime(datetime.now(UTC) + timedelta(seconds=3600))}, 3000, 3601),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0, 0),
        ({"retry_after": "soon"}, None, None),
        ({"retry_after": "nan"}, None, None),
        ({}, None, None),
    ],
    ids=["seconds", "fraction", "milliseconds", "date", "past", "words", "nan", "none"],
)
async def test_the_time_to_wait_is_passed_on(
    upstream: Upstream,
    provider: AnthropicProvider,
    status: int,
    headers: dict[str, str],
    low: float | None,
    high: float | None,
) -> None:
    upstream.answer = wire.refusal(status, "rate_limit_error", "Slower", **headers)
    _, error = await fail(provider)
    if low is None or high is None:
        assert error.retry_after is None
    else:
        assert error.retry_after is not None
        assert low <= error.retry_after <= high


async def test_messages_are_short_and_hold_no_keys(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    said = f"Key {KEY}, sk-proj-abcdef and Bearer abc.def are wrong. " + "x" * 5000
    upstream.answer = wire.refusal(400, "invalid_request_error", said)
    _, error = await fail(provider)
    assert error.message.startswith("Key [key], [key] and [key] are wrong. xxx")
    assert len(error.message) == 1000


async def test_a_refusal_that_is_a_page_is_an_error(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer(
        [b"<html>Bad gateway</html>"], 502, {"content-type": "text/html"}, "length"
    )
    _, error = await fail(provider)
    assert error.status == 502
    assert "html" not in error.message


async def test_a_server_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        provider = AnthropicProvider(
            "claude", {"base_url": f"http://127.0.0.1:{taken.getsockname()[1]}"}
        )
        _, error = await fail(provider)
        await provider.aclose()
    assert isinstance(error, ProviderUnreachable)
    assert "127.0.0.1" not in error.message


async def test_a_name_that_is_not_known_is_unreachable() -> None:
    provider = AnthropicProvider("claude", {"base_url": "http://nowhere.invalid"})
    _, error = await fail(provider)
    await provider.aclose()
    assert isinstance(error, ProviderUnreachable)


async def test_a_server_that_does_not_accept_is_timed_out() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        provider = AnthropicProvider(
            "claude", {"base_url": f"http://127.0.0.1:{port}", "connect_timeout": 0.3}
        )
        _, error = await fail(provider)
        await provider.aclose()
        for filler in fillers:
            filler.close()
    assert isinstance(error, ProviderTimedOut)
    assert error.status == 504


async def test_a_server_that_hangs_up_at_once_is_not_taken_for_unreachable() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        provider = AnthropicProvider("claude", {"base_url": f"http://127.0.0.1:{port}"})
        _, error = await fail(provider)
        await provider.aclose()
    assert isinstance(error, ProviderTruncated), "it may have begun to work"


async def test_broken_framing_is_an_error(upstream: Upstream, provider: AnthropicProvider) -> None:
    upstream.answer = Answer(
        [wire.start() + wire.text(0, "Hel"), b"zz\r\nnonsense"],
        headers={"content-type": wire.STREAM, "transfer-encoding": "chunked"},
        framing="eof",
    )
    _, error = await fail(provider)
    assert isinstance(error, ProviderFailed)


# Connections


async def test_closing_the_stream_closes_the_connection(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.start() + wire.text(0, "Hel"), HOLD])
    batches = provider.stream(ASK)
    await anext(batches)
    began = time.monotonic()
    await batches.aclose()
    await asyncio.wait_for(upstream.left.wait(), 5)
    assert time.monotonic() - began <= 0.25


@pytest.mark.parametrize(
    "pieces", [[HOLD], [wire.start() + wire.text(0, "Hel"), HOLD]], ids=["at once", "midway"]
)
async def test_cancelling_closes_the_connection(
    upstream: Upstream, provider: AnthropicProvider, pieces: list[bytes | None]
) -> None:
    upstream.answer = Answer(pieces)
    task = asyncio.create_task(collect(provider))
    async with asyncio.timeout(5):
        await upstream.arrived.wait()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.left.wait()
    assert time.monotonic() - began <= 0.25


async def test_a_finished_answer_leaves_its_connection_to_the_next(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.HELLO])
    for _ in range(5):
        assert await collect(provider) == HELLO
    assert upstream.connections == 1


async def test_a_consumer_that_leaves_at_complete_leaves_the_connection_too(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.HELLO])
    for _ in range(3):
        async with aclosing(provider.stream(ASK)) as batches:
            async for batch in batches:
                if isinstance(batch[-1], Complete):
                    break
    assert upstream.connections == 1


async def test_a_server_that_never_ends_its_answer_does_not_hold_up_the_end(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.HELLO, HOLD])
    async with asyncio.timeout(2):
        assert await collect(provider) == HELLO
        await upstream.left.wait()


async def test_nothing_leaks_from_many_streams_that_end_in_many_ways(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    for number in range(40):
        match number % 4:
            case 0:
                upstream.answer = Answer([wire.start() + wire.text(0, "a"), HOLD])
                batches = provider.stream(ASK)
                await anext(batches)
                await batches.aclose()
            case 1:
                upstream.answer = wire.refusal(529, "overloaded_error", "x")
                await fail(provider)
            case 2:
                upstream.answer = Answer([wire.start()], framing="eof")
                await fail(provider)
            case _:
                upstream.answer = Answer([HOLD])
                task = asyncio.create_task(collect(provider))
                await asyncio.sleep(0.01)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    upstream.answer = Answer([wire.HELLO])
    assert await collect(provider) == HELLO
    await provider.aclose()
    await asyncio.wait_for(upstream.idle.wait(), 5)


async def test_streams_run_side_by_side(upstream: Upstream, provider: AnthropicProvider) -> None:
    upstream.answer = Answer([wire.HELLO])
    answers = await asyncio.gather(*(collect(provider) for _ in range(50)))
    assert answers == [HELLO] * 50


async def test_a_closed_provider_opens_again(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.HELLO])
    assert await collect(provider) == HELLO
    await provider.aclose()
    await provider.aclose()
    assert await collect(provider) == HELLO


# What is sent


async def test_the_request_goes_out_as_anthropic_wants_it(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = Answer([wire.HELLO])
    await collect(provider)
    (asked,) = upstream.asked
    assert (asked.method, asked.path) == ("POST", "/v1/messages")
    assert asked.headers["x-api-key"] == KEY
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["accept-encoding"] == "identity"
    assert "authorization" not in asked.headers
    assert "traceparent" not in asked.headers
    assert asked.json() == {
        "model": "claude-test",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }


async def test_headers_of_the_operator_win(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Other: 1\nX-Team: b")
    upstream.answer = Answer([wire.HELLO])
    headers = {"Anthropic-Version": "2026-10-21", "Authorization": "Bearer mine", "X-Team": "a"}
    provider = AnthropicProvider("claude", {"base_url": f"{upstream.url}/v1/", "headers": headers})
    await collect(provider)
    await provider.aclose()
    sent = upstream.asked[0].headers
    assert upstream.asked[0].path == "/v1/messages"
    assert sent["anthropic-version"] == "2026-10-21"
    assert sent["authorization"] == "Bearer mine"
    assert sent["x-team"] == "a"
    assert "x-other" not in sent
    assert "x-api-key" not in sent


async def test_a_malformed_request_is_never_sent(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    deep: object = "x"
    for _ in range(500):
        deep = [deep]
    tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": deep}}}
    for request in (replace(ASK, messages=[]), replace(ASK, tools=[tool])):
        _, error = await fail(provider, request)
        assert isinstance(error, InvalidRequest)
    assert upstream.asked == []


async def test_no_prompt_and_no_key_is_logged(
    upstream: Upstream, provider: AnthropicProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    request = replace(ASK, messages=[{"role": "user", "content": "a-private-word"}])
    upstream.answer = Answer([wire.HELLO])
    await collect(provider, request)
    upstream.answer = wire.refusal(401, "authentication_error", f"bad {KEY}")
    await fail(provider, request)
    assert caplog.records
    assert "a-private-word" not in caplog.text
    assert KEY not in caplog.text


# In the engine's loop


class Clock:
    """A tool of the gateway's."""

    name = "now"
    description = "The time."
    timeout = 5.0

    def __init__(self) -> None:
        self.parameters: Json = {"type": "object", "properties": {}}

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        return "noon"


async def test_the_loop_replays_thinking_with_its_signature_before_the_call(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    thought = wire.thinking(0, "I need ", "a clock.", signature="c2ln") + wire.redacted(1, "eA==")
    said = wire.text(2, "A moment.") + wire.tool_use(3, "toolu_1", "now")
    upstream.first = [Answer([wire.start() + thought + said + wire.end("tool_use")])]
    upstream.answer = Answer([wire.start() + wire.text(0, "It is noon.") + wire.end()])
    router = Router({"claude": Upstreamed(provider=provider, tools=(Clock(),))}, ())
    loop = ToolLoop(router, Turns(), LoopLimits())
    request = replace(ASK, model="claude/claude-test")
    key = ApiKey(id="k", email="a@b.c", name="", tier="", masked="", created_at=datetime.now(UTC))
    events: list[Event] = []
    async with aclosing(
        loop.stream(Call(id="c", key=key, request=request, created=0), request)
    ) as batches:
        async for batch in batches:
            events += batch
    assert isinstance(events[-1], Complete)
    assert events[-1].usage == Usage(50, 30)
    (call_id,) = (event.call_id for event in events if isinstance(event, ToolCallStart))
    assert upstream.asked[1].json()["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I need a clock.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "eA=="},
                {"type": "text", "text": "A moment."},
                {"type": "tool_use", "id": call_id, "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": call_id,
                    "content": [{"type": "text", "text": "noon"}],
                }
            ],
        },
    ]
    assert upstream.connections == 1


# Models


async def test_models_are_listed(upstream: Upstream, provider: AnthropicProvider) -> None:
    rows = [{"type": "model", "id": "claude-a"}, {"id": 3}, "x", {"id": "claude-b"}]
    upstream.answer = Answer(
        [json.dumps({"data": rows, "has_more": False}).encode()],
        headers={"content-type": "application/json"},
        framing="length",
    )
    assert list(await provider.models()) == ["claude-a", "claude-b"]
    assert upstream.asked[0].path == "/v1/models?limit=1000"


async def test_a_server_that_lists_no_models_has_none_to_show(
    upstream: Upstream, provider: AnthropicProvider
) -> None:
    upstream.answer = wire.refusal(404, "not_found_error", "no")
    assert list(await provider.models()) == []


@pytest.mark.parametrize(
    "answer",
    [
        wire.refusal(401, "authentication_error", "no"),
        Answer([b"<html>"], headers={"content-type": "text/html"}, framing="length"),
        Answer([b"[]"], headers={"content-type": "application/json"}, framing="length"),
        Answer([b'{"data": {}}'], headers={"content-type": "application/json"}, framing="length"),
        Answer([b'{"da'], headers={"content-type": "application/json"}, finish=False),
    ],
    ids=["wrong key", "a page", "a list", "another object", "cut"],
)
async def test_a_list_of_models_that_is_none_is_an_error(
    upstream: Upstream, provider: AnthropicProvider, answer: Answer
) -> None:
    upstream.answer = answer
    with pytest.raises(ProviderFailed):
        await provider.models()


# Configuration


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({}, "api_key"),
        ({"api_key": "  "}, "api_key"),
        ({"api_key": f"{KEY} {KEY}"}, "api_key"),
        ({"api_key": f"{KEY}é"}, "api_key"),
        ({"api_key": [KEY]}, "api_key"),
        ({"api_key": KEY, "base_url": "ftp://x"}, "base_url"),
        ({"api_key": KEY, "base_url": "http://user:pass@x"}, "base_url"),
        ({"api_key": KEY, "base_url": ""}, "base_url"),
        ({"api_key": KEY, "headers": {"x": f"{KEY}\r\nX-Y: z"}}, "headers.x"),
        ({"api_key": KEY, "headers": {"a b": "c"}}, "headers.a b"),
        ({"api_key": KEY, "headers": "x: y"}, "headers"),
        ({"api_key": KEY, "connect_timeout": 0}, "connect_timeout"),
        ({"api_key": KEY, "max_tokens": 0}, "max_tokens"),
        ({"api_key": KEY, "send_sampling": "often"}, "send_sampling"),
        ({"api_key": KEY, "thinking": "hard"}, "thinking"),
        ({"api_key": KEY, "apikey": KEY}, "apikey"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(config: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 — what it says is tested below
        AnthropicProvider("claude", config)
    message = str(caught.value)
    assert message.startswith(f"{complaint}: ")
    assert "\n" not in message
    assert KEY not in message
    assert len(message) > len(complaint) + 10


def test_a_key_from_a_file_loses_its_line_end() -> None:
    AnthropicProvider("claude", {"api_key": f"{KEY}\n"})


# The script itself


@scripts
async def test_the_script_is_a_stream_to_anthropics_own_sdk(
    upstream: Upstream, stream: bytes, expected: list[Event]
) -> None:
    upstream.answer = Answer([stream])
    async with (
        AsyncAnthropic(api_key=KEY, base_url=upstream.url, max_retries=0) as sdk,
        sdk.messages.stream(
            model="claude-test", max_tokens=10, messages=[{"role": "user", "content": "Hi"}]
        ) as events,
    ):
        message = await events.get_final_message()
    said = "".join(event.text for event in expected if isinstance(event, Delta))
    assert "".join(part.text for part in message.content if part.type == "text") == said
    thought = "".join(event.text for event in expected if isinstance(event, ReasoningDelta))
    assert "".join(p.thinking for p in message.content if p.type == "thinking") == thought
    ready = {e.call_id: json.loads(e.arguments) for e in expected if isinstance(e, ToolCallReady)}
    called = {p.id: p.input for p in message.content if p.type in ("tool_use", "server_tool_use")}
    assert called == ready
    (complete,) = [event for event in expected if isinstance(event, Complete)]
    assert message.stop_reason == complete.provider_reason
    assert complete.usage is not None
    assert message.usage.output_tokens == complete.usage.output_tokens
