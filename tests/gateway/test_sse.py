import json
import re

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.sse import DONE, HEARTBEAT, dump, frame

LINE_ENDS = re.compile("[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
"""All that `str.splitlines` takes for the end of a line."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_is_one_line_for_every_reader_and_says_the_same(value: object) -> None:
    data = dump(value)
    assert len(data.decode().splitlines()) == 1
    assert not LINE_ENDS.search(data.decode())
    assert orjson.loads(data) == value


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("a\u2028b", b'"a\\u2028b"', id="line separator"),
        pytest.param("a\u2029b", b'"a\\u2029b"', id="paragraph separator"),
        pytest.param("a\x85b", b'"a\\u0085b"', id="next line"),
        pytest.param("a\r\nb", b'"a\\r\\nb"', id="CRLF"),
        pytest.param("\x00\x1c", b'"\\u0000\\u001c"', id="control characters"),
        pytest.param("é😀", '"é😀"'.encode(), id="other characters stay"),
        pytest.param("\u2027\u202a\x84", '"\u2027\u202a\x84"'.encode(), id="neighbours stay"),
        pytest.param("data: [DONE]\n\n", b'"data: [DONE]\\n\\n"', id="a frame within"),
        pytest.param("a\ud83d", '"a\ufffd"'.encode(), id="the first half of a pair"),
        pytest.param("\ude00b", '"\ufffdb"'.encode(), id="the second half"),
        pytest.param("\ud83d\ude00", '"😀"'.encode(), id="both halves are the character"),
        pytest.param("\ud83d\u2028", '"\ufffd\\u2028"'.encode(), id="a half beside a separator"),
    ],
)
def test_text(text: str, written: bytes) -> None:
    assert dump(text) == written


def test_halves_of_characters_are_mended_at_any_depth() -> None:
    value = {"a\ud83d": [{"b": "\ud83d"}, ("\ude00", 1, None, 2.5)]}
    assert json.loads(dump(value)) == {"a\ufffd": [{"b": "\ufffd"}, ["\ufffd", 1, None, 2.5]]}


def test_a_value_that_is_no_json_is_an_error_not_a_guess() -> None:
    with pytest.raises(TypeError):
        dump({"a": object()})


def test_a_frame_is_a_line_of_data_and_an_empty_line() -> None:
    assert frame(b"{}") == b"data: {}\n\n"


def test_a_named_frame_tells_its_name_first() -> None:
    assert frame(b"{}", "tool_notification") == b"event: tool_notification\ndata: {}\n\n"


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "a\n\ndata: x", "é", "a:b", "a\u2028", "a\n"])
def test_no_name_breaks_out_of_its_frame(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name of an event"):
        frame(b"{}", name)


def test_a_heartbeat_is_a_comment_and_no_event() -> None:
    assert HEARTBEAT.startswith(b":")
    assert HEARTBEAT.endswith(b"\n")
    assert HEARTBEAT.count(b"\n") == 1


def test_the_end_is_what_openais_clients_wait_for() -> None:
    assert frame(b"[DONE]") == DONE
