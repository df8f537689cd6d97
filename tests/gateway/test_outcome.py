import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderTruncated
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    Json,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.outcome import Outcome

SCORE: Json = {"token": "a", "logprob": -0.1}


def _outcome(*events: Event) -> Outcome:
    outcome = Outcome()
    outcome.feed(events)
    return outcome


def test_nothing_is_one_empty_choice_without_an_end() -> None:
    outcome = Outcome()
    assert outcome.end is None
    assert len(outcome.choices) == 1
    assert outcome.choices[0].text == []


def test_pieces_are_kept_in_order_and_apart() -> None:
    [choice] = _outcome(
        ReasoningDelta("Hm"),
        Delta("a", logprobs=[SCORE]),
        ReasoningDelta(".", signature="s"),
        RefusalDelta("no", logprobs=[SCORE, SCORE]),
        Delta("b"),
        Citation("https://a.example", "A", 0, 1),
    ).choices
    assert choice.text == ["a", "b"]
    assert choice.reasoning == ["Hm", "."]
    assert choice.refusal == ["no"]
    assert choice.logprobs == [SCORE]
    assert choice.refusal_logprobs == [SCORE, SCORE]
    assert choice.citations == [Citation("https://a.example", "A", 0, 1)]


def test_several_answers_are_told_apart_and_each_has_its_reason() -> None:
    outcome = _outcome(
        Delta("c", choice=2),
        Delta("a"),
        ToolCallStart("1", "locate", choice=1),
        Complete("stop", further=("tool_calls", "length")),
    )
    assert [choice.text for choice in outcome.choices] == [["a"], [], ["c"]]
    assert [choice.finish_reason for choice in outcome.choices] == ["stop", "tool_calls", "length"]
    assert [call.call_id for call in outcome.choices[1].tool_calls] == ["1"]


def test_a_choice_that_said_nothing_still_has_its_reason() -> None:
    outcome = _outcome(Complete("length", further=("stop",)))
    assert [choice.finish_reason for choice in outcome.choices] == ["length", "stop"]


def test_calls_carry_all_that_became_of_them_in_their_order() -> None:
    result = ToolCallResult("2", "ok", "found", 0.5)
    outcome = _outcome(
        ToolCallStart("1", "locate"),
        ToolCallStart("2", "look", "server"),
        ToolCallDelta("1", '{"a"'),
        ToolCallDelta("2", "{}"),
        ToolCallDelta("1", ":1}"),
        ToolCallReady("1", '{"a":1}'),
        ToolCallReady("2", "{}"),
        ToolCallProgress("2", "half"),
        result,
    )
    assert list(outcome.calls) == ["1", "2"]
    one, two = outcome.calls.values()
    assert (one.arguments, one.ready, one.result, one.executor) == ('{"a":1}', True, None, "client")
    assert (two.arguments, two.ready, two.result, two.executor) == ("{}", True, result, "server")
    assert outcome.choices[0].tool_calls == [one, two]


def test_arguments_that_were_cut_are_kept_and_not_ready() -> None:
    outcome = _outcome(ToolCallStart("1", "locate"), ToolCallDelta("1", '{"a'), Complete("length"))
    assert outcome.calls["1"].arguments == '{"a'
    assert not outcome.calls["1"].ready


@pytest.mark.parametrize(
    "end", [Complete(usage=Usage(1, 2)), ProviderTruncated("cut").event()], ids=["whole", "failed"]
)
def test_the_end_is_kept(end: Event) -> None:
    assert _outcome(StepStart(1, "m", "p"), end).end is end


@given(st.lists(st.text()), st.data())
def test_an_outcome_does_not_depend_on_batches(texts: list[str], data: st.DataObject) -> None:
    events = [*map(Delta, texts), Complete()]
    cut = data.draw(st.integers(0, len(events)))
    outcome = Outcome()
    outcome.feed(events[:cut])
    outcome.feed(events[cut:])
    assert outcome == _outcome(*events)
