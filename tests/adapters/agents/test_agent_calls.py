import pytest

from adapters.agents.calls import Calls
from gateway.events import (
    Event,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)


def test_a_call_is_told_from_its_start_to_its_result() -> None:
    calls = Calls()
    events: list[Event] = [
        *calls.start("a", "look"),
        *calls.start("a", "look"),
        *calls.write("a", '{"x"'),
        *calls.write("a", ""),
        *calls.ready("a", "look", '{"x": 1}'),
        *calls.ready("a", "look", '{"x": 1}'),
        *calls.finish("a", "ok", "seen"),
        *calls.finish("a", "ok", "seen"),
    ]
    assert [type(event) for event in events] == [
        ToolCallStart,
        ToolCallDelta,
        ToolCallReady,
        ToolCallResult,
    ]
    assert events[0] == ToolCallStart("a", "look", "server")
    assert events[2] == ToolCallReady("a", '{"x": 1}')
    result = events[3]
    assert isinstance(result, ToolCallResult)
    assert (result.status, result.output) == ("ok", "seen")
    assert 0 <= result.duration < 5


def test_a_call_that_was_not_announced_starts_when_it_runs() -> None:
    assert Calls().ready("a", "look", "") == [
        ToolCallStart("a", "look", "server"),
        ToolCallReady("a", "{}"),
    ]


@pytest.mark.parametrize("call_id", ["call_0", ""])
def test_an_id_that_comes_again_is_another_call(call_id: str) -> None:
    calls = Calls()
    ids = []
    for _ in range(3):
        [start] = calls.start(call_id, "look")
        assert isinstance(start, ToolCallStart)
        [result] = calls.finish(call_id, "ok", "")
        assert isinstance(result, ToolCallResult)
        assert result.call_id == start.call_id
        ids.append(start.call_id)
    assert len(set(ids)) == 3
    assert all(ids)


def test_what_belongs_to_no_call_is_not_told() -> None:
    calls = Calls()
    assert calls.write("a", "x") == calls.finish("a", "ok", "") == calls.report({"msg": "x"}) == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"msg": "half"}, ("half", None, None)),
        ({"message": "half", "done": 1, "total": 2}, ("half", 1, 2)),
        ({"progress": 0.5, "status": "busy"}, ("busy", 0.5, None)),
        ({"rows": [1, 2]}, ('{"rows":[1,2]}', None, None)),
        ({"done": 0, "total": 3, "msg": ""}, ('{"done":0,"total":3,"msg":""}', 0, 3)),
        ({"done": True, "msg": "x"}, ("x", None, None)),
    ],
)
def test_reports_are_read_by_their_usual_names(
    fields: dict[str, object], told: tuple[object, ...]
) -> None:
    calls = Calls()
    calls.ready("a", "look", "{}")
    assert calls.report(fields) == [ToolCallProgress("a", *told)]  # type: ignore[arg-type]


def test_a_report_is_of_the_call_that_it_names_or_of_the_only_one() -> None:
    calls = Calls()
    calls.ready("a", "look", "{}")
    calls.ready("b", "look", "{}")
    assert calls.report({"msg": "x"}, "b") == [ToolCallProgress("b", "x")]
    assert calls.report({"msg": "x"}) == []
    calls.finish("b", "ok", "")
    assert calls.report({"msg": "x"}) == [ToolCallProgress("a", "x")]
