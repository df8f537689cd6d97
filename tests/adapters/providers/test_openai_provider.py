"""The OpenAI-compatible provider against servers that misbehave on demand."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import orjson
import pytest
import pytest_asyncio

from adapters.providers.openai import OpenAIProvider
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnreachable,
)
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
from gateway.request import ChatRequest
from tests.mocking import mocked_http
from tests.servers.scripted import (
    CHUNKED,
    HEAD,
    LAST_CHUNK,
    UNTIL_CLOSED,
    Exchange,
    Script,
    ScriptedUpstream,
    answer,
    chunk,
    frames,
    replay,
    scripted,
    sized,
)

KEY = "sk-test-0123456789abcdef"
REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Hi"}])
PROMPTLY = 1.0
"""Far more than it takes, far less than any time-out that would hide a leak."""

PAYLOADS = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Hé"}}]},
    {"choices": [{"index": 0, "delta": {"content": "\u2028llo"}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
]
BODY = frames(*PAYLOADS, b"[DONE]")
TEXT: list[Event] = [Delta("Hé"), Delta("\u2028llo")]
EVENTS: list[Event] = [*TEXT, Complete("stop", usage=Usage(3, 2))]
IN_CHUNKS = [chunk(frames(load)) for load in [*PAYLOADS, b"[DONE]"]]
WHOLE = CHUNKED + b"".join(IN_CHUNKS) + LAST_CHUNK
BEGUN = CHUNKED + b"".join(IN_CHUNKS[:2])


def provider_for(url: str, **config: object) -> OpenAIProvider:
    return OpenAIProvider("up", {"base_url": f"{url}/v1", "api_key": KEY, **config})


@asynccontextmanager
async def connected(
    script: Script, **config: object
) -> AsyncGenerator[tuple[ScriptedUpstream, OpenAIProvider], None]:
    async with scripted(script) as upstream:
        provider = provider_for(upstream.url, **config)
        try:
            yield upstream, provider
        finally:
            await provider.aclose()


async def collect(
    provider: OpenAIProvider, request: ChatRequest = REQUEST
) -> tuple[list[Event], GatewayError | None]:
    events: list[Event] = []
    try:
        async with aclosing(provider.stream(request)) as stream:
            async for batch in stream:
                assert batch
                events += batch
    except GatewayError as error:
        return events, error
    return events, None


async def refused(script: Script) -> GatewayError:
    async with connected(script) as (_, provider):
        events, error = await collect(provider)
    assert events == []
    assert error is not None
    return error


# What is sent


@pytest_asyncio.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[OpenAIProvider, None]:
    """Behind a proxy, and so through the SDK, whose transport the tests replace."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    provider = provider_for("https://api.example.org")
    yield provider
    await provider.aclose()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings for OpenAI's own tools, which are none of an upstream's business."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-someone-else")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-someone-else")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-of-someone-else")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.example.org/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: one\nAuthorization: Bearer two")


@pytest.mark.usefixtures("environment")
async def test_nothing_of_the_environment_is_sent() -> None:
    for config in ({"api_key": KEY}, {}):
        async with scripted(replay(WHOLE)) as upstream:
            provider = OpenAIProvider("up", {"base_url": f"{upstream.url}/v1", **config})
            assert (await collect(provider))[0] == EVENTS
            await provider.aclose()
        [exchange] = upstream.exchanges
        assert exchange.path == "/v1/chat/completions"
        assert "else" not in repr(exchange.headers)
        assert not {"openai-organization", "openai-project", "x-secret"} & set(exchange.headers)
        expected = f"Bearer {KEY}" if config else None
        assert exchange.headers.get("authorization") == expected


async def test_a_request_is_sent_as_it_came(provider: OpenAIProvider) -> None:
    request = ChatRequest(
        model="gpt-x",
        messages=[{"role": "user", "content": "Hé", "name": "ann", "x_unknown": [1, None]}],
        options={"temperature": 0.5, "x_vendor": {"deep": [True]}, "tool_choice": "auto"},
        tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}],
        n=2,
    )
    with mocked_http() as http:
        route = http.post("https://api.example.org/v1/chat/completions").mock(
            httpx.Response(200, stream=Body(BODY), headers={"transfer-encoding": "chunked"})
        )
        assert await collect(provider, request) == (EVENTS, None)
    sent = route.calls.last.request
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["accept"] == "text/event-stream"
    assert sent.headers["accept-encoding"] == "identity"
    assert sent.content == orjson.dumps(
        {
            **request.options,
            "model": "gpt-x",
            "messages": request.messages,
            "stream": True,
            "tools": request.tools,
            "n": 2,
            "stream_options": {"include_usage": True},
        }
    )


MINIMAL = {"model": "m", "messages": REQUEST.messages, "stream": True}
ASKING = {**MINIMAL, "stream_options": {"include_usage": True}}


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        pytest.param({}, {}, ASKING, id="plain"),
        pytest.param({"stream_usage": False}, {}, MINIMAL, id="no usage"),
        pytest.param(
            {"stream_usage": False},
            {"stream_options": {"include_usage": True}},
            MINIMAL,
            id="no usage, though the client asked",
        ),
        pytest.param(
            {},
            {"stream": False, "stream_options": {"include_obfuscation": False}},
            {**MINIMAL, "stream_options": {"include_obfuscation": False, "include_usage": True}},
            id="the client's stream options",
        ),
        pytest.param(
            {"omit": ["reasoning_effort", "model"]},
            {"reasoning_effort": "high", "seed": 7},
            {**ASKING, "seed": 7},
            id="without what the server refuses",
        ),
        pytest.param(
            {"max_tokens_field": "max_tokens"},
            {"max_completion_tokens": 5},
            {**ASKING, "max_tokens": 5},
            id="limit under the old name",
        ),
        pytest.param(
            {"max_tokens_field": "max_completion_tokens"},
            {"max_tokens": 5},
            {**ASKING, "max_completion_tokens": 5},
            id="limit under the new name",
        ),
        pytest.param(
            {"max_tokens_field": "max_tokens"},
            {"max_tokens": 4, "max_completion_tokens": None},
            {**ASKING, "max_tokens": 4},
            id="limit twice",
        ),
        pytest.param({}, {"max_tokens": 5}, {**ASKING, "max_tokens": 5}, id="limit untouched"),
        pytest.param({}, {"stop": "\ud83d"}, {**ASKING, "stop": "\ufffd"}, id="half a pair"),
    ],
)
async def test_the_body_is(
    config: Mapping[str, object], options: Mapping[str, object], expected: Mapping[str, object]
) -> None:
    async with connected(replay(WHOLE), **config) as (upstream, provider):
        request = ChatRequest(model="m", messages=REQUEST.messages, options=options)
        assert await collect(provider, request) == (EVENTS, None)
    [exchange] = upstream.exchanges
    json = exchange.json
    assert isinstance(json, dict)
    assert json == expected


MESSAGE = {
    "role": "assistant",
    "content": "Hé\u2028llo",
    "reasoning_content": "Hm.",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
IN_ONE_PIECE = orjson.dumps(
    {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
)


async def test_what_a_client_wants_in_one_piece_is_asked_for_so_where_the_row_says_so() -> None:
    options = {"stream_options": {"include_usage": True}, "seed": 1}
    request = ChatRequest(model="m", messages=REQUEST.messages, options=options)
    async with connected(replay(answer(200, IN_ONE_PIECE)), ask_whole=True) as (upstream, provider):
        for _ in range(2):
            events, error = await collect(provider, request)
            assert error is None
            assert events == [
                ReasoningDelta("Hm."),
                Delta("Hé\u2028llo"),
                ToolCallStart("c1", "f", "client"),
                ToolCallDelta("c1", "{}"),
                ToolCallReady("c1", "{}"),
                Complete("tool_calls", usage=Usage(3, 2)),
            ]
    assert upstream.connections == 1
    exchange = upstream.exchanges[0]
    assert exchange.json == {**MINIMAL, "stream": False, "seed": 1}
    assert exchange.headers["accept"] == "application/json"


async def test_what_a_client_wants_as_a_stream_is_asked_for_so_in_any_case() -> None:
    request = ChatRequest(model="m", messages=REQUEST.messages, stream=True)
    async with connected(replay(WHOLE), ask_whole=True) as (upstream, provider):
        assert await collect(provider, request) == (EVENTS, None)
    assert upstream.exchanges[0].json == ASKING


async def test_a_server_that_streams_what_was_asked_for_in_one_piece_is_heard() -> None:
    async with connected(replay(WHOLE), ask_whole=True) as (_, provider):
        assert await collect(provider) == (EVENTS, None)


async def test_an_answer_in_one_piece_that_is_cut_is_none() -> None:
    cut = answer(200, IN_ONE_PIECE)[:-10]
    async with connected(replay(cut, close=True), ask_whole=True) as (_, provider):
        events, error = await collect(provider)
    assert events == []
    assert isinstance(error, ProviderTruncated)


async def test_the_gateway_s_own_field_is_dropped_and_no_other() -> None:
    messages = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "reasoning_details": [{"signature": "s"}],
        },
    ]
    async with connected(replay(WHOLE)) as (upstream, provider):
        await collect(provider, ChatRequest(model="m", messages=messages))
    json = upstream.exchanges[0].json
    assert isinstance(json, dict)
    assert json["messages"] == [
        messages[0],
        {"role": "assistant", "content": "", "reasoning_content": "hm"},
    ]
    assert "reasoning_details" in messages[1]


@pytest.mark.usefixtures("environment")
async def test_headers_of_the_configuration_are_sent() -> None:
    headers = {"X-Team": "blue", "authorization": "Basic abc", "x-secret": "mine"}
    async with connected(replay(WHOLE), headers=headers) as (upstream, provider):
        await collect(provider)
    assert upstream.exchanges[0].headers["x-team"] == "blue"
    assert upstream.exchanges[0].headers["authorization"] == "Basic abc"
    assert upstream.exchanges[0].headers["x-secret"] == "mine"


async def test_a_request_that_is_no_json_is_refused() -> None:
    provider = provider_for("http://127.0.0.1:1")
    request = ChatRequest(model="m", messages=[], options={"seed": 2**70})
    _, error = await collect(provider, request)
    assert isinstance(error, InvalidRequest)
    await provider.aclose()


# What is read


class Body(httpx.AsyncByteStream):
    """A body in given reads, which may end in an error."""

    def __init__(self, *reads: bytes | httpx.TransportError) -> None:
        self._reads = reads

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        for read in self._reads:
            if isinstance(read, httpx.TransportError):
                raise read
            yield read


async def test_what_came_in_one_read_is_one_batch(provider: OpenAIProvider) -> None:
    reads = [frames(*PAYLOADS[:3]), frames(*PAYLOADS[3:], b"[DONE]")]
    with mocked_http() as http:
        http.post("/v1/chat/completions").mock(httpx.Response(200, stream=Body(*reads)))
        async with aclosing(provider.stream(REQUEST)) as stream:
            batches = [batch async for batch in stream]
    assert batches == [TEXT, EVENTS[2:]]


async def test_a_stream_that_comes_byte_by_byte_is_the_same() -> None:
    async def dribble(exchange: Exchange) -> None:
        await exchange.dribble(WHOLE)

    async with connected(dribble) as (_, provider):
        assert await collect(provider) == (EVENTS, None)


async def test_a_connection_is_used_again() -> None:
    async def slow_end(exchange: Exchange) -> None:
        await exchange.send(WHOLE.removesuffix(LAST_CHUNK))
        await asyncio.sleep(0.005)
        await exchange.send(LAST_CHUNK)

    async with connected(slow_end) as (upstream, provider):
        for _ in range(5):
            assert await collect(provider) == (EVENTS, None)
        assert len(upstream.exchanges) == 5
        assert upstream.connections == 1


async def test_a_server_that_stays_open_after_the_end_does_not_hold_the_call_up() -> None:
    async def linger(exchange: Exchange) -> None:
        await exchange.send(WHOLE.removesuffix(LAST_CHUNK))
        await exchange.until_closed()

    async with connected(linger) as (upstream, provider):
        async with asyncio.timeout(PROMPTLY):
            assert await collect(provider) == (EVENTS, None)
            await upstream.idle.wait()


async def test_a_whole_completion_is_read_where_a_stream_was_asked_for() -> None:
    message = {"index": 0, "message": {"content": "Hé"}, "finish_reason": "stop"}
    async with connected(replay(answer(200, orjson.dumps({"choices": [message]})))) as (
        _,
        provider,
    ):
        assert await collect(provider) == ([Delta("Hé"), Complete("stop")], None)


# Cut streams


def closing(data: bytes) -> Script:
    return replay(data, close=True)


def resetting(data: bytes) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(data)
        exchange.reset()

    return script


def in_chunks(cut: int) -> bytes:
    return (CHUNKED + b"".join(IN_CHUNKS))[: len(CHUNKED) + cut]


@pytest.mark.parametrize("how", [closing, resetting], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("length", "begin"),
    [
        pytest.param(sum(map(len, IN_CHUNKS)), in_chunks, id="chunked"),
        pytest.param(len(BODY), lambda cut: sized(len(BODY)) + BODY[:cut], id="content-length"),
        pytest.param(len(BODY), lambda cut: UNTIL_CLOSED + BODY[:cut], id="until closed"),
    ],
)
async def test_a_stream_cut_at_any_byte_is_never_complete(
    how: Callable[[bytes], Script], length: int, begin: Callable[[int], bytes]
) -> None:
    async with connected(closing(b"")) as (upstream, provider):
        for cut in range(length):
            data = begin(cut)
            upstream.script = how(data)
            events, error = await collect(provider)
            if b"[DONE]" in data and error is None:
                assert events == EVENTS
                continue
            assert isinstance(error, ProviderTruncated), cut
            assert error.__cause__ is not None or begin(0).startswith(UNTIL_CLOSED)
            assert events == TEXT[: len(events)]


async def test_a_chunked_stream_ended_at_any_byte_is_complete_only_when_it_is_whole() -> None:
    body = frames(*PAYLOADS)
    reason = body.index(b'"finish_reason":"stop"')
    after_reason = body.index(b"\n\n", reason)
    outcomes: dict[int, bool] = {}
    async with connected(closing(b"")) as (upstream, provider):
        for cut in range(len(body) + 1):
            upstream.script = replay(CHUNKED + chunk(body[:cut]) + LAST_CHUNK)
            events, error = await collect(provider)
            assert (error is None) == isinstance(events[-1] if events else None, Complete)
            assert error is None or isinstance(error, ProviderTruncated)
            outcomes[cut] = error is None
    whole = [cut for cut, complete in outcomes.items() if complete]
    assert whole == [*range(after_reason, after_reason + 3), *range(len(body) - 2, len(body) + 1)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(CHUNKED + b"zz\r\n", id="bad chunk size"),
        pytest.param(
            HEAD + b"content-encoding: gzip\r\n" + sized(5)[len(HEAD) :] + b"hello", id="gzip"
        ),
    ],
)
async def test_a_body_that_cannot_be_decoded_is_truncated(data: bytes) -> None:
    async with connected(closing(data)) as (_, provider):
        assert isinstance((await collect(provider))[1], ProviderTruncated)


async def test_a_transport_s_error_after_events_is_truncated(provider: OpenAIProvider) -> None:
    reads = [frames(*PAYLOADS[:4]), httpx.ReadError("gone")]
    with mocked_http() as http:
        http.post("/v1/chat/completions").mock(httpx.Response(200, stream=Body(*reads)))
        events, error = await collect(provider)
    assert events == TEXT
    assert isinstance(error, ProviderTruncated)
    assert error.__cause__ is not None


async def test_events_before_an_error_in_the_same_read_are_kept() -> None:
    body = frames(*PAYLOADS[:2], {"error": {"message": "Bang", "code": 503}})
    async with connected(replay(CHUNKED + chunk(body) + LAST_CHUNK)) as (_, provider):
        events, error = await collect(provider)
    assert events == TEXT[:1]
    assert isinstance(error, ProviderFailed)
    assert (error.status, error.message) == (503, "Bang")


# Cancellation


async def hang(exchange: Exchange) -> None:
    await exchange.until_closed()


async def hang_after_headers(exchange: Exchange) -> None:
    await exchange.send(CHUNKED)
    await exchange.until_closed()


async def hang_midway(exchange: Exchange) -> None:
    await exchange.send(BEGUN)
    await exchange.until_closed()


async def hang_in_an_error(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nno")
    await exchange.until_closed()


STAGES = pytest.mark.parametrize(
    "script",
    [
        pytest.param(hang, id="before the headers"),
        pytest.param(hang_after_headers, id="before the first event"),
        pytest.param(hang_midway, id="midway"),
        pytest.param(hang_in_an_error, id="in the body of an error"),
    ],
)


@STAGES
async def test_cancelling_closes_the_connection_at_once(script: Script) -> None:
    async with connected(script) as (upstream, provider):
        task = asyncio.create_task(collect(provider))
        await upstream.received(1)
        await asyncio.sleep(0.02)
        task.cancel()
        async with asyncio.timeout(PROMPTLY):
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.idle.wait()


async def test_closing_the_stream_closes_the_connection_at_once() -> None:
    async with connected(hang_midway) as (upstream, provider):
        stream = provider.stream(REQUEST)
        assert await anext(stream) == TEXT[:1]
        async with asyncio.timeout(PROMPTLY):
            await stream.aclose()
            await upstream.idle.wait()


@STAGES
async def test_cancelled_calls_leave_nothing_behind(script: Script) -> None:
    async with connected(script) as (upstream, provider):
        before = len(asyncio.all_tasks())
        tasks = [asyncio.create_task(collect(provider)) for _ in range(200)]
        await upstream.received(200)
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(5 * PROMPTLY):
            await asyncio.gather(*tasks, return_exceptions=True)
            await upstream.idle.wait()
        upstream.script = replay(WHOLE)
        assert await collect(provider) == (EVENTS, None)
        assert upstream.open == 1
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) <= before + 1  # the server's, of the last connection


async def test_many_calls_at_once_do_not_wait_for_each_other() -> None:
    together = asyncio.Barrier(300)

    async def meet(exchange: Exchange) -> None:
        await together.wait()
        await exchange.send(WHOLE)

    async with connected(meet) as (_, provider):
        async with asyncio.timeout(20 * PROMPTLY):
            results = await asyncio.gather(*(collect(provider) for _ in range(300)))
    assert all(result == (EVENTS, None) for result in results)


async def test_a_large_request_arrives_with_its_length() -> None:
    message = {"role": "user", "content": "é" * (2 << 20)}
    async with connected(replay(WHOLE)) as (upstream, provider):
        request = ChatRequest(model="m", messages=[message])
        assert await collect(provider, request) == (EVENTS, None)
    [exchange] = upstream.exchanges
    assert exchange.json == {**ASKING, "messages": [message]}
    assert exchange.headers["content-length"] == str(len(exchange.body))
    assert "transfer-encoding" not in exchange.headers


async def test_a_large_request_that_the_server_does_not_read_can_be_cancelled() -> None:
    began, cancelled, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    read = 0

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal read
        began.set()
        await cancelled.wait()
        try:
            while data := await reader.read(1 << 20):
                read += len(data)
        except ConnectionError:
            pass
        closed.set()
        writer.close()

    server = await asyncio.start_server(ignore, "127.0.0.1", 0)
    provider = provider_for(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    message = {"role": "user", "content": "x" * (16 << 20)}
    try:
        task = asyncio.create_task(collect(provider, ChatRequest(model="m", messages=[message])))
        await began.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        async with asyncio.timeout(2 * PROMPTLY):
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled.set()
            await closed.wait()
        assert read < 16 << 20
    finally:
        cancelled.set()
        await provider.aclose()
        server.close()


# Refusals


def said(**fields: object) -> bytes:
    return orjson.dumps({"error": {"message": "Upstream says", "type": "t", **fields}})


CREDENTIALS = "The gateway's own credentials for the provider 'up' were refused."


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(
            400,
            said(param="messages", code="context_length_exceeded"),
            (400, "Upstream says", "context_length_exceeded", "messages", False),
            id="400",
        ),
        pytest.param(
            400, said(code=None), (400, "Upstream says", None, None, False), id="400 without a code"
        ),
        pytest.param(
            400, said(code=400), (400, "Upstream says", "400", None, False), id="400 with a number"
        ),
        pytest.param(
            400,
            said(code=400, type="exceed_context_size_error"),
            (400, "Upstream says", "context_length_exceeded", None, False),
            id="400 of llama.cpp",
        ),
        pytest.param(401, said(), (502, CREDENTIALS, "upstream_auth", None, False), id="401"),
        pytest.param(
            402, said(), (429, "Upstream says", "insufficient_quota", None, False), id="402"
        ),
        pytest.param(403, said(), (502, CREDENTIALS, "upstream_auth", None, False), id="403"),
        pytest.param(
            404,
            said(code="model_not_found", param="model"),
            (404, "Upstream says", "model_not_found", "model", False),
            id="404",
        ),
        pytest.param(405, said(), (502, "Upstream says", "upstream_error", None, False), id="405"),
        pytest.param(408, said(), (504, "Upstream says", "upstream_timeout", None, True), id="408"),
        pytest.param(409, said(code="c"), (409, "Upstream says", "c", None, True), id="409"),
        pytest.param(413, said(), (413, "Upstream says", None, None, False), id="413"),
        pytest.param(
            422,
            b'{"detail":[{"loc":["body","n"],"msg":"Too many","type":"value_error"}]}',
            (400, "Too many", None, "body.n", False),
            id="422",
        ),
        pytest.param(
            429, said(), (429, "Upstream says", "rate_limit_exceeded", None, True), id="429"
        ),
        pytest.param(
            429,
            said(code="insufficient_quota"),
            (429, "Upstream says", "insufficient_quota", None, False),
            id="429 for good",
        ),
        pytest.param(
            500, said(code="x"), (502, "Upstream says", "upstream_error", None, True), id="500"
        ),
        pytest.param(503, said(), (503, "Upstream says", "upstream_error", None, True), id="503"),
        pytest.param(504, said(), (504, "Upstream says", "upstream_timeout", None, True), id="504"),
        pytest.param(529, said(), (503, "Upstream says", "upstream_error", None, True), id="529"),
        pytest.param(
            500,
            b'{"error":"Text"}',
            (502, "Text", "upstream_error", None, True),
            id="error as text",
        ),
        pytest.param(
            500,
            b'{"object":"error","message":"Bare","code":500}',
            (502, "Bare", "upstream_error", None, True),
            id="bare error",
        ),
        pytest.param(400, b'{"detail":"Detail"}', (400, "Detail", None, None, False), id="detail"),
        pytest.param(
            502,
            b"<html>Bad gateway</html>",
            (502, "The provider 'up' answered with status 502.", "upstream_error", None, True),
            id="no JSON",
        ),
        pytest.param(
            404,
            b"",
            (404, "The provider 'up' answered with status 404.", None, None, False),
            id="nothing",
        ),
        pytest.param(
            307,
            b"",
            (
                502,
                "The provider 'up' sent a redirect; its base_url may be wrong.",
                "upstream_malformed",
                None,
                False,
            ),
            id="redirect",
        ),
        pytest.param(
            500,
            said(message=f"Wrong key {KEY}, sk-proj-Ab12cd34ef56 or Bearer abcdefgh"),
            (502, "Wrong key [key], [key] or [key]", "upstream_error", None, True),
            id="keys in the message",
        ),
    ],
)
async def test_a_refusal_is_told(
    status: int, body: bytes, expected: tuple[int, str, str | None, str | None, bool]
) -> None:
    location = {"location": "/elsewhere"} if status == 307 else {}
    error = await refused(replay(answer(status, body, location.items())))
    assert isinstance(error, ProviderFailed)
    told = (error.status, error.message, error.code, error.param, error.retryable)
    assert told == expected
    assert KEY not in error.message


async def test_a_message_is_cut_to_a_thousand_characters() -> None:
    error = await refused(replay(answer(400, said(message="é" * 9000))))
    assert len(error.message) == 1000


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"retry-after": "7"}, 7.0, id="seconds"),
        pytest.param({"retry-after-ms": "250", "retry-after": "7"}, 0.25, id="milliseconds first"),
        pytest.param({"retry-after": "-1"}, 0.0, id="negative"),
        pytest.param({"retry-after": "nan"}, None, id="no number"),
        pytest.param({"retry-after": "soon"}, None, id="a word"),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_when_to_try_again_is_told(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    error = await refused(replay(answer(status, said(), headers.items())))
    assert error.retry_after == seconds


async def test_when_to_try_again_may_be_a_date() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    error = await refused(replay(answer(429, said(), {"retry-after": moment}.items())))
    assert error.retry_after is not None
    assert 30 < error.retry_after <= 60


async def test_a_web_page_is_no_answer() -> None:
    error = await refused(replay(answer(200, b"<html>", {"content-type": "text/html"}.items())))
    assert (error.status, error.code) == (502, "upstream_malformed")


# Connections that fail


def unused_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


async def test_a_refused_connection_is_unreachable(caplog: pytest.LogCaptureFixture) -> None:
    provider = provider_for(f"http://127.0.0.1:{(port := unused_port())}")
    _, error = await collect(provider)
    assert (
        f"cannot be reached: [Errno 111] Connect call failed ('127.0.0.1', {port})" in caplog.text
    )
    assert isinstance(error, ProviderUnreachable)
    assert error.__cause__ is not None
    assert "127.0.0.1" not in error.message
    await provider.aclose()


async def test_an_unknown_host_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    provider = provider_for("http://nowhere.example.org")
    _, error = await collect(provider)
    assert isinstance(error, ProviderUnreachable)
    await provider.aclose()


async def test_a_server_without_tls_is_unreachable_by_https() -> None:
    async with scripted(hang) as upstream:
        provider = provider_for(upstream.url.replace("http:", "https:"), connect_timeout=0.5)
        _, error = await collect(provider)
        assert isinstance(error, ProviderUnreachable | ProviderTimedOut)
        await provider.aclose()


async def test_a_connection_that_is_not_accepted_in_time_is_timed_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]  # as many as the backlog takes, and more
        for peer in waiting:
            peer.setblocking(False)
            peer.connect_ex(listener.getsockname())
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        provider = provider_for(url, connect_timeout=0.2)
        async with asyncio.timeout(5 * PROMPTLY):
            _, error = await collect(provider)
        assert isinstance(error, ProviderTimedOut)
        assert error.status == 504
        await provider.aclose()
        for peer in waiting:
            peer.close()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(closing(b""), id="FIN"),
        pytest.param(resetting(b""), id="RST"),
        pytest.param(closing(HEAD), id="half the headers"),
        pytest.param(closing(b"nonsense\r\n\r\n"), id="no HTTP"),
    ],
)
async def test_a_connection_dropped_before_the_headers_is_truncated(script: Script) -> None:
    """Not unreachable: the request may have been taken."""
    error = await refused(script)
    assert isinstance(error, ProviderTruncated)
    assert error.retryable


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectError("no"), ProviderUnreachable),
        (httpx.ConnectTimeout("no"), ProviderTimedOut),
        (httpx.ReadError("no"), ProviderTruncated),
    ],
    ids=["connect", "timeout", "read"],
)
async def test_another_transport_s_errors_are_told_apart(
    provider: OpenAIProvider, raised: httpx.TransportError, kind: type[GatewayError]
) -> None:
    with mocked_http() as http:
        http.post("/v1/chat/completions").mock(side_effect=raised)
        events, error = await collect(provider)
    assert events == []
    assert type(error) is kind


async def test_a_call_is_tried_once() -> None:
    async with connected(replay(answer(503, said(), {"retry-after": "0"}.items()))) as (
        upstream,
        provider,
    ):
        await collect(provider)
        assert len(upstream.exchanges) == 1


# Models


@pytest.mark.parametrize(
    ("body", "models"),
    [
        (b'{"object":"list","data":[{"id":"a"},{"id":"b"},{"id":1},{},null]}', ["a", "b"]),
        (b'[{"id":"a"}]', ["a"]),
        (b'{"data":[]}', []),
    ],
    ids=["OpenAI", "bare", "none"],
)
async def test_models_are_listed(body: bytes, models: Sequence[str]) -> None:
    async with connected(replay(answer(200, body))) as (upstream, provider):
        assert await provider.models() == models
    assert (upstream.exchanges[0].method, upstream.exchanges[0].path) == ("GET", "/v1/models")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (answer(401, said()), "upstream_auth"),
        (answer(200, b"oops"), "upstream_malformed"),
        (answer(200, b'{"x":1}'), "upstream_malformed"),
        (b"", "upstream_truncated"),
    ],
    ids=["401", "no JSON", "no list", "dropped"],
)
async def test_a_list_of_models_may_fail(response: bytes, code: str) -> None:
    async with connected(closing(response)) as (_, provider):
        with pytest.raises(ProviderFailed) as raised:
            await provider.models()
    assert raised.value.code == code


# Configuration


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"base_url": "ftp://x"}, "base_url: expected an http:// or https:// address"),
        (
            {"base_url": "http://x/v1?k=1"},
            "base_url: expected an address without credentials, ? and #",
        ),
        (
            {"base_url": "http://ann:secret@x/v1"},
            "base_url: expected an address without credentials, ? and #",
        ),
        (
            {"api_key": ""},
            "api_key: expected printable ASCII; leave the field out if no key is needed",
        ),
        ({"headers": {"X A": "b"}}, "headers: expected the name of a header instead of 'X A'"),
        ({"headers": {"X-A": "b\n"}}, "headers: expected printable ASCII in 'X-A'"),
        ({"connect_timeout": 0}, "connect_timeout: expected greater than 0"),
        ({"base_uri": "http://x"}, "base_uri: no such setting; did you mean base_url?"),
        (
            {"zzz": 1},
            "zzz: no such setting; expected one of api_key, ask_whole, base_url, headers, max_tokens_field, "
            "omit, profile, stream_usage, thoughts_in_text",
        ),
        ({"omit": "seed"}, "omit: expected a list"),
        ({"headers": "X-A: b"}, "headers: expected a mapping"),
        ({"api_key": 1234567890}, "api_key: expected text"),
        ({"stream_usage": "maybe"}, "stream_usage: expected true or false"),
        (
            {"max_tokens_field": "limit"},
            "max_tokens_field: expected 'max_tokens' or 'max_completion_tokens'",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_configuration_is_named_in_one_line(
    config: Mapping[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]+$") as raised:
        OpenAIProvider("up", config)
    assert str(raised.value) == message


async def test_a_provider_can_be_closed_twice_and_unused() -> None:
    provider = OpenAIProvider("up", {})
    await provider.aclose()
    await provider.aclose()
