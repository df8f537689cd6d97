"""Several prompts in one answer: every event where it belongs, and one account of all."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.engine.several import Several
from gateway.errors import ProviderTruncated, RateLimited
from gateway.events import (
    Complete,
    Delta,
    Event,
    Step,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.ports import Batch, Events
from gateway.records import Call
from gateway.request import ChatRequest
from tests.samples import a_call, a_request, drain


class _Echo:
    """Answers with what was said, by a tool; counts the streams that it was asked for and closed."""

    def __init__(self, reported: bool = True, fail_at: str = "") -> None:
        self.reported, self.fail_at = reported, fail_at
        self.open = 0

    async def stream(self, call: Call, request: ChatRequest, /) -> Events:
        self.open += 1
        try:
            text = str(request.messages[0]["content"])
            yield StepStart(1, "m", "p"), ToolCallStart("1", "look", "server")
            yield ToolCallDelta("1", "{}"), ToolCallReady("1", "{}"), ToolCallProgress("1", "…")
            yield (ToolCallResult("1", "ok", text),)
            if text == self.fail_at:
                raise RateLimited("Later.")
            usage = Usage(2, 1) if self.reported else None
            yield (StepStart(2, "m", "p", spent=Usage(1, 0)),)
            steps = (Step(1, "m", "p", Usage(1, 0)), Step(2, "m", "p", Usage(1, 1)))
            yield [Delta(text, choice) for choice in range(request.n)] + [
                Complete(usage=usage, steps=steps, further=("length",) * (request.n - 1))
            ]
        finally:
            self.open -= 1


def _request(*texts: str, n: int = 1) -> ChatRequest:
    first, *further = [[{"role": "user", "content": text}] for text in texts]
    return replace(a_request(messages=first, n=n), further=further)


async def _answer(engine: _Echo, request: ChatRequest) -> list[Event]:
    events = await drain(Several(engine).stream(a_call(request), request))
    assert engine.open == 0
    return events


async def test_one_history_passes_untouched() -> None:
    request = _request("a")
    engine = _Echo()
    plain = await drain(engine.stream(a_call(request), request))
    assert await _answer(engine, request) == plain


async def test_each_has_choices_ids_and_steps_of_its_own() -> None:
    events = await _answer(_Echo(), _request("a", "b", n=2))
    texts = [(event.choice, event.text) for event in events if isinstance(event, Delta)]
    assert texts == [(0, "a"), (1, "a"), (2, "b"), (3, "b")]
    assert [e.call_id for e in events if isinstance(e, ToolCallStart)] == ["1", "1-1"]
    assert [e.output for e in events if isinstance(e, ToolCallResult)] == ["a", "b"]
    steps = [(e.number, e.spent) for e in events if isinstance(e, StepStart)]
    assert steps == [(1, Usage()), (2, Usage(1, 0)), (3, Usage(2, 1)), (4, Usage(3, 1))]
    end = events[-1]
    assert isinstance(end, Complete)
    assert (end.finish_reason, end.further) == ("stop", ("length", "stop", "length"))
    assert end.usage == Usage(4, 2)
    assert [step.number for step in end.steps] == [1, 2, 3, 4]
    assert sum(isinstance(event, Complete) for event in events) == 1


async def test_usage_is_unknown_when_that_of_one_is() -> None:
    end = (await _answer(_Echo(reported=False), _request("a", "b")))[-1]
    assert isinstance(end, Complete)
    assert end.usage is None


async def test_a_failure_of_one_ends_all() -> None:
    request = _request("a", "b", "c")
    engine = _Echo(fail_at="b")
    stream = Several(engine).stream(a_call(request), request)
    heard: list[Event] = []

    async def listen() -> None:
        async for batch in stream:
            heard.extend(batch)

    with pytest.raises(RateLimited):
        await listen()
    assert [event.text for event in heard if isinstance(event, Delta)] == ["a"]
    assert engine.open == 0


async def test_an_engine_that_just_stops_is_no_answer() -> None:
    class Silent:
        async def stream(self, call: Call, request: ChatRequest, /) -> Events:
            batch: Sequence[Event] = (Delta("a"),)
            yield batch

    request = _request("a", "b")
    with pytest.raises(ProviderTruncated):
        await drain(Several(Silent()).stream(a_call(request), request))


async def test_an_error_that_an_engine_tells_ends_all() -> None:
    class Broken:
        async def stream(self, call: Call, request: ChatRequest, /) -> Events:
            batch: Batch = (Delta("a"), RateLimited("Later.").event())
            yield batch

    request = _request("a", "b")
    events = await drain(Several(Broken()).stream(a_call(request), request))
    assert events == [Delta("a"), RateLimited("Later.").event()]


async def test_leaving_closes_the_one_that_runs() -> None:
    request = _request("a", "b")
    engine = _Echo()
    stream = Several(engine).stream(a_call(request), request)
    await anext(stream)
    await stream.aclose()
    assert engine.open == 0
