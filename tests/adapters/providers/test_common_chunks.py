"""The short way of a common chunk leads where the long way does."""

import itertools
from unittest.mock import patch

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.providers import chunks
from adapters.providers.chunks import ChunkReader
from gateway.events import Delta, Event

HEAD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"'
TAIL = b'"},"finish_reason":null}],"usage":null}'
DONE = b"data: [DONE]"
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'

NAMED = (
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":'
    b'[{"index":0,"id":"call_1","function":{"name":"f"}}]}}]}'
)

ODDITIES = ["role", "refusal", "reasoning", "content", "x"]
ODDITIES += ["index", "logprobs", "finish_reason", "error", "x_groq", "usage", "choices"]

texts = st.text('ab~"\\/\n\x00é\u2028😀', max_size=6) | st.sampled_from(
    ["", '"', "\\", '\\"', '","x":"', '"content":"', '"},"finish_reason":null}]', "~", "\n\ndata: "]
)


@st.composite
def forms(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """What is around the text of a chunk of the common form, or almost of it."""
    delta: dict[str, object] = {"content": "\0"}
    choice: dict[str, object] = {"index": 0, "delta": delta, "finish_reason": None}
    whole: dict[str, object] = {"id": "c", "choices": [choice], "usage": None}
    if draw(st.integers(0, 3)):
        place = draw(st.sampled_from([delta, choice, whole]))
        name = draw(st.sampled_from(ODDITIES))
        place[name] = draw(st.sampled_from([None, 0, 1, "a", "stop", {"content": "a"}, [{}]]))
    wide = orjson.dumps(whole, option=orjson.OPT_INDENT_2).replace(b"\n", b"")
    body = wide if draw(st.integers(0, 4)) == 0 else orjson.dumps(whole)
    head, _, tail = body.partition(b"\\u0000")
    return b"data: " + head, tail


@st.composite
def bodies(draw: st.DrawFn) -> list[bytes]:
    """Events of few forms, so that one often follows another of its own; some are damaged."""
    known = draw(st.lists(forms(), min_size=1, max_size=2))
    raw = st.lists(st.sampled_from(b'"\\,:{}\n\r ~x'), max_size=4).map(bytes)
    text = texts.map(lambda value: orjson.dumps(value)[1:-1])
    events = []
    for _ in range(draw(st.integers(0, 6))):
        head, tail = draw(st.sampled_from(known))
        event = head + draw(st.one_of(text, text, text, raw)) + tail
        if draw(st.integers(0, 9)) == 0:
            place = draw(st.integers(0, len(event)))
            event = event[:place] + draw(raw) + event[place + draw(st.integers(0, 1)) :]
        events.append(STOP if draw(st.integers(0, 9)) == 0 else event)
    return events


def outcome(body: bytes, cuts: list[int], casts: int) -> tuple[list[list[Event]], str, bool]:
    """The batches of a body, by the short way if moulds may be cast."""
    with patch.object(chunks, "_MOST_CASTS", casts):
        reader = ChunkReader("up")
        batches = []
        bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        for start, end in itertools.pairwise(bounds):
            batches.append(reader.feed(body[start:end]))
            if reader.failure or reader.ended:
                break
        else:
            batches.append(reader.finish(framed=True))
        return batches, repr(reader.failure), reader.ended


@given(
    bodies(),
    st.lists(st.integers(0, 600), max_size=6),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\n\n"]),
)
@example([HEAD + b"a" + TAIL, HEAD + b'b"\n"c' + TAIL, HEAD[:-1] + TAIL, HEAD + TAIL], [], b"\n\n")
@example([HEAD + b"a" + TAIL, HEAD + b"\xff" + TAIL], [], b"\n\n")
@example(
    [HEAD + b"a" + TAIL, HEAD + b"b\xe2\x80\xa8" + TAIL, HEAD + b"\\ud800" + TAIL], [], b"\n\n"
)
def test_both_ways_say_the_same(events: list[bytes], cuts: list[int], gap: bytes) -> None:
    body = b"".join(event + gap for event in [*events, DONE])
    assert outcome(body, cuts, casts=3) == outcome(body, cuts, casts=0)


@given(bodies(), st.lists(st.integers(0, 600), max_size=6), st.sampled_from([b"\n\n", b"\r\n\r\n"]))
@example([HEAD + b"a" + TAIL] * 3, [], b"\n\n")
@example([HEAD + b"a" + TAIL] * 2 + [HEAD + b'b","x":"c' + TAIL] * 2, [150, 300, 450], b"\n\n")
def test_what_is_heard_past_those_who_wait_is_what_would_be_read(
    events: list[bytes], cuts: list[int], gap: bytes
) -> None:
    body = b"".join(event + gap for event in events)
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    reader, listener = ChunkReader("up"), ChunkReader("up")
    for start, end in itertools.pairwise(bounds):
        read = body[start:end]
        told = reader.feed(read)
        heard = listener.hear(read)
        assert list(listener.feed(read) if heard is None else heard) == told
        assert (repr(listener.failure), listener.ended) == (repr(reader.failure), reader.ended)
        if reader.failure or reader.ended:
            break


@pytest.mark.parametrize(
    "form",
    [
        b'{"choices":[{"index":0,"delta":{"content":"a"}}],"x":{"content":"%s"}}',
        b'{"choices":[{"index":0,"delta":{"content":"a~"}}],"x":{"content":"%s"}}',
        b'{"choices":[{"index":0,"delta":{"content":"%s","content":"a"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"},"delta":{"content":"a"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s","role":"assistant"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s","reasoning":"a"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s","reasoning":null,"tool_calls":null}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s","tool_calls":'
        b'[{"index":0,"id":"call_1","function":{"arguments":"1"}}]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"},"finish_reason":"stop"}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"},"logprobs":{"content":[{}]}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"}}],"usage":{"prompt_tokens":5}}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"}}],"x_groq":{"usage":{"prompt_tokens":5}}}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"}}],"error":"a"}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"}},{"index":1,"delta":{"content":"a"}}]}',
        b'{"choices":[{"index":1,"delta":{"content":"%s"}}]}',
        b'{"choices":[{"delta":{"content":"%s"}}]}',
        b'{"choices":[{"index":0,"message":{"content":"%s"}}]}',
        b'{"choices":[{"index":0,"delta":{"content":"%s"}}]}',
    ],
)
def test_a_form_that_recurs_keeps_its_meaning(form: bytes) -> None:
    events = [b"data: " + form.replace(b"%s", text) for text in (b"a", b"b", b"", b"a", b"c")]
    body = b"".join(event + b"\n\n" for event in [*events, NAMED, STOP, DONE])
    assert outcome(body, [], casts=3) == outcome(body, [], casts=0)


@pytest.mark.parametrize("more", [b"", b',"role":"assistant","refusal":null'], ids=["text", "role"])
def test_the_short_way_is_taken(more: bytes) -> None:
    tail = TAIL[:1] + more + TAIL[1:] + b"\n\n"
    reader = ChunkReader("up")
    for _ in range(2):
        reader.feed(HEAD + b"a" + tail)
    with patch.object(ChunkReader, "_take_event", side_effect=AssertionError("the long way")):
        assert reader.feed(HEAD + b"b" + tail) == [Delta("b")]
        assert reader.feed((HEAD + b"b" + tail) * 2) == [Delta("b"), Delta("b")]


@pytest.mark.parametrize(
    "insides",
    [
        pytest.param([b'a","b', b"c"], id="two strings in one"),
        pytest.param([b'a","finish_reason":"stop', b"c"], id="a field more"),
        pytest.param([b"a\\", b"c"], id="an end that is escaped"),
        pytest.param([b"a\\", b',"c'], id="an end that is escaped, and a beginning that mends it"),
        pytest.param([b'a",["', b'"],"c'], id="lists across events"),
        pytest.param([b"a", b"\\ud83d", b"c"], id="half of a character"),
    ],
)
def test_texts_are_read_together_only_where_each_is_one(insides: list[bytes]) -> None:
    events = [HEAD + inside + TAIL for inside in (b"1", b"2", *insides, b"3")]
    body = b"".join(event + b"\n\n" for event in [*events, STOP, DONE])
    together = outcome(body, [], casts=4)
    assert together == outcome(body, [], casts=0)


def test_no_more_moulds_are_cast_where_they_are_of_no_use() -> None:
    with patch.object(chunks, "cast", wraps=chunks.cast) as cast:
        reader = ChunkReader("up")
        for number in range(50):
            reader.feed(HEAD + b"a" + TAIL[:-1] + b',"x":%d}\n\n' % number)
    assert cast.call_count == 3
