"""Chunks into events, with all the deviations of real servers. No network."""

import itertools
from typing import TypeAlias

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.providers.chunks import ChunkReader
from gateway.errors import GatewayError, ProviderTruncated
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
    Usage,
)

Json: TypeAlias = dict[str, object]

STOP = {"index": 0, "delta": {}, "finish_reason": "stop"}
TOOLS = {"index": 0, "delta": {}, "finish_reason": "tool_calls"}


def chunk(*choices: object, **further: object) -> Json:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**head, "choices": list(choices), **further}


def delta(index: int = 0, **fields: object) -> Json:
    return chunk({"index": index, "delta": fields, "finish_reason": None})


def calls(*pieces: object) -> Json:
    return delta(tool_calls=list(pieces))


def piece(arguments: object = None, name: str | None = None, **place: object) -> Json:
    function = {"name": name, "arguments": arguments}
    return {
        **place,
        "function": {key: value for key, value in function.items() if value is not None},
    }


def stream(*chunks: object, done: bool = True) -> bytes:
    payloads = [load if isinstance(load, bytes) else orjson.dumps(load) for load in chunks]
    return b"".join(b"data: %s\n\n" % payload for payload in [*payloads, *[b"[DONE]"] * done])


def read(
    body: bytes, *, framed: bool = True, cuts: list[int] | None = None
) -> tuple[list[Event], GatewayError | None]:
    reader = ChunkReader("up")
    events: list[Event] = []
    places = sorted({0, *(cut for cut in cuts or () if cut < len(body)), len(body)})
    for start, end in itertools.pairwise(places):
        events += reader.feed(body[start:end])
        if reader.ended or reader.failure:
            return events, reader.failure
    events += reader.finish(framed)
    return events, reader.failure


def whole(*chunks: object) -> list[Event]:
    events, failure = read(stream(*chunks))
    assert failure is None
    return events


def tool_calls(events: list[Event]) -> list[tuple[str, str, str | None]]:
    """Id, name and final arguments of each call, having checked that its pieces add up."""
    names = {event.call_id: event.name for event in events if isinstance(event, ToolCallStart)}
    written = dict.fromkeys(names, "")
    ready: dict[str, str | None] = dict.fromkeys(names)
    for event in events:
        match event:
            case ToolCallDelta(call_id, fragment):
                assert ready[call_id] is None
                written[call_id] += fragment
            case ToolCallReady(call_id, arguments):
                assert ready[call_id] is None
                assert arguments == (written[call_id] or "{}")
                ready[call_id] = arguments
    return [(call_id, name, ready[call_id]) for call_id, name in names.items()]


@pytest.mark.parametrize(
    ("chunks", "events"),
    [
        pytest.param(
            [delta(role="assistant", content=""), delta(content="Hé"), delta(content="llo")],
            [Delta("Hé"), Delta("llo")],
            id="text",
        ),
        pytest.param(
            [delta(role="assistant", content="a"), delta(content=None)], [Delta("a")], id="null"
        ),
        pytest.param(
            [
                delta(reasoning_content="hm", content=None),
                delta(reasoning="so"),
                delta(content="a"),
            ],
            [ReasoningDelta("hm"), ReasoningDelta("so"), Delta("a")],
            id="reasoning under both names",
        ),
        pytest.param(
            [delta(reasoning_content="hm", reasoning="hm", content="a")],
            [ReasoningDelta("hm"), Delta("a")],
            id="reasoning twice in one chunk",
        ),
        pytest.param([delta(refusal="no")], [RefusalDelta("no")], id="refusal"),
        pytest.param(
            [
                chunk(
                    {
                        "index": 0,
                        "delta": {"content": "a"},
                        "logprobs": {"content": [{"token": "a", "logprob": -1}], "refusal": None},
                    }
                )
            ],
            [Delta("a", logprobs=[{"token": "a", "logprob": -1}])],
            id="logprobs",
        ),
        pytest.param(
            [
                chunk(
                    {
                        "index": 0,
                        "delta": {"refusal": "n"},
                        "logprobs": {"content": None, "refusal": [{"token": "n"}]},
                    }
                )
            ],
            [RefusalDelta("n", logprobs=[{"token": "n"}])],
            id="logprobs of a refusal",
        ),
        pytest.param(
            [
                delta(
                    annotations=[
                        {
                            "type": "url_citation",
                            "url_citation": {
                                "url": "https://example.org",
                                "title": "T",
                                "start_index": 1,
                                "end_index": 2,
                            },
                        },
                        {"type": "file_citation"},
                        None,
                    ]
                )
            ],
            [Citation("https://example.org", "T", 1, 2)],
            id="citation",
        ),
        pytest.param(
            [
                delta(
                    content=[
                        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                        {"type": "text", "text": "a"},
                        {"type": "reference"},
                    ]
                )
            ],
            [ReasoningDelta("hm"), Delta("a")],
            id="content as parts",
        ),
        pytest.param(
            [{"choices": []}, {}, b"null", b"[1]", chunk(), chunk(None, {"index": 0})],
            [],
            id="nothing in it",
        ),
        pytest.param([{**delta(content="a"), "error": None}], [Delta("a")], id="error is null"),
        pytest.param([chunk({"delta": {"content": "a"}})], [Delta("a")], id="no index"),
        pytest.param([b"", delta(content="a")], [Delta("a")], id="empty data"),
    ],
)
def test_a_chunk_becomes_events(chunks: list[object], events: list[Event]) -> None:
    assert whole(*chunks, chunk(STOP)) == [*events, Complete("stop")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", Complete("stop")),
        ("length", Complete("length")),
        ("content_filter", Complete("content_filter")),
        ("tool_calls", Complete("tool_calls")),
        ("function_call", Complete("tool_calls", "function_call")),
        ("model_length", Complete("length", "model_length")),
        ("eos", Complete("stop", "eos")),
    ],
)
def test_a_finish_reason_is_one_of_four(reason: str, expected: Complete) -> None:
    assert whole(chunk({"index": 0, "delta": {}, "finish_reason": reason})) == [expected]


@pytest.mark.parametrize("reason", ["error", "insufficient_system_resource", "abort"])
def test_a_reason_that_says_broken_off_is_no_completion(reason: str) -> None:
    events, failure = read(
        stream(delta(content="a"), chunk({"index": 0, "delta": {}, "finish_reason": reason}))
    )
    assert events == [Delta("a")]
    assert isinstance(failure, ProviderTruncated)


WEATHER = ("a", "weather", '{"city":"Oslo"}')
TIDES = ("b", "tides", "{}")


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        pytest.param(
            [
                calls(piece("", "weather", index=0, id="a", type="function")),
                calls(piece('{"city":', index=0)),
                calls(piece('"Oslo"}', index=0)),
                calls(piece("", "tides", index=1, id="b", type="function")),
                calls(piece("{}", index=1)),
            ],
            [WEATHER, TIDES],
            id="pieces by index",
        ),
        pytest.param(
            [
                calls(piece("", "weather", index=0, id="a"), piece("", "tides", index=1, id="b")),
                calls(piece('{"city":', index=0)),
                calls(piece("{", index=1)),
                calls(piece('"Oslo"}', index=0), piece("}", index=1)),
            ],
            [WEATHER, TIDES],
            id="pieces of two calls by turns",
        ),
        pytest.param(
            [
                calls(piece('{"city":', "weather", id="a")),
                calls(piece('"Oslo"}', id="a")),
                calls(piece("{}", "tides", id="b")),
            ],
            [WEATHER, TIDES],
            id="pieces by id",
        ),
        pytest.param(
            [
                calls(piece('{"city":', "weather", id="a"), piece("{", "tides", id="b")),
                calls(piece('"Oslo"}'), piece("}")),
            ],
            [WEATHER, TIDES],
            id="pieces by place",
        ),
        pytest.param(
            [calls(piece('{"city":', "weather", id="a")), calls(piece('"Oslo"}'))],
            [WEATHER],
            id="pieces of the only call",
        ),
        pytest.param(
            [
                calls(
                    piece('{"city":"Oslo"}', "weather", index=0, id="a"),
                    piece("{}", "tides", index=1, id="b"),
                )
            ],
            [WEATHER, TIDES],
            id="whole, in one chunk",
        ),
        pytest.param(
            [
                calls(piece('{"city":"Oslo"}', "weather", index=0, id="a")),
                calls(piece("{}", "tides", index=0, id="b")),
            ],
            [WEATHER, TIDES],
            id="whole, all with index 0",
        ),
        pytest.param(
            [calls(piece({"city": "Oslo"}, "weather", id="a"), piece({}, "tides", id="b"))],
            [WEATHER, TIDES],
            id="arguments as objects",
        ),
        pytest.param([calls(piece(None, "tides", index=0, id="b"))], [TIDES], id="no arguments"),
        pytest.param(
            [
                calls(piece('{"city":', "weather", index=0, id="a")),
                calls(piece('"Oslo"}', "weather", index=0, id="a")),
            ],
            [WEATHER],
            id="name and id in every piece",
        ),
        pytest.param(
            [calls({"index": 0, "id": "a"}), calls(piece('{"city":"Oslo"}', "weather", index=0))],
            [WEATHER],
            id="the name comes later",
        ),
        pytest.param(
            [
                calls(piece('{"city":', index=0, id="a")),
                calls(piece('"Oslo"}', "weather", index=0)),
            ],
            [WEATHER],
            id="the name comes after arguments",
        ),
        pytest.param(
            [
                calls(piece('{"city":"Oslo"}', "weather", index=0, id="a")),
                calls(piece(" \n", index=0)),
            ],
            [WEATHER],
            id="blanks at the end",
        ),
        pytest.param(
            [calls({}, None, piece("")), calls(piece("{}", "tides", index=1, id="b"))],
            [TIDES],
            id="nothing in it",
        ),
    ],
)
def test_tool_calls_are_put_together(
    chunks: list[object], expected: list[tuple[str, str, str]]
) -> None:
    events = whole(*chunks, chunk(TOOLS))
    # A blank after a whole object may be kept or not.
    assert [(a, b, (c or "").strip()) for a, b, c in tool_calls(events)] == expected
    assert events[-1] == Complete("tool_calls")


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [calls(piece("{}", "a", index=0, id="")), calls(piece("{}", "b", index=1, id=""))],
            id="empty ids",
        ),
        pytest.param(
            [calls(piece("{}", "a", index=0, id="x")), calls(piece("{}", "b", index=1, id="x"))],
            id="the same id twice",
        ),
        pytest.param([calls(piece("{}", "a")), calls(piece("{}", "b"))], id="neither index nor id"),
        pytest.param(
            [calls(piece("{}", "a")), calls(piece("{}", "a"))], id="the same name, in two chunks"
        ),
        pytest.param([calls(piece({}, "a"), piece({}, "a"))], id="the same name, in one chunk"),
        pytest.param(
            [
                chunk(
                    {"index": 0, "delta": {"tool_calls": [piece("{}", "a", index=0, id="x")]}},
                    {"index": 1, "delta": {"tool_calls": [piece("{}", "b", index=0, id="x")]}},
                ),
                chunk({"index": 1, "delta": {}, "finish_reason": "tool_calls"}),
            ],
            id="the same id in two choices",
        ),
    ],
)
def test_every_tool_call_has_an_id_of_its_own(chunks: list[object]) -> None:
    found = tool_calls(whole(*chunks, chunk(TOOLS)))
    assert len(found) == 2
    assert all(call_id and arguments == "{}" for call_id, _, arguments in found)


def test_a_tool_call_is_ready_when_the_next_one_begins() -> None:
    events = whole(
        calls(piece('{"x":1}', "a", index=0, id="a")),
        calls(piece("{}", "b", index=1, id="b")),
        chunk(TOOLS),
    )
    assert events == [
        ToolCallStart("a", "a"),
        ToolCallDelta("a", '{"x":1}'),
        ToolCallReady("a", '{"x":1}'),
        ToolCallStart("b", "b"),
        ToolCallDelta("b", "{}"),
        ToolCallReady("b", "{}"),
        Complete("tool_calls"),
    ]


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_a_tool_call_cut_by_the_model_s_limit_is_not_ready(reason: str) -> None:
    finish = chunk({"index": 0, "delta": {}, "finish_reason": reason})
    events = whole(
        calls(piece("{}", "a", index=0, id="a")),
        calls(piece('{"x":', "b", index=1, id="b")),
        finish,
    )
    assert tool_calls(events) == [("a", "a", "{}"), ("b", "b", None)]
    assert isinstance(events[-1], Complete)
    assert events[-1].finish_reason == reason
    assert tool_calls(whole(calls(piece(None, "a", index=0, id="a")), finish)) == [("a", "a", None)]


def test_arguments_that_are_not_json_are_passed_on_as_written() -> None:
    events = whole(calls(piece("{oops", "a", index=0, id="a")), chunk(TOOLS))
    assert tool_calls(events) == [("a", "a", "{oops")]


def test_a_stop_with_tool_calls_is_told_as_tool_calls() -> None:
    events = whole(calls(piece("{}", "a", index=0, id="a")), chunk(STOP))
    assert events[-1] == Complete("tool_calls", "stop")


def test_a_function_call_of_the_old_form_is_a_tool_call() -> None:
    events = whole(
        delta(function_call={"name": "a", "arguments": '{"x"'}),
        delta(function_call={"arguments": ":1}"}),
        chunk({"index": 0, "delta": {}, "finish_reason": "function_call"}),
    )
    [(_, name, arguments)] = tool_calls(events)
    assert (name, arguments) == ("a", '{"x":1}')
    assert events[-1] == Complete("tool_calls", "function_call")


def test_a_tool_call_without_a_name_is_an_error() -> None:
    _, failure = read(stream(calls(piece("{}", index=0, id="a")), chunk(TOOLS)))
    assert failure is not None
    assert failure.code == "upstream_malformed"


def test_several_choices_have_a_reason_each() -> None:
    events = whole(
        delta(content="a"),
        delta(index=1, content="b"),
        chunk({"index": 1, "delta": {}, "finish_reason": "length"}),
        chunk(STOP),
    )
    assert events == [Delta("a"), Delta("b", 1), Complete("stop", further=("length",))]


COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@pytest.mark.parametrize(
    ("chunks", "usage"),
    [
        pytest.param([chunk(STOP)], None, id="none"),
        pytest.param([chunk(STOP), chunk(usage=COUNTS)], Usage(10, 5), id="own chunk"),
        pytest.param([chunk(STOP, usage=COUNTS)], Usage(10, 5), id="with the reason"),
        pytest.param(
            [
                {**delta(content="a"), "usage": {"prompt_tokens": 1}},
                chunk(STOP, usage=COUNTS),
                chunk(usage=None),
                chunk(usage={}),
            ],
            Usage(10, 5),
            id="the last one counts",
        ),
        pytest.param([{"usage": COUNTS}, chunk(STOP)], Usage(10, 5), id="no choices at all"),
        pytest.param(
            [
                chunk(
                    STOP,
                    usage={
                        **COUNTS,
                        "prompt_tokens_details": {"cached_tokens": 7, "cache_write_tokens": 2},
                        "completion_tokens_details": {"reasoning_tokens": 4},
                    },
                )
            ],
            Usage(10, 5, 7, 2, 4),
            id="details",
        ),
        pytest.param(
            [
                chunk(
                    STOP,
                    usage={
                        "prompt_tokens": 10,
                        "completion_tokens": 5,
                        "total_tokens": 19,
                        "completion_tokens_details": {"reasoning_tokens": 4},
                    },
                )
            ],
            Usage(10, 9, reasoning_tokens=4),
            id="reasoning counted apart",
        ),
        pytest.param(
            [chunk(STOP, usage={**COUNTS, "prompt_cache_hit_tokens": 6})],
            Usage(10, 5, 6),
            id="cache as DeepSeek has it",
        ),
        pytest.param([chunk(STOP, x_groq={"id": "r", "usage": COUNTS})], Usage(10, 5), id="x_groq"),
        pytest.param(
            [
                chunk(
                    STOP,
                    usage={"prompt_tokens": None, "completion_tokens": "5", "total_tokens": -1},
                )
            ],
            Usage(),
            id="no numbers",
        ),
    ],
)
def test_usage_is_found_in_any_chunk(chunks: list[object], usage: Usage | None) -> None:
    end = whole(*chunks)[-1]
    assert isinstance(end, Complete)
    assert end.usage == usage


@pytest.mark.parametrize(
    ("body", "status", "message", "code"),
    [
        pytest.param(
            {"error": {"message": "Bang", "type": "server_error", "code": None}},
            502,
            "Bang",
            "upstream_error",
            id="OpenAI's",
        ),
        pytest.param(
            {"error": {"code": 429, "message": "Slow down"}},
            429,
            "Slow down",
            "rate_limit_exceeded",
            id="number as code",
        ),
        pytest.param(
            {
                "error": {
                    "code": 400,
                    "message": "too long",
                    "type": "exceed_context_size_error",
                    "n_ctx": 8,
                }
            },
            400,
            "too long",
            "context_length_exceeded",
            id="llama.cpp's",
        ),
        pytest.param({"error": "Bang"}, 502, "Bang", "upstream_error", id="text"),
        pytest.param(
            {"error": {}, "x": 1, "object": "error", "message": "Bang", "code": 500},
            502,
            "Bang",
            "upstream_error",
            id="bare",
        ),
        pytest.param(
            {"error": {"code": 503}},
            503,
            "The provider 'up' reported an error.",
            "upstream_error",
            id="no message",
        ),
        pytest.param(
            {"choices": [], "x_groq": {"error": "Bang"}}, 502, "Bang", "upstream_error", id="x_groq"
        ),
        pytest.param(
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {},
                        "finish_reason": "error",
                        "error": {"code": 503, "message": "Bang"},
                    }
                ]
            },
            503,
            "Bang",
            "upstream_error",
            id="of a choice",
        ),
        pytest.param(
            b'{"message":"Bang"}\nevent: error', 502, "Bang", "upstream_error", id="by its name"
        ),
        pytest.param(b"Bang\nevent: error", 502, "Bang", "upstream_error", id="text by its name"),
        pytest.param(
            {"error": {"message": "no", "type": "authentication_error"}},
            502,
            "The gateway's own credentials for the provider 'up' were refused.",
            "upstream_auth",
            id="credentials",
        ),
        pytest.param(
            b"{oops",
            502,
            "The provider 'up' sent a frame that is not JSON.",
            "upstream_malformed",
            id="not JSON",
        ),
        pytest.param(
            {"choices": [{"index": 10**9, "delta": {"content": "a"}}]},
            502,
            "The provider 'up' sent a choice that was not asked for.",
            "upstream_malformed",
            id="choice out of range",
        ),
    ],
)
def test_an_error_in_the_stream_comes_after_the_events_before_it(
    body: object, status: int, message: str, code: str
) -> None:
    events, failure = read(stream(delta(content="a"), body, chunk(STOP)))
    assert events == [Delta("a")]
    assert failure is not None
    assert (failure.status, failure.message, failure.code) == (status, message, code)


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(b": keep-alive\n\n", id="comment"),
        pytest.param(b"\n\n\n", id="empty lines"),
        pytest.param(b"data:\n\n", id="empty data"),
        pytest.param(b"event: ping\ndata: pong\n\n", id="an event of another kind"),
        pytest.param(b"id: 1\nretry: 10\n\n", id="fields without data"),
    ],
)
def test_noise_between_chunks_is_ignored(noise: bytes) -> None:
    body = noise + noise.join([stream(delta(content="a"), done=False), stream(chunk(STOP))])
    assert read(body) == ([Delta("a"), Complete("stop")], None)


def test_nothing_after_done_is_read() -> None:
    body = stream(delta(content="a"), chunk(STOP)) + stream({"error": "late"}, b"{oops")
    assert read(body) == ([Delta("a"), Complete("stop")], None)


TEXT = stream(delta(content="a"), chunk(STOP), done=False)


@pytest.mark.parametrize(
    ("body", "framed", "complete"),
    [
        pytest.param(TEXT, True, True, id="no mark, body ended by itself"),
        pytest.param(TEXT, False, False, id="no mark, body merely stopped"),
        pytest.param(TEXT + b"data: [DONE]", False, True, id="mark without an empty line"),
        pytest.param(TEXT + b"data: [DONE]\n", False, True, id="mark with one line end"),
        pytest.param(TEXT + b"data: [DONE", True, False, id="half a mark"),
        pytest.param(TEXT[:-1], True, True, id="last chunk without its second line end"),
        pytest.param(TEXT[:-2], True, True, id="last chunk without line ends"),
        pytest.param(TEXT[:-3], True, False, id="last chunk cut"),
        pytest.param(TEXT + b": bye", True, True, id="comment at the end"),
        pytest.param(TEXT + b"da", True, False, id="something at the end"),
        pytest.param(TEXT + b"data: 12", True, False, id="a number at the end"),
        pytest.param(stream(delta(content="a")), True, False, id="mark but no reason"),
        pytest.param(stream(delta(content="a"), done=False), True, False, id="no reason"),
        pytest.param(stream(), True, False, id="mark only"),
        pytest.param(b"", True, False, id="nothing"),
        pytest.param(
            stream(delta(index=1, content="b"), chunk(STOP)), True, False, id="one of two reasons"
        ),
    ],
)
def test_only_a_whole_answer_is_complete(body: bytes, framed: bool, complete: bool) -> None:
    events, failure = read(body, framed=framed)
    assert (failure is None) == complete
    assert any(isinstance(event, Complete) for event in events) == complete
    if failure:
        assert isinstance(failure, ProviderTruncated)


COMPLETION = {
    "id": "c",
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hé",
                "reasoning_content": "hm",
                "tool_calls": [piece('{"x":1}', "a", id="a", type="function")],
            },
            "finish_reason": "tool_calls",
        }
    ],
    "usage": COUNTS,
}


@pytest.mark.parametrize("before", [b"", b"\n\n ", b"\xef\xbb\xbf"], ids=["", "blanks", "mark"])
@pytest.mark.parametrize("framed", [True, False], ids=["framed", "until closed"])
def test_a_json_body_is_read_as_a_whole_answer(before: bytes, framed: bool) -> None:
    body = before + orjson.dumps(COMPLETION, option=orjson.OPT_INDENT_2) + b"\n"
    for cuts in (None, list(range(len(body)))):
        assert read(body, framed=framed, cuts=cuts) == (
            [
                ReasoningDelta("hm"),
                Delta("Hé"),
                ToolCallStart("a", "a"),
                ToolCallDelta("a", '{"x":1}'),
                ToolCallReady("a", '{"x":1}'),
                Complete("tool_calls", usage=Usage(10, 5)),
            ],
            None,
        )


def test_a_json_body_cut_anywhere_is_not_complete() -> None:
    body = orjson.dumps(COMPLETION)
    for cut in range(len(body)):
        events, failure = read(body[:cut])
        assert events == []
        assert isinstance(failure, ProviderTruncated)


def test_a_json_body_may_hold_an_error() -> None:
    events, failure = read(b'{"error":{"message":"Bang","code":429}}')
    assert events == []
    assert failure is not None
    assert (failure.status, failure.message) == (429, "Bang")


EVERYTHING = stream(
    delta(role="assistant", content=""),
    delta(reasoning="\u2028hm"),
    delta(content="Hé\u0085"),
    calls(piece("", "weather", index=0, id="a")),
    calls(piece('{"city":', index=0)),
    calls(piece('"Ørsta"}', index=0)),
    chunk(TOOLS),
    chunk(usage=COUNTS),
)
EVENTS = [
    ReasoningDelta("\u2028hm"),
    Delta("Hé\u0085"),
    ToolCallStart("a", "weather"),
    ToolCallDelta("a", '{"city":'),
    ToolCallDelta("a", '"Ørsta"}'),
    ToolCallReady("a", '{"city":"Ørsta"}'),
    Complete("tool_calls", usage=Usage(10, 5)),
]


@given(st.sampled_from([b"\n", b"\r", b"\r\n"]), st.lists(st.integers(0, len(EVERYTHING) + 40)))
def test_the_events_do_not_depend_on_how_the_bytes_were_cut(ending: bytes, cuts: list[int]) -> None:
    assert read(EVERYTHING.replace(b"\n", ending), cuts=cuts) == (EVENTS, None)


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_a_stream_cut_at_any_byte_is_complete_only_by_the_rule(ending: bytes) -> None:
    body = EVERYTHING.replace(b"\n", ending)
    reason = body.index(b'"finish_reason":"tool_calls"')
    # Where the rule allows an end: behind the chunk with the reason, behind that with the usage,
    # and once the mark is there; each with its empty line or without.
    gap = 2 * len(ending)
    after_reason = body.index(ending * 2, reason)
    after_usage = body.index(ending * 2, after_reason + gap)
    mark = body.index(b"[DONE]") + len(b"[DONE]")
    for cut in range(len(body)):
        for framed in (True, False):
            events, failure = read(body[:cut], framed=framed)
            allowed = cut >= mark or (
                framed and (0 <= cut - after_reason <= gap or 0 <= cut - after_usage <= gap)
            )
            assert any(isinstance(event, Complete) for event in events) == allowed, cut
            assert isinstance(failure, ProviderTruncated) != allowed
            assert [event for event in events if not isinstance(event, Complete)] == EVENTS[
                : len(events) - allowed
            ]
