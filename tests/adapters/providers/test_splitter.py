"""Any cut of any stream gives the same events."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.providers.splitter import EventSplitter, EventTooLarge, data, name_and_data

LINE_END = st.sampled_from([b"\n", b"\r", b"\r\n"])
LINE = st.sampled_from(
    [
        b"data: {}",
        b"data:x",
        b"data: \xe2\x80\xa8 \xc2\x85 \x0b \x0c \x1c",
        b"data",
        b"data:",
        b": comment",
        b"event: error",
        b"id: 7",
        b"",
    ]
)
STREAM = st.lists(st.tuples(LINE, LINE_END)).map(lambda lines: b"".join(a + b for a, b in lines))
CUTS = st.lists(st.integers(0, 400))


def split(stream: bytes, cuts: list[int]) -> tuple[list[bytes], bytes]:
    splitter = EventSplitter()
    places = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    events = []
    for start, end in itertools.pairwise(places):
        events += splitter.feed(stream[start:end])
    return events, splitter.rest


def split_by_the_letter(stream: bytes) -> list[bytes]:
    """The standard, in its own order: first lines, then events."""
    *lines, _ = re.split(rb"\r\n|\r|\n", stream)
    events: list[bytes] = []
    held: list[bytes] = []
    for line in lines:
        if line:
            held.append(line)
        elif held:
            events.append(b"\n".join(held))
            held = []
    return events


@given(STREAM, CUTS)
@example(b"data: a\r\n\r\ndata: b\r\n\r\n", [8, 10, 11])
@example(b"data: a\r\rdata: b\n\r\ndata: c\n\n\n", [8, 9, 19])
def test_a_stream_gives_the_same_events_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    assert split(stream, cuts) == split(stream, [])


@given(STREAM)
def test_a_stream_gives_the_same_events_one_byte_at_a_time(stream: bytes) -> None:
    assert split(stream, list(range(len(stream)))) == split(stream, [])


@given(STREAM, CUTS)
def test_events_are_what_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    events, _ = split(stream, cuts)
    lines = [re.sub(rb"\r\n|\r", b"\n", event) for event in events]
    assert lines == split_by_the_letter(stream)


@given(STREAM.map(lambda stream: stream.replace(b"\r", b"")), st.integers(0, 200))
@example(b"data: c\n\n\n", 200)
@example(b"data: a\ndata: b\n\n", 200)
@example(b"\n\n\n\ndata: a\n\n", 200)
@example(b"data: a\n\ndata: b\n", 200)
def test_events_are_the_same_behind_a_long_one(stream: bytes, end: int) -> None:
    """A read that is long is taken apart in another way."""
    long = b"data: " + b"x" * 2000 + b"\n\n"
    events, rest = split(stream[:end].lstrip(b"\n"), [])
    assert split(long + stream[:end], []) == ([long.rstrip(), *events], rest)


@given(st.binary(), CUTS)
def test_no_bytes_of_an_event_are_lost(stream: bytes, cuts: list[int]) -> None:
    events, rest = split(stream, cuts)
    kept = b"".join(re.split(rb"[\r\n]+", stream))
    assert b"".join(re.split(rb"[\r\n]+", b"".join([*events, rest]))) == kept


@pytest.mark.parametrize(
    ("event", "name", "value"),
    [
        pytest.param(b"data: {}", "", b"{}", id="one line"),
        pytest.param(b"data:{}", "", b"{}", id="no space"),
        pytest.param(b"data:  {}", "", b" {}", id="only one space is dropped"),
        pytest.param(b"data: a\ndata: b", "", b"a\nb", id="two lines"),
        pytest.param(b"data: a\rdata: b", "", b"a\nb", id="two lines ended by CR"),
        pytest.param(b"data: a\r\ndata: b", "", b"a\nb", id="two lines ended by CRLF"),
        pytest.param(b"data:", "", None, id="empty data"),
        pytest.param(b"data: ", "", None, id="empty data after a space"),
        pytest.param(b"data:  \t", "", None, id="blank data"),
        pytest.param(b"data", "", None, id="a field without a colon"),
        pytest.param(b": keep-alive", "", None, id="comment"),
        pytest.param(b": hello\ndata: x", "", b"x", id="comment before data"),
        pytest.param(b"id: 1\nretry: 5\ndata: x", "", b"x", id="other fields"),
        pytest.param(b"database: x", "", None, id="a longer field name"),
        pytest.param(b"event: error\ndata: x", "error", b"x", id="name"),
        pytest.param(b"event:error", "error", None, id="name without data"),
        pytest.param(b"event: a\nevent: b\ndata: x", "b", b"x", id="the last name counts"),
        pytest.param(b"\xef\xbb\xbfdata: x", "", b"x", id="byte order mark"),
        pytest.param(
            "data: a\u2028b\u0085c".encode(), "", "a\u2028b\u0085c".encode(), id="line separators"
        ),
    ],
)
def test_an_event_is_read(event: bytes, name: str, value: bytes | None) -> None:
    assert name_and_data(event) == (name, value)
    assert data(event) == value


def test_an_unfinished_event_is_the_rest() -> None:
    splitter = EventSplitter()
    assert splitter.feed(b"data: a\n\ndata: b") == [b"data: a"]
    assert splitter.rest == b"data: b"
    assert splitter.feed(b"c\n") == []
    assert splitter.rest == b"data: bc\n"
    assert splitter.feed(b"\n") == [b"data: bc"]
    assert splitter.rest == b""


@pytest.mark.parametrize("size", [1, 7, 100], ids=["bytes", "pieces", "one read"])
@pytest.mark.parametrize("line", [b"x", b"x\n"], ids=["one line", "many lines"])
def test_an_event_over_the_limit_is_refused(size: int, line: bytes) -> None:
    splitter = EventSplitter(limit=50)
    stream = line * (100 // len(line))

    def feed() -> None:
        for start in range(0, len(stream), size):
            splitter.feed(stream[start : start + size])

    with pytest.raises(EventTooLarge):
        feed()


def test_many_small_events_are_not_over_the_limit() -> None:
    splitter = EventSplitter(limit=10)
    assert splitter.feed(b"data: x\n\n" * 100 + b"data") == [b"data: x"] * 100
    assert splitter.rest == b"data"
