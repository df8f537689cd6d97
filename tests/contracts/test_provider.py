"""What every provider promises, whatever API it speaks. A new one is a row of `IMPLEMENTATIONS`."""

import asyncio
import importlib.util
import re
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import orjson
import pytest
import pytest_asyncio

from adapters.providers.anthropic import AnthropicProvider
from adapters.providers.openai import OpenAIProvider
from gateway.errors import GatewayError, ProviderFailed, ProviderTruncated, ProviderUnreachable
from gateway.events import (
    Complete,
    Delta,
    Error,
    Event,
    StepStart,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
)
from gateway.outcome import Outcome
from gateway.ports import Provider
from gateway.request import ChatRequest
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    Script,
    ScriptedUpstream,
    answer,
    chunk,
    frames,
    replay,
    scripted,
)

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-provider.md"
KEY = "sk-test-0123456789abcdef"
REQUEST = ChatRequest(
    model="m",
    messages=[{"role": "user", "content": "Hi"}],
    tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
)
PROMPTLY = 1.0


def blocks_of_the_guide() -> Mapping[str, str]:
    """The guide's Python by the file names in their first lines."""
    found = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", GUIDE.read_text(), re.M | re.S)
    return dict(found)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    path = tmp_path_factory.mktemp("guide") / "parrot.py"
    path.write_text(blocks_of_the_guide()["parrot.py"])
    return load(path)


def openai_chunk(reason: str | None = None, **delta: object) -> object:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def openai_call(**function: str) -> object:
    first = {"id": "call_1", "type": "function"} if "name" in function else {}
    return openai_chunk(tool_calls=[{"index": 0, **first, "function": function}])


def anthropic_event(kind: str, **fields: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def anthropic_answer(block: object, reason: str, *deltas: object) -> list[bytes]:
    message = {"id": "msg_1", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}
    return [
        anthropic_event("message_start", message=message),
        anthropic_event("content_block_start", index=0, content_block=block),
        *(anthropic_event("content_block_delta", index=0, delta=delta) for delta in deltas),
        anthropic_event("content_block_stop", index=0),
        anthropic_event("message_delta", delta={"stop_reason": reason}, usage={"output_tokens": 2}),
        anthropic_event("message_stop"),
    ]


@dataclass(frozen=True)
class Implementation:
    """Recorded answers of one API: a text, "Hé" and "llo", and a call of `f` with `{"x": "é"}`."""

    make: Callable[[str, ModuleType], Provider]
    text: list[bytes]
    call: list[bytes] | None


IMPLEMENTATIONS = {
    "openai": Implementation(
        make=lambda url, _: OpenAIProvider("up", {"base_url": f"{url}/v1", "api_key": KEY}),
        text=[
            frames(openai_chunk(role="assistant", content="")),
            frames(openai_chunk(content="Hé")),
            frames(openai_chunk(content="llo")),
            frames(openai_chunk("stop")),
            frames({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
            frames(b"[DONE]"),
        ],
        call=[
            frames(openai_call(name="f", arguments="")),
            frames(openai_call(arguments='{"x":')),
            frames(openai_call(arguments=' "é"}')),
            frames(openai_chunk("tool_calls")),
            frames(b"[DONE]"),
        ],
    ),
    "anthropic": Implementation(
        make=lambda url, _: AnthropicProvider("up", {"base_url": url, "api_key": KEY}),
        text=anthropic_answer(
            {"type": "text", "text": ""},
            "end_turn",
            {"type": "text_delta", "text": "Hé"},
            {"type": "text_delta", "text": "llo"},
        ),
        call=anthropic_answer(
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
            "tool_use",
            {"type": "input_json_delta", "partial_json": '{"x":'},
            {"type": "input_json_delta", "partial_json": ' "é"}'},
        ),
    ),
    "the guide's": Implementation(
        make=lambda url, parrot: parrot.ParrotProvider("up", {"base_url": url}),
        text=['{"text": "Hé"}\n'.encode(), b'{"text": "llo"}\n', b'{"tokens": [3, 2]}\n'],
        call=None,
    ),
}


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS.keys())
def implementation(request: pytest.FixtureRequest) -> Implementation:
    assert isinstance(request.param, Implementation)
    return request.param


@pytest_asyncio.fixture
async def upstream(implementation: Implementation) -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(replay(whole(implementation.text))) as upstream:
        yield upstream


@pytest_asyncio.fixture
async def provider(
    implementation: Implementation, upstream: ScriptedUpstream, parrot: ModuleType
) -> AsyncGenerator[Provider, None]:
    provider = implementation.make(upstream.url, parrot)
    yield provider
    await provider.aclose()


def whole(parts: list[bytes]) -> bytes:
    return CHUNKED + b"".join(map(chunk, parts)) + LAST_CHUNK


async def collect(provider: Provider) -> tuple[list[Event], GatewayError | None]:
    events: list[Event] = []
    try:
        async with aclosing(provider.stream(REQUEST)) as stream:
            async for batch in stream:
                assert batch
                events += batch
    except GatewayError as error:
        return events, error
    return events, None


async def test_an_answer_ends_in_one_complete(provider: Provider) -> None:
    events, error = await collect(provider)
    assert error is None
    ends = [event for event in events if isinstance(event, Complete | Error)]
    assert ends == events[-1:]
    outcome = Outcome()
    outcome.feed(events)
    assert "".join(outcome.choices[0].text) == "Héllo"
    assert outcome.end is ends[0]
    [end] = ends
    assert isinstance(end, Complete)
    assert end.finish_reason == "stop"
    assert end.usage is not None
    assert (end.usage.input_tokens, end.usage.output_tokens) == (3, 2)


async def test_what_the_engine_adds_is_left_to_it(provider: Provider) -> None:
    events, _ = await collect(provider)
    assert not any(isinstance(event, StepStart) for event in events)
    assert isinstance(events[-1], Complete)
    assert events[-1].steps == ()


async def test_an_event_is_passed_on_before_the_next_one_comes(
    provider: Provider, upstream: ScriptedUpstream, implementation: Implementation
) -> None:
    seen = asyncio.Event()

    async def wait_for_the_reader(exchange: Exchange) -> None:
        first, rest = implementation.text[:-2], implementation.text[-2:]
        for part in first:
            if b"llo" in part:
                await seen.wait()
            await exchange.send(chunk(part) if part is not first[0] else CHUNKED + chunk(part))
        await exchange.send(b"".join(map(chunk, rest)) + LAST_CHUNK)

    upstream.script = wait_for_the_reader
    text = ""
    async with asyncio.timeout(PROMPTLY), aclosing(provider.stream(REQUEST)) as stream:
        async for batch in stream:
            text += "".join(event.text for event in batch if isinstance(event, Delta))
            if text == "Hé":
                seen.set()
    assert text == "Héllo"


async def test_an_answer_cut_after_any_part_is_truncated(
    provider: Provider, upstream: ScriptedUpstream, implementation: Implementation
) -> None:
    for count in range(len(implementation.text)):
        data = CHUNKED + b"".join(map(chunk, implementation.text[:count]))
        upstream.script = replay(data, close=True)
        events, error = await collect(provider)
        assert isinstance(error, ProviderTruncated), count
        assert not any(isinstance(event, Complete | Error) for event in events)


async def test_an_answer_that_ends_within_a_part_is_truncated(
    provider: Provider, upstream: ScriptedUpstream, implementation: Implementation
) -> None:
    for count, part in enumerate(implementation.text):
        upstream.script = replay(whole([*implementation.text[:count], part[: len(part) // 2]]))
        events, error = await collect(provider)
        assert isinstance(error, ProviderFailed), count
        assert not any(isinstance(event, Complete | Error) for event in events)


async def test_a_tool_call_is_ready_only_when_it_is_whole(
    provider: Provider, upstream: ScriptedUpstream, implementation: Implementation
) -> None:
    parts = implementation.call or implementation.text
    for count in range(len(parts) + 1):
        complete = count == len(parts)
        data = CHUNKED + b"".join(map(chunk, parts[:count]))
        upstream.script = replay(whole(parts)) if complete else replay(data, close=True)
        events, error = await collect(provider)
        assert (error is None) == complete
        written = ""
        for event in events:
            match event:
                case ToolCallStart():
                    assert event.name == "f"
                    assert event.executor == "client"
                case ToolCallDelta():
                    written += event.fragment
                case ToolCallReady():
                    assert event.arguments == written == '{"x": "é"}'
        if complete and implementation.call:
            kinds = [type(event) for event in events]
            assert kinds.count(ToolCallStart) == kinds.count(ToolCallReady) == 1
            assert isinstance(events[-1], Complete)
            assert events[-1].finish_reason == "tool_calls"


async def hang(exchange: Exchange) -> None:
    await exchange.until_closed()


async def hang_after_headers(exchange: Exchange) -> None:
    await exchange.send(CHUNKED)
    await exchange.until_closed()


@pytest.mark.parametrize("script", [hang, hang_after_headers], ids=["no headers", "headers"])
async def test_cancelling_closes_the_connection(
    provider: Provider,
    upstream: ScriptedUpstream,
    script: Script,
) -> None:
    upstream.script = script
    task = asyncio.create_task(collect(provider))
    await upstream.received(1)
    await asyncio.sleep(0.02)
    task.cancel()
    async with asyncio.timeout(PROMPTLY):
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.idle.wait()


async def test_closing_the_stream_closes_the_connection(
    provider: Provider, upstream: ScriptedUpstream, implementation: Implementation
) -> None:
    async def hang_midway(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + b"".join(map(chunk, implementation.text[:-2])))
        await exchange.until_closed()

    upstream.script = hang_midway
    stream = provider.stream(REQUEST)
    async with asyncio.timeout(PROMPTLY):
        await anext(stream)
        await stream.aclose()
        await upstream.idle.wait()


@pytest.mark.parametrize(
    ("status", "told", "retryable"),
    [(429, 429, True), (500, 502, True), (502, 502, True)],
    ids=["429", "500", "502"],
)
async def test_a_refusal_is_an_error_of_the_gateway(
    provider: Provider, upstream: ScriptedUpstream, status: int, told: int, retryable: bool
) -> None:
    body = orjson.dumps({"error": {"message": f"{KEY} is slow", "type": "t"}})
    upstream.script = replay(answer(status, body))
    events, error = await collect(provider)
    assert events == []
    assert isinstance(error, ProviderFailed)
    assert (error.status, error.retryable) == (told, retryable)
    assert KEY not in error.message


async def test_refused_credentials_are_no_fault_of_the_client(
    provider: Provider, upstream: ScriptedUpstream
) -> None:
    upstream.script = replay(answer(401, b'{"error":{"message":"Invalid key","type":"t"}}'))
    _, error = await collect(provider)
    assert isinstance(error, ProviderFailed)
    assert error.status == 502


async def test_a_refused_connection_is_unreachable(
    implementation: Implementation, parrot: ModuleType
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # taken, but nobody listens
        provider = implementation.make(f"http://127.0.0.1:{bound.getsockname()[1]}", parrot)
        events, error = await collect(provider)
        await provider.aclose()
    assert events == []
    assert isinstance(error, ProviderUnreachable)
    assert "127.0.0.1" not in error.message


async def test_answers_do_not_mix(
    provider: Provider, upstream: ScriptedUpstream, implementation: Implementation
) -> None:
    together = asyncio.Barrier(50)

    async def meet(exchange: Exchange) -> None:
        await together.wait()
        for part in (CHUNKED, *map(chunk, implementation.text), LAST_CHUNK):
            await exchange.send(part)
            await asyncio.sleep(0)

    upstream.script = meet
    results = await asyncio.gather(*(collect(provider) for _ in range(50)))
    for events, error in results:
        assert error is None
        assert "".join(event.text for event in events if isinstance(event, Delta)) == "Héllo"


def test_making_one_needs_no_loop_and_no_server(
    implementation: Implementation, parrot: ModuleType
) -> None:
    assert implementation.make("http://127.0.0.1:9", parrot).name == "up"


@pytest.mark.parametrize(
    "config",
    [{"base_url": "nonsense"}, {"base_url": "http://127.0.0.1:9", "no_such_field": 1}],
    ids=["wrong", "unknown"],
)
def test_a_wrong_setting_is_named_in_one_line(
    implementation: Implementation, parrot: ModuleType, config: Mapping[str, object]
) -> None:
    kind = type(implementation.make("http://127.0.0.1:9", parrot))
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as raised:
        kind("up", config)
    assert list(config)[-1] in str(raised.value)


async def test_the_guide_s_test_passes(
    parrot: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "parrot", parrot)
    path = tmp_path / "test_parrot.py"
    path.write_text(blocks_of_the_guide()["test_parrot.py"])
    await load(path).test_a_parrot_talks()
