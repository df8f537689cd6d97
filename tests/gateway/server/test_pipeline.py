import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress

import pytest

from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderTruncated,
    ProviderUnreachable,
    ShuttingDown,
)
from gateway.events import (
    Complete,
    Delta,
    Error,
    Event,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.ports import Batch, Encoder, Events
from gateway.records import Call
from gateway.request import ChatRequest
from gateway.server.pipeline import Delivery, Filter, Refused, Step, guard, run, seal
from tests.samples import a_call, drain, stream_of
from tests.scripted_model import Part, ScriptedModel, until

HI, END = Delta("Hi"), Complete()
CUT = ProviderTruncated("The engine stopped before its answer was complete.").event()
FAULT = Error(
    "server_error", "internal_error", "The server had an error while processing your request.", 500
)
OURS, THEIRS = ToolCallStart("1", "look", "server"), ToolCallStart("2", "locate", "client")
PROVIDERS = ToolCallStart("3", "search", "provider")


def _result(call_id: str) -> ToolCallResult:
    return ToolCallResult(call_id, "ok", "found", 0.5)


def _cancelled(call_id: str) -> ToolCallResult:
    return ToolCallResult(call_id, "cancelled", "Cancelled.")


@pytest.mark.parametrize(
    ("batches", "sealed"),
    [
        pytest.param([(HI,), (END,)], [HI, END], id="a whole answer"),
        pytest.param([(HI, END)], [HI, END], id="all at once"),
        pytest.param([(END,)], [END], id="an end alone"),
        pytest.param([(HI,)], [HI, CUT], id="no end"),
        pytest.param([], [CUT], id="nothing"),
        pytest.param([(), (HI,), (), (END,)], [HI, END], id="empty batches"),
        pytest.param([(HI, END, HI), (HI,), (END,)], [HI, END], id="more after the end"),
        pytest.param([(END, END)], [END], id="two ends"),
        pytest.param([(FAULT, END)], [FAULT], id="an end after an error"),
        pytest.param(
            [(OURS,), (_result("1"),), (END,)],
            [OURS, _result("1"), END],
            id="a call with its result",
        ),
        pytest.param([(OURS,), (END,)], [OURS, _cancelled("1"), END], id="no result, our tool"),
        pytest.param(
            [(PROVIDERS, END)], [PROVIDERS, _cancelled("3"), END], id="no result, a provider's tool"
        ),
        pytest.param([(THEIRS,), (END,)], [THEIRS, END], id="no result, a client's tool"),
        pytest.param(
            [(OURS, PROVIDERS, THEIRS, _result("3"))],
            [OURS, PROVIDERS, THEIRS, _result("3"), _cancelled("1"), CUT],
            id="no end with calls that run",
        ),
        pytest.param(
            [(OURS, _result("1"), _result("1")), (_result("1"),), (END,)],
            [OURS, _result("1"), END],
            id="several results",
        ),
        pytest.param([(_result("9"),), (HI, END)], [HI, END], id="a result without a call"),
        pytest.param(
            [(THEIRS, _result("2"), END)], [THEIRS, END], id="a result of a client's call"
        ),
        pytest.param(
            [(OURS,), (FAULT,)], [OURS, _cancelled("1"), FAULT], id="an error with a call that runs"
        ),
    ],
)
async def test_a_sealed_stream_keeps_to_the_grammar(
    batches: Sequence[Batch], sealed: list[Event]
) -> None:
    assert await drain(seal(stream_of(batches))) == sealed


async def test_no_batch_of_a_sealed_stream_is_empty() -> None:
    batches = [(), (_result("9"),), (HI,), (END,)]
    assert [batch async for batch in seal(stream_of(batches))] == [(HI,), [END]]


async def _failing(error: Exception, *batches: Batch) -> AsyncGenerator[Batch, None]:
    for batch in batches:
        yield batch
    raise error


async def test_what_an_engine_raises_is_the_end() -> None:
    error = ProviderUnreachable("No connection.", retry_after=3)
    assert await drain(seal(_failing(error, (OURS,)))) == [OURS, _cancelled("1"), error.event()]
    told = await drain(seal(_failing(InvalidRequest("No.", param="messages", code="bad"))))
    assert told == [Error("invalid_request_error", "bad", "No.", 400, "messages")]


async def test_a_fault_of_an_engine_is_logged_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        assert await drain(seal(_failing(ValueError("details"), (HI,)))) == [HI, FAULT]
    assert "details" in caplog.text


async def test_a_fault_of_an_engines_cleanup_does_not_come_after_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def engine() -> AsyncGenerator[Batch, None]:
        try:
            yield (HI,)
            yield (END,)
        finally:
            raise ValueError("details")

    with caplog.at_level(logging.ERROR):
        assert await drain(seal(engine())) == [HI, END]
        sealed = seal(engine())
        assert await anext(sealed) == (HI,)
        await sealed.aclose()
    assert caplog.text.count("ValueError: details") == 2


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([ToolCallDelta("9", "{"), ToolCallReady("9", "{}")], id="arguments"),
        pytest.param([ToolCallProgress("9", "half")], id="progress"),
        pytest.param([OURS, _result("1"), ToolCallProgress("1", "late")], id="after the result"),
    ],
)
async def test_events_of_a_call_that_is_not_there_are_dropped(events: list[Event]) -> None:
    sealed = await drain(seal(stream_of([events, [HI, END]])))
    known = [event for event in events if event in (OURS, _result("1"))]
    assert sealed == [*known, HI, END]


async def test_cancellation_passes_through_the_seal() -> None:
    model = ScriptedModel(([HI], 60.0))
    task = asyncio.create_task(drain(seal(model.stream(a_call().request))))
    await until(lambda: model.open == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.open == 0


async def test_the_engine_is_closed_when_it_says_more_than_its_answer() -> None:
    model = ScriptedModel(([HI], [END], [HI], 60.0))
    assert await drain(seal(model.stream(a_call().request))) == [HI, END]
    assert model.open == 0


class _Engine:
    def __init__(self, *script: Part) -> None:
        self.model = ScriptedModel(script)

    def stream(self, call: Call, request: ChatRequest, /) -> Events:
        return self.model.stream(request)


def _marking(mark: str) -> object:
    async def interceptor(call: Call, events: Events) -> Events:
        async with aclosing(events):
            async for batch in events:
                yield [
                    Delta(event.text + mark) if isinstance(event, Delta) else event
                    for event in batch
                ]

    return interceptor


async def test_the_first_interceptor_is_the_nearest_to_the_client() -> None:
    events = run(a_call(), _Engine([HI], [END]), [_marking("1"), _marking("2")])  # type: ignore[list-item]  # a generator function
    assert await drain(events) == [Delta("Hi21"), END]


class _Mark(Filter):
    """Appends to the text of each delta; hides an empty one."""

    def __init__(self, mark: str) -> None:
        self._mark = mark

    def take(self, batch: Batch, /) -> Batch:
        return [
            Delta(event.text + self._mark) if isinstance(event, Delta) else event
            for event in batch
            if event != Delta("")
        ]


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([_Mark("1"), _Mark("2")], id="filters"),
        pytest.param([_marking("1"), _Mark("2")], id="a filter within an interceptor"),
        pytest.param([_Mark("1"), _marking("2")], id="a filter around an interceptor"),
    ],
)
async def test_filters_stand_among_interceptors(steps: Sequence[Step]) -> None:
    batches = [batch async for batch in run(a_call(), _Engine([HI], [Delta("")], [END]), steps)]
    assert [event for batch in batches for event in batch if event != Delta("21")] == [
        Delta("Hi21"),
        END,
    ]
    assert all(batches)


async def test_filters_see_the_end_that_a_failure_is() -> None:
    class Last(Filter):
        def take(self, batch: Batch, /) -> Batch:
            seen.extend(batch)
            return batch

    seen: list[Event] = []
    await drain(run(a_call(), _Engine([HI]), [Last()]))
    assert seen == [HI, CUT]


async def test_closing_the_outermost_closes_the_engine() -> None:
    engine = _Engine([HI], 60.0)
    events = run(a_call(), engine, [_marking("1"), _marking("2")])  # type: ignore[list-item]  # a generator function
    await anext(events)
    await events.aclose()
    assert engine.model.open == 0


async def test_an_interceptor_that_is_not_ours_is_held_to_the_grammar() -> None:
    async def broken(call: Call, events: Events) -> Events:
        async with aclosing(events):
            async for batch in events:
                yield batch
                raise ValueError("details")

    engine = _Engine([OURS], [END])
    events = run(a_call(), engine, [guard(broken)])
    assert await drain(events) == [OURS, _cancelled("1"), FAULT]
    assert engine.model.open == 0


# Delivery


class _Encoder(Encoder):
    """Text as it is; the end as a full stop."""

    def encode(self, batch: Batch, /) -> bytes:
        parts = {Delta: lambda e: e.text.encode(), Complete: lambda e: b".", Error: lambda e: b"!"}
        return b"".join(parts[type(event)](event) for event in batch if type(event) in parts)


def _delivery(*script: Part) -> tuple[Delivery, ScriptedModel, list[Error]]:
    model, errors = ScriptedModel(script), list[Error]()
    return Delivery(seal(model.stream(a_call().request)), errors.append), model, errors


STOPPING = ShuttingDown("Stopping.")


async def test_frames_are_the_answers_bytes_to_its_end() -> None:
    delivery, model, errors = _delivery([HI], [StepStart(1, "m", "p")], [Delta("!"), END])
    assert not delivery.delivered
    frames = [frame async for frame in delivery.frames(_Encoder())]
    assert frames == [b"Hi", b"!."]
    assert delivery.delivered
    assert (model.open, errors) == (0, [])


async def test_an_answer_is_delivered_only_when_its_last_frame_was_taken() -> None:
    delivery, model, _ = _delivery([HI, END])
    frames = delivery.frames(_Encoder())
    assert await anext(frames) == b"Hi."
    assert not delivery.delivered
    await frames.aclose()
    assert not delivery.delivered
    assert model.open == 0


async def test_a_failure_before_anything_was_said_is_no_frame() -> None:
    error = ProviderUnreachable("No connection.")
    delivery, model, errors = _delivery(error)
    with pytest.raises(Refused) as caught:
        await anext(delivery.frames(_Encoder()))
    assert caught.value.error == error.event()
    assert (model.open, errors, delivery.delivered) == (0, [], False)


async def test_a_failure_is_a_frame_once_the_client_was_told_of_an_answer() -> None:
    error = ProviderUnreachable("No connection.")
    delivery, model, errors = _delivery(error)
    delivery.begun = True
    assert [frame async for frame in delivery.frames(_Encoder())] == [b"!"]
    assert (model.open, errors, delivery.delivered) == (0, [error.event()], True)


async def test_an_error_is_told_to_whoever_keeps_the_account() -> None:
    error = ProviderUnreachable("No connection.")
    for stream in (True, False):
        delivery, _, errors = _delivery([HI], error)
        if stream:
            assert [frame async for frame in delivery.frames(_Encoder())] == [b"Hi", b"!"]
        else:
            assert (await delivery.collect()).end == error.event()
        assert errors == [error.event()]
        assert delivery.delivered


async def test_collect_is_the_whole_answer() -> None:
    delivery, model, errors = _delivery([HI], [Delta(" you"), END])
    outcome = await delivery.collect()
    assert outcome.choices[0].text == ["Hi", " you"]
    assert outcome.end == END
    assert delivery.delivered
    assert (model.open, errors) == (0, [])


async def test_an_interruption_before_anything_was_asked_for_is_told_at_once() -> None:
    delivery, model, _ = _delivery(60.0)
    delivery.interrupt(STOPPING)
    async with asyncio.timeout(5):
        assert (await delivery.collect()).end == STOPPING.event()
        await delivery.aclose()
    assert model.open == 0


async def test_an_interruption_ends_the_wait_for_the_first_batch() -> None:
    delivery, model, _ = _delivery(60.0)
    frames = delivery.frames(_Encoder())
    task = asyncio.create_task(anext(frames))  # type: ignore[arg-type]  # typeshed: any awaitable
    await until(lambda: model.open == 1)
    delivery.interrupt(STOPPING)
    with pytest.raises(Refused):
        await task
    assert model.open == 0
    assert task.cancelling() == 0


async def test_an_interruption_while_frames_wait_for_the_engine_is_told_at_once() -> None:
    delivery, model, errors = _delivery([HI], 60.0)
    frames = delivery.frames(_Encoder())
    assert await anext(frames) == b"Hi"
    asyncio.get_running_loop().call_later(0.02, delivery.interrupt, STOPPING)
    async with asyncio.timeout(5):
        assert [frame async for frame in frames] == [b"!"]
    assert errors == [STOPPING.event()]
    assert delivery.delivered
    assert model.open == 0


async def test_an_interruption_while_the_late_first_batch_is_waited_for_is_told() -> None:
    delivery, model, errors = _delivery(60.0)
    delivery.begun = True
    asyncio.get_running_loop().call_later(0.02, delivery.interrupt, STOPPING)
    async with asyncio.timeout(5):
        assert [frame async for frame in delivery.frames(_Encoder())] == [b"!"]
    assert errors == [STOPPING.event()]
    await delivery.aclose()
    assert model.open == 0


async def test_an_interruption_while_a_client_reads_is_told_after_that() -> None:
    delivery, model, errors = _delivery([HI], [Delta(" you")], [END])
    frames = delivery.frames(_Encoder())
    assert await anext(frames) == b"Hi"
    delivery.interrupt(STOPPING)
    assert [frame async for frame in frames] == [b"!"]
    assert errors == [STOPPING.event()]
    assert model.open == 0


async def test_an_interruption_of_a_collected_answer_is_its_end() -> None:
    delivery, model, errors = _delivery([HI], 60.0)
    asyncio.get_running_loop().call_later(0.02, delivery.interrupt, STOPPING)
    async with asyncio.timeout(5):
        outcome = await delivery.collect()
    assert outcome.end == STOPPING.event()
    assert errors == [STOPPING.event()]
    assert model.open == 0


async def test_an_interruption_ends_a_collected_answer_though_the_engine_swallows_it() -> None:
    async def stubborn() -> AsyncGenerator[Batch, None]:
        for _ in range(100):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.02)
            yield [HI]

    delivery = Delivery(stubborn(), lambda error: None)
    asyncio.get_running_loop().call_later(0.05, delivery.interrupt, STOPPING)
    async with asyncio.timeout(1):
        assert (await delivery.collect()).end == STOPPING.event()


async def test_an_end_of_an_engine_s_own_kind_is_an_end() -> None:
    class Own(Complete):
        pass

    delivery, model, _ = _delivery([HI], [Own()])
    frames = [frame async for frame in delivery.frames(_Encoder())]
    assert b"Hi" in frames
    assert delivery.delivered
    assert model.open == 0


async def test_the_first_interruption_counts() -> None:
    delivery, _, errors = _delivery([HI], 60.0)
    delivery.interrupt(STOPPING)
    delivery.interrupt(ShuttingDown("Again."))
    await delivery.collect()
    assert errors == [STOPPING.event()]


async def test_an_interruption_after_the_end_changes_nothing() -> None:
    delivery, _, errors = _delivery([HI, END])
    await delivery.collect()
    delivery.interrupt(STOPPING)
    await delivery.aclose()
    assert errors == []


@pytest.mark.parametrize("interrupted", [False, True])
async def test_cancellation_from_outside_is_not_taken_for_an_interruption(
    interrupted: bool,
) -> None:
    delivery, model, _ = _delivery([HI], 60.0)
    task = asyncio.create_task(delivery.collect())
    await until(lambda: model.open == 1)
    if interrupted:
        delivery.interrupt(STOPPING)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await delivery.aclose()
    assert model.open == 0


async def test_closing_stops_the_engine() -> None:
    delivery, model, _ = _delivery([HI], 60.0)
    frames = delivery.frames(_Encoder())
    assert await anext(frames) == b"Hi"
    await frames.aclose()
    assert model.open == 0
    await delivery.aclose()


async def test_closing_before_anything_began_begins_nothing() -> None:
    delivery, model, _ = _delivery([HI], [END])
    await delivery.aclose()
    assert model.open == 0
    assert not delivery.delivered


async def test_a_gateway_error_keeps_all_that_a_client_is_told() -> None:
    error = GatewayError("m", param="p", code="c", retry_after=2.0)
    assert error.event() == Error("server_error", "c", "m", 500, "p", False, 2.0)
