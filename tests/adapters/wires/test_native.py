import json
import re
from collections.abc import Mapping
from typing import get_args

import pytest

from adapters.wires.native import NativeWire
from gateway.errors import InvalidRequest
from gateway.events import Complete, Delta, Error, Event, ToolCallStart, Usage
from gateway.outcome import Outcome
from gateway.request import ChatRequest
from tests.samples import CALL_ID, a_call

USER = {"role": "user", "content": "Hi"}


def _parse(**fields: object) -> ChatRequest:
    return NativeWire().parse({"model": "m", "messages": [USER], **fields}, 99)


def test_it_streams_and_tells_usage_unless_told_otherwise() -> None:
    request = _parse()
    assert request == ChatRequest(
        model="m", messages=[USER], tools=[], stream=True, include_usage=True, size=99
    )
    assert not _parse(stream=False).stream


def test_one_message_is_a_conversation() -> None:
    request = NativeWire().parse({"model": "m", "message": "Hi"}, 0)
    assert request.messages == [USER]
    assert request.options == {}


def test_other_fields_are_passed_on_but_those_that_other_wires_read() -> None:
    request = _parse(temperature=0.5, anything=[1], n=1, stream_options={}, seed=None, tools=None)
    assert request.options == {"temperature": 0.5, "anything": [1]}
    assert request.tools == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": 5}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"stream": "no"}, "stream"),
        ({"tools": {"a": 1}}, "tools"),
        ({"tools": ["look"]}, "tools[0]"),
        ({"tools": [{"type": "function", "function": {"name": {}}}]}, "tools[0].function.name"),
        ({"n": 2}, "n"),
        ({"n": "1"}, "n"),
    ],
    ids=str,
)
def test_a_mistake_names_its_field(fields: Mapping[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _parse(**fields)
    assert caught.value.param == param
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"message": "Hi"}, "model"),
        ({"model": "m"}, "messages"),
        ({"model": "m", "message": ""}, "message"),
        ({"model": "m", "message": 3}, "message"),
    ],
    ids=str,
)
def test_what_is_needed_is_missed(body: Mapping[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        NativeWire().parse(body, 0)
    assert caught.value.param == param


def test_every_event_has_a_name_of_its_own() -> None:
    names = set()
    for kind in get_args(Event):
        fields = {"call_id": "1"} if "call_id" in kind.__slots__ else {}
        needed = {
            "text": "x", "url": "x", "name": "x", "fragment": "x", "arguments": "x", "message": "x",
            "status": "ok", "output": "x", "number": 1, "model": "x", "provider": "x",
            "type": "x", "code": None,
        }  # fmt: skip
        if kind is not Complete:
            fields |= {name: needed[name] for name in kind.__slots__ if name in needed}
        if kind is Error:
            fields["status"] = 500
        data = NativeWire().encoder(a_call()).encode([kind(**fields)])
        match = re.fullmatch(rb"event: ([a-z_]+)\ndata: (.+)\n\n", data)
        assert match
        body = json.loads(match[2])
        assert body["type"] == match[1].decode()
        assert body["seq"] == 1
        names.add(body["type"])
    assert len(names) == len(get_args(Event))


def test_a_whole_answer_tells_unknown_usage_as_null() -> None:
    outcome = Outcome()
    outcome.feed([Delta("Hi"), ToolCallStart("1", "locate"), Complete("length", usage=None)])
    body = NativeWire().render(a_call(), outcome)
    assert body["id"] == CALL_ID
    assert (body["text"], body["finish_reason"], body["usage"]) == ("Hi", "length", None)
    assert body["tool_calls"] == [
        {"id": "1", "name": "locate", "executor": "client", "arguments": ""}
    ]
    told = Outcome()
    told.feed([Complete(usage=Usage(1, 2))])
    usage = NativeWire().render(a_call(), told)["usage"]
    assert usage == {
        "input_tokens": 1,
        "output_tokens": 2,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
    }
