"""A request laid beside what is kept: it goes on, branches off, or begins anew; and what tools found is
never lost on the way."""

import time
from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine.history import History, visible
from gateway.request import Message
from gateway.sse import dump


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def said(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _call(call_id: str) -> Message:
    function = {"name": "look", "arguments": "{}"}
    return {"id": call_id, "type": "function", "function": function}


def found(call_id: str, first: str = "", last: str = "") -> list[Message]:
    """An answer with a call of ours in it: a client sees only its words, as one message."""
    return [
        {
            "role": "assistant",
            "content": first or None,
            "tool_calls": [_call(call_id)],
            "reasoning_details": [{"text": "Hm.", "signature": "s"}],
        },
        {"role": "tool", "tool_call_id": call_id, "content": f"what {call_id} found"},
        said(last),
    ]


PLENTY = 1 << 30
SYSTEM: Message = {"role": "system", "content": "Be brief."}
U1, U2, U3 = user("one"), user("two"), user("three")
A1, A2 = found("c1", "Let me look.", " It is so."), [said("second")]
SHOWN1 = said("Let me look. It is so.")


@pytest.fixture
def history() -> History:
    """Two questions, two answers."""
    made = History()
    made.reconcile([SYSTEM, U1])
    made.add(A1)
    made.reconcile([SYSTEM, U1, SHOWN1, U2])
    made.add(A2)
    return made


def test_it_begins_with_what_the_client_says() -> None:
    assert History().reconcile([SYSTEM, U1]) == [SYSTEM, U1]
    imported = History()
    assert imported.reconcile([U1, said("elsewhere"), U2]) == [U1, said("elsewhere"), U2]


def test_what_is_kept_stands_for_what_the_client_was_shown(history: History) -> None:
    assert history.messages() == [U1, *A1, U2, *A2]


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([U1, SHOWN1, U2, A2[0], U3], id="the whole dialogue"),
        pytest.param([U2, A2[0], U3], id="without its beginning"),
        pytest.param([A2[0], U3], id="its last answer alone"),
        pytest.param(
            [U1, said("Let  me look.\n\nIt is so. "), U2, said("second\n"), U3], id="other spaces"
        ),
        pytest.param(
            [U1, SHOWN1, {"role": "user", "content": [{"type": "text", "text": "two"}]}, A2[0], U3],
            id="text in parts",
        ),
    ],
)
def test_a_client_goes_on(history: History, messages: Sequence[Message]) -> None:
    seen = history.reconcile([SYSTEM, *messages])
    assert seen == [SYSTEM, U1, *A1, U2, *A2, U3]
    assert len(history.ends()) == 1


def test_an_edited_question_branches_off(history: History) -> None:
    seen = history.reconcile([U1, SHOWN1, user("two, but otherwise")])
    assert seen == [U1, *A1, user("two, but otherwise")]
    history.add([said("other")])
    first, second = history.ends()
    assert history.messages(first) == [U1, *A1, user("two, but otherwise"), said("other")]
    assert history.messages(second) == [U1, *A1, U2, *A2]


def test_an_answer_wanted_anew_branches_off(history: History) -> None:
    assert history.reconcile([U1, SHOWN1, U2]) == [U1, *A1, U2]
    history.add([said("anew")])
    assert [len(history.messages(end)) for end in history.ends()] == [6, 6]


def test_the_old_branch_can_be_gone_back_to(history: History) -> None:
    history.reconcile([U1, SHOWN1, U2])
    history.add([said("anew")])
    history.reconcile([U1, SHOWN1, U2, said("anew"), U3])
    history.add([said("third")])
    assert history.messages() == [U1, *A1, U2, said("anew"), U3, said("third")]


def test_an_edited_first_question_begins_anew(history: History) -> None:
    assert history.reconcile([user("quite another")]) == [user("quite another")]
    assert history.messages(history.ends()[1]) == [U1, *A1, U2, *A2]


def test_what_was_said_elsewhere_is_taken_and_never_put_together(history: History) -> None:
    messages = [U1, said("something else"), U2]
    assert history.reconcile(messages) == messages


def test_a_thin_client_says_only_what_is_new(history: History) -> None:
    assert history.follow([SYSTEM, U3]) == [SYSTEM, U1, *A1, U2, *A2, U3]


def test_a_call_of_the_clients_goes_on_with_its_result() -> None:
    history = History()
    history.reconcile([U1])
    called: Message = {"role": "assistant", "content": None, "tool_calls": [_call("c"), _call("x")]}
    ours: Message = {"role": "tool", "tool_call_id": "c", "content": "found"}
    history.add([called, ours])
    theirs: Message = {"role": "tool", "tool_call_id": "x", "content": "theirs"}
    shown: Message = {"role": "assistant", "content": "", "tool_calls": [_call("x")]}
    assert history.reconcile([U1, shown, theirs]) == [U1, called, ours, theirs]


def test_a_voice_platforms_words_are_taken_and_findings_put_back(history: History) -> None:
    spoken = [said("Hello."), user("One"), said("let me look it is so"), user("two and more")]
    seen = history.align([SYSTEM, *spoken])
    calls, result = A1[0], A1[1]
    assert seen == [
        SYSTEM,
        spoken[0],
        spoken[1],
        {**calls, "content": None},
        result,
        spoken[2],
        spoken[3],
    ]
    assert len(history.ends()) == 1


def test_findings_stay_where_they_were_turn_after_turn(history: History) -> None:
    spoken: list[Message] = [user("One"), said("it is so"), user("Two")]
    history.align(spoken)
    history.add(found("c2", last="There."))
    spoken += [said("there"), user("Three")]
    seen = history.align(spoken)
    assert [row["tool_call_id"] for row in seen if row["role"] == "tool"] == ["c1", "c2"]
    assert [row["role"] for row in seen] == [
        *("user", "assistant", "tool", "assistant"),
        *("user", "assistant", "tool", "assistant", "user"),
    ]


def test_it_is_the_same_after_it_was_kept(history: History) -> None:
    history.reconcile([U1, SHOWN1, user("edited")])
    again = History.load(orjson.loads(dump(history.dump())))
    assert again == history


def test_a_long_one_forgets_its_oldest(history: History) -> None:
    history.reconcile([U1, SHOWN1, user("edited")])
    history.add([said("new")])
    history.shrink(4, PLENTY)
    assert history.messages() == [U1, *A1, user("edited"), said("new")]
    assert len(history.ends()) == 1
    history.shrink(2, PLENTY)
    assert history.messages() == [user("edited"), said("new")]


def test_a_large_one_forgets_its_oldest_and_never_its_last(history: History) -> None:
    history.follow([user("x" * 1000)])
    history.shrink(100, 1000 + len(dump(A2)))
    assert history.messages() == [user("x" * 1000)]
    history.add([said("short")])
    history.shrink(100, 500)
    assert history.messages() == [said("short")]


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_client_that_knows_what_was_forgotten_goes_on(history: History, left: int) -> None:
    history.shrink(left, PLENTY)
    history = History.load(orjson.loads(dump(history.dump())))
    dialogue = [U1, SHOWN1, U2, A2[0], U3]
    rows = [row for entry in history.path() for row in entry.rows]
    assert history.reconcile([SYSTEM, *dialogue]) == [SYSTEM, *dialogue[: 4 - left], *rows, U3]
    assert len(history.ends()) == 1
    history.add([said("third")])
    assert len(history.entries) == left + 2


def test_what_was_forgotten_is_not_made_up_for_by_others(history: History) -> None:
    history.shrink(2, PLENTY)
    messages = [U1, said("something else"), U2]
    assert history.reconcile(messages) == messages
    assert history.messages() == messages


def test_an_answer_that_a_client_edited_keeps_what_was_found_before_it(history: History) -> None:
    edited = said("second, in other words")
    assert history.reconcile([U1, SHOWN1, U2, edited, U3]) == [U1, *A1, U2, edited, U3]
    assert history.messages(history.ends()[1]) == [U1, *A1, U2, *A2]


@pytest.mark.parametrize("seen", ["Let me", "Let me look. It", "Let me look. It is so."])
def test_of_an_answer_broken_off_a_client_may_have_seen_less(seen: str) -> None:
    history = History()
    history.reconcile([U1])
    history.add(A1, broken=True)
    history = History.load(orjson.loads(dump(history.dump())))
    assert history.reconcile([U1, said(seen), U2]) == [U1, *A1, U2]
    assert len(history.ends()) == 1


def test_an_answer_cut_short_by_a_client_is_taken_as_it_says(history: History) -> None:
    cut = said("Let me look.")
    assert history.reconcile([U1, cut, U2]) == [U1, cut, U2]


def test_a_very_long_one_takes_time_that_grows_with_it_alone() -> None:
    told = [user("again") if number % 2 == 0 else said("again") for number in range(100_000)]
    began = time.monotonic()
    made = History()
    assert len(made.reconcile([*told, U1])) == 100_001
    assert len(made.reconcile([U3, *told[1:], U1, A2[0], U2])) == 100_003
    assert time.monotonic() - began < 30


def test_thinking_is_nobodys_to_see() -> None:
    assert visible(A1[0]) == {
        "role": "assistant",
        "content": "Let me look.",
        "tool_calls": [_call("c1")],
    }


TEXTS = st.sampled_from(["a", "b", "c"])


@given(turns=st.lists(st.tuples(TEXTS, TEXTS, st.booleans()), max_size=8), keep=st.integers(0, 8))
def test_whatever_was_said_a_client_that_goes_on_goes_on(
    turns: list[tuple[str, str, bool]], keep: int
) -> None:
    """Also when it leaves out the beginning, and when the same was said before."""
    history = History()
    dialogue: list[Message] = []
    kept: list[Message] = []
    for number, (question, text, looked) in enumerate(turns):
        dialogue.append(user(question))
        kept.append(user(question))
        assert history.reconcile(dialogue) == kept
        rows = found(f"c{number}", last=text) if looked else [said(text)]
        history.add(rows)
        dialogue.append(said(text))
        kept += rows
    if turns:
        shown = dialogue[-2 * max(1, keep) :]
        assert history.reconcile([*shown, user("next")]) == [*kept, user("next")]
        assert len(history.ends()) == 1
