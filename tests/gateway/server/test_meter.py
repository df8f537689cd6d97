from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderTruncated
from gateway.events import (
    Complete,
    Counted,
    Delta,
    Event,
    ReasoningDelta,
    RefusalDelta,
    Step,
    StepStart,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.server.interceptors.meter import Meter
from gateway.server.pipeline import sift
from tests.samples import drain, stream_of


def _hundred() -> int:
    return 100


async def _measure(
    events: Sequence[Event], *, cuts: Sequence[int] = ()
) -> tuple[Meter, list[Event]]:
    """`cuts`: where batches end."""
    meter = Meter(_hundred)
    edges = [0, *sorted(set(cuts)), len(events)]
    batches = [events[a:b] for a, b in pairwise(edges) if a < b]
    return meter, await drain(sift(stream_of(batches), meter))


def _step(number: int, spent: Usage | None = None) -> StepStart:
    return StepStart(number, "big", "acme", None, spent or Usage())


def _end(*usages: Usage | None) -> Complete:
    """As the loop ends an answer of so many rounds."""
    steps = tuple(Step(number, "big", "acme", usage) for number, usage in enumerate(usages, 1))
    told = [usage for usage in usages if usage is not None]
    total = sum(told, Usage()) if len(told) == len(usages) else None
    return Complete(usage=total, steps=steps)


CALL = (ToolCallStart("1", "look", "server"), ToolCallDelta("1", "{}"), ToolCallReady("1", "{}"))
RESULT = ToolCallResult("1", "ok", "x" * 40)


@pytest.mark.parametrize(
    ("events", "usage", "counted"),
    [
        pytest.param([], Usage(), "reported", id="nothing was asked"),
        pytest.param([ProviderTruncated("x").event()], Usage(), "reported", id="refused"),
        pytest.param([_step(1)], Usage(100, 0), "partial", id="asked, no answer yet"),
        pytest.param([_step(1), Delta("a"), Delta("b")], Usage(100, 2), "partial", id="cut"),
        pytest.param(
            [_step(1), Delta("a"), ProviderTruncated("x").event()],
            Usage(100, 1),
            "partial",
            id="failed",
        ),
        pytest.param(
            [_step(1), Delta("a"), _end(Usage(7, 3))], Usage(7, 3), "reported", id="reported"
        ),
        pytest.param(
            [_step(1), Delta("a"), _end(None)], Usage(100, 1), "estimated", id="not reported"
        ),
        pytest.param(
            [Delta("a"), Complete()], Usage(100, 1), "estimated", id="an engine without steps"
        ),
        pytest.param([Delta("a")], Usage(100, 1), "partial", id="without steps, cut"),
        pytest.param(
            [_step(1), ReasoningDelta("a"), RefusalDelta("b"), ToolCallDelta("1", "{")],
            Usage(100, 3),
            "partial",
            id="all that a model writes",
        ),
        pytest.param(
            [_step(1), *map(Delta, ("x" * 16, "é" * 8, "", "x" * 17, "é" * 9))],
            Usage(100, 1 + 1 + 0 + (17 + 18 + 3) // 4),
            "partial",
            id="a long text is several tokens",
        ),
        pytest.param(
            [_step(1), *CALL, RESULT, _step(2, Usage(7, 3)), Delta("a")],
            # The second prompt: the first one's 400 bytes, 40 of the result, 4 of the call.
            Usage(7 + 111, 3 + 1),
            "partial",
            id="cut in the second round",
        ),
        pytest.param(
            [_step(1), *CALL, RESULT, _step(2), Delta("a")],
            Usage(100 + 111, 1 + 1),
            "partial",
            id="cut in the second round, the first reported nothing",
        ),
        pytest.param(
            [_step(1), *CALL, RESULT, _step(2), Delta("a"), _end(None, Usage(9, 9))],
            Usage(100 + 111, 1 + 1),
            "estimated",
            id="only the second round reported",
        ),
        pytest.param(
            [_step(1), *CALL, RESULT, _step(2, Usage(7, 3)), Delta("a"), _end(Usage(7, 3), None)],
            Usage(7 + 111, 3 + 1),
            "estimated",
            id="only the first round reported",
        ),
        pytest.param(
            [_step(1), *CALL, ToolCallResult("1", "ok", "é" * 40), _step(2, Usage(7, 3))],
            Usage(7 + 100 + 1 + 20, 3),
            "partial",
            id="a result counts by its bytes",
        ),
        pytest.param(
            [_step(1), Delta("a"), Complete(usage=Usage(7, 3))],
            Usage(7, 3),
            "reported",
            id="reported without steps",
        ),
    ],
)
async def test_usage(events: list[Event], usage: Usage, counted: Counted) -> None:
    meter, _ = await _measure(events)
    assert meter.usage() == (usage, counted)


async def test_a_rough_figure_goes_by_lengths_and_changes_nothing() -> None:
    def unasked() -> int:
        raise AssertionError("the prompt was counted")

    meter = Meter(unasked, lambda: 99)
    meter.take([_step(1), Delta("a"), Delta("x" * 40), Delta("x" * 41)])
    for _ in range(2):
        assert meter.usage(roughly=True) == (Usage(99, 1 + 81 // 4), "partial")


async def test_long_texts_are_counted_before_there_are_many_of_them() -> None:
    meter = Meter(_hundred)
    for _ in range(1000):
        meter.take([Delta("x" * 20)])
        assert len(meter._uncounted) < 256
    assert meter.usage() == (Usage(100, 5000), "partial")


async def test_texts_that_wait_to_be_counted_have_a_bound() -> None:
    meter, most = Meter(_hundred), 0
    for _ in range(10_000):
        meter.take([Delta("word " * 8)])
        most = max(most, sum(map(len, meter._uncounted)))
    assert 60_000 < most < 80_000
    assert meter.usage() == (Usage(100, 100_000), "partial")


async def test_whoever_asked_for_usage_gets_what_the_row_says() -> None:
    meter, told = await _measure([_step(1), Delta("a"), _end(None)])
    end = told[-1]
    assert isinstance(end, Complete)
    assert end.usage == meter.usage()[0] == Usage(100, 1)
    assert meter.end == end
    assert meter.usage()[1] == "estimated"


async def test_all_other_events_pass_unchanged() -> None:
    events: list[Event] = [
        _step(1),
        *CALL,
        RESULT,
        _step(2, Usage(1, 1)),
        _end(Usage(1, 1), Usage(2, 2)),
    ]
    meter, told = await _measure(events)
    assert told == events
    assert meter.tool_calls == 1
    assert meter.step == events[5]


@pytest.mark.parametrize(
    ("events", "seen"),
    [
        pytest.param([_step(1)], False, id="a step is no token"),
        pytest.param([_step(1), ReasoningDelta("a")], True, id="a thought"),
        pytest.param([_step(1), ToolCallDelta("1", "{")], True, id="arguments"),
        pytest.param([_step(1), Complete()], False, id="an empty answer"),
    ],
)
async def test_when_the_first_token_came(events: list[Event], seen: bool) -> None:
    meter, _ = await _measure(events)
    assert (meter.first_token is not None) is seen
    if meter.first_token is not None:
        assert 0 <= meter.first_token <= meter.duration


texts = st.text(max_size=40)
written = st.one_of(
    texts.map(Delta),
    texts.map(ReasoningDelta),
    texts.map(RefusalDelta),
    texts.map(lambda text: ToolCallDelta("1", text)),
)


def usages(least: int) -> st.SearchStrategy[Usage | None]:
    return st.none() | st.builds(Usage, st.integers(0, 10_000), st.integers(least, 10_000))


@st.composite
def answers(draw: st.DrawFn, least: int = 0) -> list[Event]:
    """Rounds with calls between them, as the loop tells them: each step says what was spent before."""
    events: list[Event] = []
    told: list[Usage | None] = []
    for number in range(1, draw(st.integers(1, 4)) + 1):
        spent = sum((usage for usage in told if usage is not None), Usage())
        events += [_step(number, spent), *draw(st.lists(written, max_size=8))]
        if number > 1 or draw(st.booleans()):
            events.append(ToolCallResult(f"{number}", "ok", draw(texts)))
        told.append(draw(usages(least)))
    return [*events, _end(*told)]


def _counts(meter: Meter) -> tuple[object, ...]:
    return (*meter.usage(), meter.tool_calls, meter.step, meter.end)


@given(answers(), st.data())
async def test_counts_do_not_depend_on_how_events_were_batched(
    events: list[Event], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=12))
    one_by_one, first = await _measure(events, cuts=range(len(events)))
    batched, second = await _measure(events, cuts=cuts)
    assert _counts(one_by_one) == _counts(batched)
    assert first == second


# A report of less than our estimate is believed, and counts shrink with it: not here.
honest = answers(least=8 * 40)


@given(honest, st.data())
async def test_an_answer_cut_anywhere_counts_what_was_delivered_and_no_more_than_was_emitted(
    events: list[Event], data: st.DataObject
) -> None:
    """The client took `delivered` events and left while the batch with the next ones was under way."""
    delivered = data.draw(st.integers(0, len(events) - 1))
    emitted = data.draw(st.integers(delivered, len(events) - 1))
    counts = []
    for length in (delivered, emitted):
        meter, _ = await _measure(events[:length])
        counts.append(meter.usage()[0])
    batches = [events[:delivered], events[delivered:emitted]]
    meter = Meter(_hundred)
    stream = sift(stream_of([batch for batch in batches if batch]), meter)
    async for _ in stream:
        pass
    usage, counted = meter.usage()
    assert counts[0].output_tokens <= usage.output_tokens <= counts[1].output_tokens
    assert counts[0].input_tokens <= usage.input_tokens <= counts[1].input_tokens
    assert counted == ("partial" if emitted else "reported")


@given(honest)
async def test_counts_only_grow_while_an_answer_streams(events: list[Event]) -> None:
    """A checkpoint that is written later never says less."""
    seen = Usage()
    meter = Meter(_hundred)
    async for _ in sift(stream_of([[event] for event in events[:-1]]), meter):
        usage, _ = meter.usage()
        assert usage.output_tokens >= seen.output_tokens
        assert usage.input_tokens >= seen.input_tokens
        seen = usage
