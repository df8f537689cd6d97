"""The window over a conversation: whatever the history, what comes out is one that providers take."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.window import NO_RESULT, close_calls, cut
from gateway.request import Message


def user(text: str = "u") -> Message:
    return {"role": "user", "content": text}


def answer(text: str = "a") -> Message:
    return {"role": "assistant", "content": text}


def calls(*ids: str) -> Message:
    rows = [
        {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids
    ]
    return {"role": "assistant", "content": None, "tool_calls": rows}


def result(call_id: str, text: str = "r") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": text}


def stub(call_id: str) -> Message:
    return result(call_id, NO_RESULT)


SYSTEM: Message = {"role": "system", "content": "s"}


def _ids(message: Message) -> list[str]:
    rows = message.get("tool_calls")
    return [row["id"] for row in rows] if isinstance(rows, list) else []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param([user(), answer()], [user(), answer()], id="nothing to close"),
        pytest.param(
            [user(), calls("1", "2"), result("2")],
            [user(), calls("1", "2"), stub("1"), result("2")],
            id="a result is missing",
        ),
        pytest.param(
            [user(), calls("1"), user()],
            [user(), calls("1"), stub("1"), user()],
            id="all results are missing",
        ),
        pytest.param([user(), calls("1")], [user(), calls("1")], id="the client is to answer"),
        pytest.param([result("1"), user()], [user()], id="a result without its call"),
        pytest.param(
            [user(), calls("1"), result("1"), result("9")],
            [user(), calls("1"), result("1")],
            id="a result of another call",
        ),
        pytest.param(
            [user(), calls("1"), result("1", "old"), result("1", "new")],
            [user(), calls("1"), result("1", "new")],
            id="two results",
        ),
    ],
)
def test_calls_are_closed(before: Sequence[Message], after: Sequence[Message]) -> None:
    assert close_calls(before) == after


def test_calls_at_the_end_are_closed_where_it_has_ended() -> None:
    assert close_calls([user(), calls("1")], ended=True) == [user(), calls("1"), stub("1")]


@pytest.mark.parametrize(
    ("history", "most", "shown"),
    [
        pytest.param([user("1"), answer(), user("2")], 20, slice(None), id="it fits"),
        pytest.param([user("1"), answer(), user("2")], 2, slice(2, None), id="on a user's turn"),
        pytest.param([user("1"), answer(), user("2")], 1, slice(2, None), id="the last alone"),
        pytest.param(
            [user("1"), calls("a"), result("a"), answer(), user("2"), answer(), user("3")],
            5,
            slice(4, None),
            id="not within a turn",
        ),
        pytest.param(
            [user("1"), answer(), user("2"), calls("a"), result("a"), answer()],
            1,
            slice(2, None),
            id="the turn that is on is whole",
        ),
    ],
)
def test_the_window_is_cut(history: Sequence[Message], most: int, shown: slice) -> None:
    assert cut(history, most) == list(history[shown])


def test_instructions_stay_and_do_not_count() -> None:
    history = [SYSTEM, user("1"), answer(), user("2")]
    assert cut(history, 1) == [SYSTEM, user("2")]


IDS = st.sampled_from("abcd")
MESSAGES = st.one_of(
    st.just(user()),
    st.just(answer()),
    st.just(SYSTEM),
    st.lists(IDS, min_size=1, max_size=3, unique=True).map(lambda ids: calls(*ids)),
    IDS.map(result),
)
HISTORIES = st.lists(MESSAGES, max_size=40)
SIZES = st.sampled_from([1, 2, 5, 20])


@given(history=HISTORIES, most=SIZES)
def test_what_is_shown_is_a_history(history: list[Message], most: int) -> None:
    shown = cut(history, most)
    pinned = 0
    while pinned < len(history) and history[pinned]["role"] == "system":
        pinned += 1
    assert shown[:pinned] == history[:pinned]
    body = shown[pinned:]
    users = [message for message in history[pinned:] if message["role"] == "user"]
    if users:
        assert body[0]["role"] == "user"
        assert users[-1] in body
    waiting: list[str] = []
    for index, message in enumerate(body):
        if message["role"] == "tool":
            assert message["tool_call_id"] in waiting
            waiting.remove(str(message["tool_call_id"]))
            continue
        assert not waiting, "a call without its result"
        waiting = _ids(message) if index + 1 < len(body) else []
    assert not waiting
    turn = len(body) if not users else len(body) - _last_user(body)
    assert len(body) <= max(most, turn)
    assert cut(shown, most) == shown


def _last_user(body: Sequence[Message]) -> int:
    return max(index for index, message in enumerate(body) if message["role"] == "user")


@given(history=HISTORIES)
def test_closing_calls_twice_changes_nothing(history: list[Message]) -> None:
    once = close_calls(history)
    assert close_calls(once) == once
