import pytest

from gateway.engine.turns import Turns
from gateway.request import Message

ROWS: list[Message] = [
    {"role": "assistant", "content": "Looking.", "tool_calls": [{"id": "ours"}, {"id": "theirs"}]},
    {"role": "tool", "tool_call_id": "ours", "content": "hidden"},
]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def _history(*ids: str) -> list[Message]:
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": call_id} for call_id in ids]},
        *({"role": "tool", "tool_call_id": call_id, "content": "done"} for call_id in ids),
    ]


def _expanded(history: list[Message]) -> list[Message]:
    return [history[0], *ROWS, *history[2:]]


def test_hidden_rows_are_put_back_in_their_place() -> None:
    turns = Turns()
    turns.keep("key", ["theirs"], ROWS)
    history = _history("theirs")
    assert turns.restore("key", history) == _expanded(history)


def test_a_turn_can_be_restored_as_often_as_its_history_is_sent() -> None:
    turns = Turns()
    turns.keep("key", ["theirs"], ROWS)
    history = _history("theirs")
    assert turns.restore("key", history) == turns.restore("key", history) == _expanded(history)


@pytest.mark.parametrize(
    ("owner", "messages"),
    [
        pytest.param("other", _history("a", "b"), id="another key's"),
        pytest.param("key", _history("a"), id="one of its calls is missing"),
        pytest.param("key", _history("a", "b", "c"), id="a call too many"),
        pytest.param("key", _history("x"), id="unknown calls"),
        pytest.param("key", [{"role": "user", "content": "Hi"}], id="no calls"),
        pytest.param(
            "key",
            [{"role": "user", "content": "", "tool_calls": [{"id": "a"}, {"id": "b"}]}],
            id="not the assistant's",
        ),
        pytest.param(
            "key", [{"role": "assistant", "content": "x", "tool_calls": []}], id="an empty list"
        ),
        pytest.param(
            "key", [{"role": "assistant", "content": "x", "tool_calls": "ab"}], id="not a list"
        ),
        pytest.param(
            "key", [{"role": "assistant", "tool_calls": [{"id": 7}, "a", None]}], id="not calls"
        ),
    ],
)
def test_any_other_history_stays_the_same_object(owner: str, messages: list[Message]) -> None:
    turns = Turns()
    turns.keep("key", ["a", "b"], ROWS)
    assert turns.restore(owner, messages) is messages


def test_without_turns_the_history_is_not_even_copied() -> None:
    history = _history("theirs")
    assert Turns().restore("key", history) is history


def test_owners_with_the_same_ids_get_their_own() -> None:
    turns = Turns()
    mine: list[Message] = [{"role": "assistant", "content": "mine"}]
    turns.keep("one", ["theirs"], ROWS)
    turns.keep("two", ["theirs"], mine)
    history = _history("theirs")
    assert turns.restore("one", history) == _expanded(history)
    assert turns.restore("two", history)[1] == mine[0]


def test_a_turn_expires() -> None:
    clock = Clock()
    turns = Turns(lifetime=60, clock=clock)
    turns.keep("key", ["theirs"], ROWS)
    history = _history("theirs")
    clock.now += 60
    assert turns.restore("key", history) == _expanded(history)
    clock.now += 1
    assert turns.restore("key", history) is history


def test_expired_turns_make_room() -> None:
    clock = Clock()
    turns = Turns(lifetime=60, clock=clock)
    for number in range(10):
        turns.keep("key", [f"old{number}"], ROWS)
    clock.now += 61
    turns.keep("key", ["new"], ROWS)
    assert len(turns._turns) == 1


def test_the_oldest_turns_go_when_there_are_too_many_bytes() -> None:
    size = 1000
    turns = Turns(max_bytes=3 * size)
    row: list[Message] = [{"role": "assistant", "content": "x" * (size - 40)}]
    for number in range(5):
        turns.keep("key", [f"call{number}"], row)
    kept = [n for n in range(5) if turns.restore("key", _history(f"call{n}"))[1] == row[0]]
    assert kept == [2, 3, 4]


def test_a_turn_larger_than_all_room_is_not_kept_and_drops_no_other() -> None:
    turns = Turns(max_bytes=1000)
    turns.keep("key", ["small"], ROWS)
    turns.keep("key", ["large"], [{"role": "assistant", "content": "x" * 2000}])
    large, small = _history("large"), _history("small")
    assert turns.restore("key", large) is large
    assert turns.restore("key", small) == _expanded(small)


def test_keeping_a_turn_anew_replaces_it_and_its_bytes() -> None:
    turns = Turns(max_bytes=1000)
    for _ in range(50):
        turns.keep("key", ["a", "b"], ROWS)
    assert turns._bytes <= 1000
    history = _history("a", "b")
    assert turns.restore("key", history) == _expanded(history)


def test_text_that_is_no_unicode_is_kept_all_the_same() -> None:
    turns = Turns()
    turns.keep("key", ["theirs"], [{"role": "assistant", "content": "half \ud83d"}])
    assert turns.restore("key", _history("theirs"))[1]["content"] == "half \ufffd"


def _call(*ids: str) -> Message:
    return {"role": "assistant", "content": None, "tool_calls": [{"id": name} for name in ids]}


def _result(call_id: str, content: str = "done") -> Message:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(
            [_call("ours", "theirs"), _result("ours", "hid…"), _result("theirs")],
            id="in the round of the client's calls",
        ),
        pytest.param(
            [_call("ours"), _result("ours", "hid…"), _call("theirs"), _result("theirs")],
            id="in a round before",
        ),
    ],
)
def test_a_turn_stands_for_what_a_client_was_shown_of_it(shown: list[Message]) -> None:
    turns = Turns()
    turns.keep("key", ["theirs"], ROWS)
    first: Message = {"role": "user", "content": "Hi"}
    other = [_call("else"), _result("else")]
    restored = turns.restore("key", [first, *other, *shown, *other])
    assert restored == [first, *other, *ROWS, _result("theirs"), *other]


@pytest.mark.parametrize("field", ["reasoning_details", "anthropic"])
def test_thinking_that_a_client_sends_back_stays_where_it_was(field: str) -> None:
    turns = Turns()
    kept: Message = {**_call("theirs"), "reasoning_details": [{"text": "Hm."}]}
    turns.keep("key", ["theirs"], [kept])
    told = [{**_call("theirs"), field: []}, _result("theirs")]
    assert turns.restore("key", told) is told
    forgotten = [_call("theirs"), _result("theirs")]
    assert turns.restore("key", forgotten) == [kept, _result("theirs")]
