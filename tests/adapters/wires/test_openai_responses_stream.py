"""Streams of the Responses API are OpenAI's sequence of events, and amount to the whole answer."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from adapters.wires.openai_responses import OpenAIResponsesWire
from adapters.wires.openai_responses.request import ResponsesRequest
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    ReasoningDelta,
    StepStart,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.outcome import Outcome
from gateway.records import Call, Dialect
from gateway.server.conformance import Probe, catalogue
from gateway.sse import dump
from tests.samples import a_call

Valid = Callable[[str, object], None]
Told = dict[str, Any]

WIRE = OpenAIResponsesWire()
PROBES = [pytest.param(probe, id=name) for name, probe in catalogue().items()]


def _stream(call: Call, events: Sequence[Event]) -> bytes:
    encoder = WIRE.encoder(call)
    return encoder.begin() + b"".join(encoder.encode((event,)) for event in events)


def _read(data: bytes) -> Iterator[Told]:
    text = data.decode()
    assert text.endswith("\n\n")
    for block in text[:-2].split("\n\n"):
        match = re.fullmatch(r"event: ([a-z_.]+)\ndata: (.+)", block)
        assert match, f"not a frame of ours: {block[:200]!r}"
        told = json.loads(match[2])
        assert told["type"] == match[1]
        yield told


def _told(events: Sequence[Event], call: Call | None = None) -> list[Told]:
    return list(_read(_stream(call or a_call(), events)))


def _names(told: Sequence[Told]) -> list[str]:
    return [one["type"].removeprefix("response.") for one in told]


def _whole(call: Call, events: Sequence[Event]) -> dict[str, Any]:
    outcome = Outcome()
    outcome.feed(events)
    body: dict[str, Any] = json.loads(dump(WIRE.render(call, outcome)))
    return body


def _accumulate(told: Sequence[Told]) -> list[dict[str, Any]]:
    """The items as a client puts them together from the pieces of their text."""
    items: dict[int, dict[str, Any]] = {}
    for one in told:
        index = one.get("output_index")
        if one["type"] == "response.output_item.added":
            assert index not in items, "an index stands for one item"
            assert index == len(items)
            items[index] = one["item"]
            continue
        if index is None:
            continue
        item = items[index]
        assert item.get("done") is None, "nothing comes after the end of an item"
        if "item_id" in one:
            assert one["item_id"] == item["id"]
        if one["type"] == "response.output_item.done":
            for name in ("arguments", "summary"):
                assert item.get(name) == one["item"].get(name)
            assert _texts(item) == _texts(one["item"])
            items[index] = {**one["item"], "done": True}
        else:
            _apply(item, one)
    return [{k: v for k, v in items[index].items() if k != "done"} for index in sorted(items)]


def _apply(item: dict[str, Any], one: Told) -> None:
    match one["type"].removeprefix("response."):
        case "content_part.added":
            assert one["content_index"] == len(item["content"])
            item["content"].append(one["part"])
        case "output_text.delta":
            item["content"][one["content_index"]]["text"] += one["delta"]
        case "refusal.delta":
            item["content"][one["content_index"]]["refusal"] += one["delta"]
        case "output_text.done":
            assert item["content"][one["content_index"]]["text"] == one["text"]
        case "reasoning_summary_part.added":
            item["summary"].append(one["part"])
        case "reasoning_summary_text.delta":
            item["summary"][one["summary_index"]]["text"] += one["delta"]
        case "function_call_arguments.delta" | "mcp_call_arguments.delta":
            item["arguments"] += one["delta"]
        case "function_call_arguments.done" | "mcp_call_arguments.done":
            assert item["arguments"] == one["arguments"]


def _texts(item: dict[str, Any]) -> list[str]:
    return [part.get("text", part.get("refusal")) for part in item.get("content", [])]


@pytest.mark.parametrize("probe", PROBES)
def test_every_event_is_one_of_openais(probe: Probe, valid: Valid) -> None:
    told = _told(probe.events, probe.call(a_call().key, Dialect.NAMED))
    for one in told:
        valid("ResponseStreamEvent", one)
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    assert _names(told)[:2] == ["created", "in_progress"]
    end = probe.events[-1]
    ends = ("completed", "incomplete", "failed")
    assert [name for name in _names(told) if name in ends] == [_names(told)[-1]]
    assert (_names(told)[-2:] == ["error", "failed"]) is isinstance(end, Error)
    assert len({one["response"]["id"] for one in told if "response" in one}) == 1


@pytest.mark.parametrize("probe", PROBES)
def test_the_pieces_amount_to_the_answer(probe: Probe, valid: Valid) -> None:
    call = probe.call(a_call().key, Dialect.NAMED)
    told = _told(probe.events, call)
    items, final = _accumulate(told), told[-1]["response"]
    assert [item["id"] for item in items] == [item["id"] for item in final["output"]]
    if isinstance(probe.events[-1], Error):
        return
    assert items == final["output"], "every item has ended, and ended like this"
    body = _whole(call, probe.events)
    assert body == final
    valid("Response", body)


@pytest.mark.parametrize("probe", PROBES)
def test_bytes_do_not_depend_on_how_events_were_batched(probe: Probe) -> None:
    call = probe.call(a_call().key, Dialect.NAMED)
    encoder = WIRE.encoder(call)
    assert encoder.begin() + encoder.encode(probe.events) == _stream(call, probe.events)


@pytest.mark.parametrize("probe", PROBES)
def test_no_reader_splits_a_frame_elsewhere(probe: Probe) -> None:
    text = _stream(probe.call(a_call().key, Dialect.NAMED), probe.events).decode()
    assert text.splitlines() == text[:-1].split("\n")


def test_a_text_is_told_in_openais_order() -> None:
    told = _told([StepStart(1, "m", "p"), Delta("Hel"), Delta("lo"), Complete()])
    assert _names(told) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


def test_calls_side_by_side_are_open_side_by_side() -> None:
    told = _told(
        [
            ToolCallStart("a", "look"),
            ToolCallStart("b", "look"),
            ToolCallDelta("b", '{"x":'),
            ToolCallDelta("a", "{}"),
            ToolCallDelta("b", "1}"),
            ToolCallReady("b", '{"x":1}'),
            ToolCallReady("a", "{}"),
            Complete("tool_calls"),
        ]
    )
    calls = told[-1]["response"]["output"]
    assert [(call["call_id"], call["arguments"]) for call in calls] == [
        ("a", "{}"),
        ("b", '{"x":1}'),
    ]
    assert [one["output_index"] for one in told if one["type"] == "response.output_item.done"] == [
        1,
        0,
    ]
    assert _accumulate(told) == calls


def test_text_around_a_tool_is_a_message_before_it_and_one_after_it() -> None:
    told = _told(
        [
            Delta("Let me see. "),
            ToolCallStart("s1", "calculator", "server"),
            ToolCallReady("s1", '{"expression":"6*7"}'),
            ToolCallResult("s1", "ok", "42"),
            Delta("It is 42."),
            Complete(),
        ]
    )
    output = told[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["message", "mcp_call", "message"]
    assert output[1]["output"] == "42"
    assert (output[1]["server_label"], output[1]["name"]) == ("sluice", "calculator")
    assert _names(told)[8:14] == [
        "output_item.added",
        "mcp_call.in_progress",
        "mcp_call_arguments.delta",
        "mcp_call_arguments.done",
        "mcp_call.completed",
        "output_item.done",
    ]


def test_a_tool_of_an_mcp_server_is_told_under_its_name() -> None:
    told = _told(
        [
            ToolCallStart("s1", "wiki_read", "server", server="wiki"),
            ToolCallReady("s1", "{}"),
            ToolCallResult("s1", "timeout", ""),
            Complete(),
        ]
    )
    call = told[-1]["response"]["output"][0]
    assert (call["server_label"], call["name"], call["status"]) == ("wiki", "wiki_read", "failed")
    assert call["error"]["content"] == [{"type": "text", "text": "timeout"}]
    assert "mcp_call.failed" in _names(told)


def test_a_tool_of_the_gateway_that_comes_back_is_the_call_that_it_was() -> None:
    told = _told(
        [
            ToolCallStart("call_s1", "calculator", "server"),
            ToolCallReady("call_s1", '{"expression":"6*7"}'),
            ToolCallResult("call_s1", "ok", "42"),
            Delta("42."),
            Complete(),
        ]
    )
    again = WIRE.parse({"model": "m", "input": told[-1]["response"]["output"]}, 9)
    function = {"name": "calculator", "arguments": '{"expression":"6*7"}'}
    assert again.messages == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_s1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_s1", "content": "42"},
        {"role": "assistant", "content": "42."},
    ]


def test_places_of_citations_count_from_their_own_message() -> None:
    told = _told(
        [
            Delta("Looking. "),
            ToolCallStart("s1", "web_search", "provider"),
            ToolCallReady("s1", '{"query":"tides"}'),
            ToolCallResult("s1", "ok", "Found."),
            Delta("High at six."),
            Citation("https://example.com/", "Tides", 9, 21),
            Complete(),
        ]
    )
    part = told[-1]["response"]["output"][2]["content"][0]
    assert part["annotations"][0]["start_index"] == 0
    assert part["text"][: part["annotations"][0]["end_index"]] == "High at six."


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        ("stop", "completed", None),
        ("tool_calls", "completed", None),
        ("length", "incomplete", {"reason": "max_output_tokens"}),
        ("content_filter", "incomplete", {"reason": "content_filter"}),
    ],
)
def test_the_end_says_whether_the_answer_is_whole(
    reason: Any, status: str, details: object
) -> None:
    told = _told([Delta("Hi"), Complete(reason)])
    final = told[-1]["response"]
    assert told[-1]["type"] == f"response.{status}"
    assert (final["status"], final["incomplete_details"]) == (status, details)
    assert final["output"][0]["status"] == status


def test_arguments_that_are_cut_are_not_called_complete() -> None:
    told = _told([ToolCallStart("a", "look"), ToolCallDelta("a", '{"x'), Complete("length")])
    call = told[-1]["response"]["output"][0]
    assert (call["status"], call["arguments"]) == ("incomplete", '{"x')
    assert "function_call_arguments.done" not in _names(told)


THINKING = [
    ReasoningDelta("Hm, "),
    ReasoningDelta("tides.", signature="sig1"),
    ReasoningDelta("", redacted="opaque"),
    Delta("Six."),
    Complete(),
]


def test_thinking_is_a_summary_and_sealed_only_when_asked() -> None:
    reasoning = _told(THINKING)[-1]["response"]["output"][0]
    assert reasoning["summary"] == [{"type": "summary_text", "text": "Hm, tides."}]
    assert "encrypted_content" not in reasoning


def test_sealed_thinking_comes_back_as_its_provider_said_it() -> None:
    request = WIRE.parse(
        {"model": "m", "input": "Hi", "include": ["reasoning.encrypted_content"]}, 9
    )
    assert isinstance(request, ResponsesRequest)
    output = _told(THINKING, a_call(request))[-1]["response"]["output"]
    again = WIRE.parse({"model": "m", "input": [*output, {"role": "user", "content": "?"}]}, 9)
    assert again.messages[0] == {
        "role": "assistant",
        "content": "Six.",
        "reasoning_content": "Hm, tides.",
        "reasoning_details": [{"text": "Hm, tides.", "signature": "sig1"}, {"redacted": "opaque"}],
    }


def test_tools_of_the_gateway_are_not_told_where_notifications_are_off() -> None:
    events = [
        Delta("Let me see. "),
        ToolCallStart("s1", "calculator", "server"),
        ToolCallReady("s1", "{}"),
        ToolCallResult("s1", "ok", "42"),
        Delta("42."),
        Complete(),
    ]
    told = _told(events, a_call(dialect=Dialect.OFF))
    assert [item["type"] for item in told[-1]["response"]["output"]] == ["message"]


def test_an_answer_says_again_what_was_asked(valid: Valid) -> None:
    asked = {
        "instructions": "Be brief.",
        "metadata": {"a": "b"},
        "max_output_tokens": 5,
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low", "summary": "auto"},
        "temperature": 0.5,
        "text": {"format": {"type": "json_object"}, "verbosity": "low"},
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
        "tool_choice": {"type": "function", "name": "look"},
        "top_p": 0.5,
        "truncation": "auto",
        "user": "u",
    }
    call = a_call(WIRE.parse({"model": "m", "input": "Hi", **asked}, 9))
    body = _whole(call, [Delta("Hi"), Complete()])
    valid("Response", body)
    tool = {"description": None, "strict": None, "type": "function", "name": "look"}
    said = {**asked, "tools": [{**tool, "parameters": {"type": "object"}}], "store": True}
    assert {name: body[name] for name in said} == said


@pytest.mark.parametrize(
    "asked",
    [
        {"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}},
        {"tools": [{"type": "web_search_preview"}], "tool_choice": "required"},
        {
            "tools": [{"type": "function", "name": "look", "parameters": None}],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "auto",
                "tools": [{"type": "function", "name": "look"}],
            },
        },
        {
            "text": {
                "verbosity": None,
                "format": {
                    "type": "json_schema",
                    "name": "n",
                    "schema": {},
                    "strict": None,
                    "description": None,
                },
            }
        },
        {"conversation": "conv_1", "reasoning": {"effort": "none"}, "top_logprobs": 0},
    ],
    ids=["search", "preview", "allowed tools", "nulls", "conversation"],
)
def test_what_an_answer_says_again_fits_openais_schema(
    asked: dict[str, object], valid: Valid
) -> None:
    call = a_call(WIRE.parse({"model": "m", "input": "Hi", **asked}, 9))
    valid("Response", _whole(call, [Delta("Hi"), Complete()]))
