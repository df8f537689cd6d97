import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.wires.openai_chat.encoder import ChatEncoder
from gateway.errors import ShuttingDown
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
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
from gateway.records import Dialect
from gateway.sse import DONE
from tests.samples import CALL_ID, CREATED, a_call, a_request

EVENTS: list[Event] = [
    StepStart(1, "m", "p"),
    ReasoningDelta("Hm"),
    Delta("a"),
    Delta("b", choice=1),
    RefusalDelta("c"),
    Citation("https://x.example"),
    ToolCallStart("s", "look", "server"),
    ToolCallDelta("s", "{"),
    ToolCallReady("s", "{}"),
    ToolCallProgress("s", "half"),
    ToolCallStart("c", "locate"),
    ToolCallDelta("c", "{}"),
    ToolCallReady("c", "{}"),
    ToolCallResult("s", "ok", "found"),
    Complete(usage=Usage(1, 2), further=("stop",)),
]


def _encode(
    *batches: Sequence[Event], dialect: Dialect = Dialect.INLINE, **request: object
) -> list[bytes]:
    encoder = ChatEncoder(a_call(a_request(**request), dialect=dialect))
    return [encoder.encode(batch) for batch in batches]


def _chunks(data: bytes) -> list[dict[str, Any]]:
    """Those of unnamed frames, without the end."""
    blocks = data.decode().split("\n\n")
    return [
        json.loads(block.removeprefix("data: "))
        for block in blocks
        if block.startswith("data: {") and block
    ]


@given(st.data())
@pytest.mark.parametrize("dialect", list(Dialect))
def test_bytes_do_not_depend_on_how_events_were_batched(
    dialect: Dialect, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(EVENTS) - 1))))
    edges = [0, *cuts, len(EVENTS)]
    batches = [EVENTS[a:b] for a, b in pairwise(edges)]
    whole = _encode(EVENTS, dialect=dialect)[0]
    assert b"".join(_encode(*batches, dialect=dialect)) == whole


def test_every_part_is_whole_frames() -> None:
    for data in _encode(*([event] for event in EVENTS)):
        assert data == b"" or data.endswith(b"\n\n")


def test_all_chunks_of_a_response_are_of_one_completion() -> None:
    chunks = _chunks(b"".join(_encode(EVENTS, model="nick/name")))
    heads = {(c["id"], c["object"], c["created"], c["model"]) for c in chunks}
    name = "chatcmpl-" + CALL_ID.replace("-", "")
    assert heads == {(name, "chat.completion.chunk", CREATED, "nick/name")}


def test_a_models_name_cannot_break_out_of_its_chunk() -> None:
    name = '"},{"x":"\u2028\n\ndata: [DONE]'
    data = b"".join(_encode([Delta("a")], [Complete()], model=name))
    assert all(chunk["model"] == name for chunk in _chunks(data))
    assert data.count(b"\n\n") == 4


@given(st.text())
def test_any_text_arrives_as_it_was(text: str) -> None:
    data = b"".join(_encode([Delta("x")], [Delta(text)], [ReasoningDelta(text)]))
    deltas = [chunk["choices"][0]["delta"] for chunk in _chunks(data)]
    assert deltas[2] == {"content": text}
    assert deltas[3:] == ([{"reasoning_content": text}] if text else [])


def test_nothing_is_written_for_what_a_client_does_not_see() -> None:
    assert _encode([StepStart(1, "m", "p")]) == [b""]
    assert _encode([ReasoningDelta("", signature="s")], [ReasoningDelta("", redacted="r")]) == [
        b"",
        b"",
    ]
    off = _encode(EVENTS[6:7], EVENTS[7:8], dialect=Dialect.OFF)
    assert off == [b"", b""]


@pytest.mark.parametrize("asked", [True, False])
def test_usage_comes_once_and_only_if_asked(asked: bool) -> None:
    [data] = _encode([Complete(usage=Usage(10, 5, 3, 2, 1))], include_usage=asked)
    usages = [chunk for chunk in _chunks(data) if "usage" in chunk]
    assert len(usages) == asked
    if asked:
        assert usages[0]["choices"] == []
        assert usages[0]["usage"]["total_tokens"] == 15
        assert usages[0]["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
        assert usages[0]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 1
    assert data.endswith(DONE)
    assert data.count(DONE) == 1


def test_usage_that_is_not_known_is_not_made_up() -> None:
    [data] = _encode([Complete(usage=None)], include_usage=True)
    assert not [chunk for chunk in _chunks(data) if "usage" in chunk]


def test_calls_of_each_choice_are_counted_apart() -> None:
    starts = [ToolCallStart(f"{n}", "locate", choice=n % 2) for n in range(4)]
    chunks = _chunks(_encode(starts)[0])
    calls = [
        (c["choices"][0]["index"], call["index"], call["id"])
        for c in chunks
        for call in c["choices"][0]["delta"].get("tool_calls", [])
    ]
    assert calls == [(0, 0, "0"), (1, 0, "1"), (0, 1, "2"), (1, 1, "3")]


@pytest.mark.parametrize(
    ("pieces", "written"),
    [
        pytest.param(['{"a"', ":1}"], ['{"a"', ":1}"], id="streamed"),
        pytest.param([], ['{"a":1}'], id="whole"),
        pytest.param(["", ""], ['{"a":1}'], id="only empty pieces"),
        pytest.param(['{"a":1}', ""], ['{"a":1}'], id="an empty piece at the end"),
    ],
)
def test_arguments_are_written_exactly_once(pieces: list[str], written: list[str]) -> None:
    events: list[Event] = [ToolCallStart("c", "locate")]
    events += [ToolCallDelta("c", piece) for piece in pieces]
    chunks = _chunks(_encode([*events, ToolCallReady("c", '{"a":1}')])[0])
    calls = [call for c in chunks for call in c["choices"][0]["delta"].get("tool_calls", [])]
    assert [call["function"]["arguments"] for call in calls] == ["", *written]
    assert [call.get("id") for call in calls] == ["c"] + [None] * len(written)


def _notified(arguments: str) -> dict[str, Any]:
    events = [ToolCallStart("s", "look", "server"), ToolCallReady("s", arguments)]
    return _chunks(_encode(events)[0])[-1]


@pytest.mark.parametrize(
    ("arguments", "shown", "query"),
    [
        pytest.param('{"query":"a","n":1}', {"query": "a", "n": 1}, "a", id="a query"),
        pytest.param('{"expression":"1+1"}', {"expression": "1+1"}, "1+1", id="one text"),
        pytest.param('{"a":"b","c":"d"}', {"a": "b", "c": "d"}, '{"a":"b","c":"d"}', id="several"),
        pytest.param('{"n":1}', {"n": 1}, '{"n":1}', id="one number"),
        pytest.param('{"query":["a"]}', {"query": ["a"]}, '{"query":["a"]}', id="an odd query"),
        pytest.param("{}", {}, None, id="none"),
        pytest.param("", None, None, id="hidden"),
        pytest.param("{cut", "{cut", "{cut", id="no JSON"),
        pytest.param("3", 3, "3", id="no object"),
    ],
)
def test_what_a_call_is_about(arguments: str, shown: object, query: str | None) -> None:
    chunk = _notified(arguments)
    assert chunk["tool_notification"].get("arguments") == shown
    assert chunk.get("query") == query


@pytest.mark.parametrize("depth", [50, 250, 251, 252, 253, 254, 255, 1000])
def test_arguments_of_any_depth_are_told(depth: int) -> None:
    arguments = '{"a":' + "[" * depth + "]" * depth + "}"
    chunk = _notified(arguments)
    shown = chunk["tool_notification"]["arguments"]
    assert arguments == (shown if isinstance(shown, str) else orjson.dumps(shown).decode())


def test_notifications_are_numbered_through_all_calls() -> None:
    events: list[Event] = []
    for name in ("a", "b"):
        events += [ToolCallStart(name, "look", "server"), ToolCallReady(name, "{}")]
    events += [ToolCallResult("b", "ok", ""), ToolCallResult("a", "error", "")]
    told = [c["tool_notification"] for c in _chunks(_encode(events)[0])[1:]]
    assert [(t["id"], t["status"], t["seq"]) for t in told] == [
        ("a", "started", 1),
        ("b", "started", 2),
        ("b", "completed", 3),
        ("a", "failed", 4),
    ]


def test_open_webuis_status_line_is_always_closed() -> None:
    for status in ("ok", "error", "denied", "cancelled", "timeout"):
        events = [ToolCallStart("s", "look", "server"), ToolCallReady("s", "{}")]
        events += [ToolCallProgress("s", ""), ToolCallResult("s", status, "x")]
        chunks = _chunks(_encode(events, dialect=Dialect.OPENWEBUI)[0])[1:]
        lines = [chunk["event"]["data"] for chunk in chunks]
        assert [line["done"] for line in lines] == [False, False, True]
        assert all(line["description"].rstrip(": ") == line["description"] for line in lines)


def test_open_webui_is_told_each_source_once_and_in_its_own_words() -> None:
    page = Citation("https://x.example/a", "A page", 0, 5)
    told = b"".join(
        _encode(
            [Delta("So."), page],
            [page, Citation("https://x.example/b")],
            [Complete()],
            dialect=Dialect.OPENWEBUI,
        )
    )
    chunks = _chunks(told)
    sources = [chunk["event"] for chunk in chunks if "event" in chunk]
    assert sources == [
        {
            "type": "source",
            "data": {
                "source": {"name": name, "url": url},
                "document": [name],
                "metadata": [{"source": url, "name": name}],
            },
        }
        for name, url in (
            ("A page", "https://x.example/a"),
            ("https://x.example/b", "https://x.example/b"),
        )
    ]
    assert b"annotations" not in told


@pytest.mark.parametrize("dialect", [d for d in Dialect if d is not Dialect.OFF])
def test_tools_that_run_when_an_answer_is_broken_off_are_told_as_cancelled(
    dialect: Dialect,
) -> None:
    *_, last = _encode(
        [ToolCallStart("a", "look", "server"), ToolCallReady("a", "{}")],
        [ToolCallStart("b", "seek", "server"), ToolCallReady("b", "{}")],
        [ToolCallResult("a", "ok", "found")],
        [ShuttingDown("Stopping.").event()],
        dialect=dialect,
    )
    frames = last.decode().removesuffix("\n\n").split("\n\n")
    assert len(frames) == 2
    record = json.loads(frames[0].split("data: ")[1])
    told = record.get("tool_notification", record)
    assert (told["id"], told["status"]) == ("b", "cancelled")
    if dialect is Dialect.OPENWEBUI:
        assert record["event"]["data"]["done"] is True
    assert frames[1].startswith("event: error")
