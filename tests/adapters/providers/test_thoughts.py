"""Thinking between tags in the text, cut anywhere."""

from collections.abc import Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.providers.openai import OpenAIProvider
from adapters.providers.thoughts import ThoughtsInText, ThoughtSplitter
from gateway.events import Complete, Delta, Event, ReasoningDelta, ToolCallStart
from gateway.request import ChatRequest
from tests.servers.dialogue import story
from tests.servers.scripted import CHUNKED, LAST_CHUNK, chunk, replay, scripted

END = Complete("stop")


def split(how: ThoughtsInText, *texts: str, end: Event = END) -> tuple[str, str]:
    """Thought and said."""
    splitter = ThoughtSplitter(how)
    events = [event for text in texts for event in splitter.split([Delta(text)])]
    events += splitter.split([end])
    assert events[-1] == end
    return _texts(events)


def _texts(events: Sequence[Event]) -> tuple[str, str]:
    return (
        "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        "".join(event.text for event in events if isinstance(event, Delta)),
    )


CASES = [
    pytest.param("tagged", "<think>hm</think>\n\nHello", "hm", "Hello", id="tagged"),
    pytest.param("tagged", "\n<think>\nhm\n</think>Hello", "\nhm\n", "Hello", id="blanks"),
    pytest.param("tagged", "Hello <think>", "", "Hello <think>", id="a tag in the text"),
    pytest.param("tagged", "<thinker>", "", "<thinker>", id="another tag"),
    pytest.param("tagged", "  <thi", "", "  <thi", id="half a tag"),
    pytest.param("tagged", "<think></think>Hello", "", "Hello", id="no thought"),
    pytest.param("tagged", "<think>a < b </thin", "a < b </thin", "", id="cut while thinking"),
    pytest.param("tagged", "<think>a</thing></think>b", "a</thing>", "b", id="nearly the end"),
    pytest.param("tagged", "<think>a</think>b</think>", "a", "b</think>", id="an end too many"),
    pytest.param("begun", "hm</think>\nHello", "hm", "Hello", id="begun"),
    pytest.param("begun", "", "", "", id="nothing"),
]


@pytest.mark.parametrize(("how", "text", "thought", "said"), CASES)
def test_thinking_is_taken_out_however_the_text_was_cut(
    how: ThoughtsInText, text: str, thought: str, said: str
) -> None:
    assert split(how, text) == (thought, said)
    assert split(how, *text) == (thought, said)


@given(
    st.text(alphabet="<>/think \n", max_size=12),
    st.text(alphabet="<>/think \n", max_size=12),
    st.integers(1, 9),
)
def test_where_the_text_is_cut_does_not_matter(thought: str, said: str, size: int) -> None:
    text = f"<think>{thought}</think>{said}"
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert split("tagged", *pieces) == split("tagged", text)


def test_choices_think_apart_and_a_call_waits_for_no_tag() -> None:
    splitter = ThoughtSplitter("tagged")
    events = splitter.split(
        [Delta("<think>a"), Delta("b", 1), Delta("</th"), ToolCallStart("c", "f"), END]
    )
    assert events == [
        ReasoningDelta("a"),
        Delta("b", 1),
        ReasoningDelta("</th"),
        ToolCallStart("c", "f"),
        END,
    ]


def test_odds_stay_with_a_whole_token_only() -> None:
    odds = [{"token": "Hello", "logprob": -0.1}]
    splitter = ThoughtSplitter("tagged")
    events = splitter.split([Delta("<think>a</think>\nHi"), Delta("Hello", logprobs=odds)])
    assert events == [ReasoningDelta("a"), Delta("Hi"), Delta("Hello", logprobs=odds)]
    assert ThoughtSplitter("begun").split([Delta("a</think>b", logprobs=odds)])[-1] == Delta("b")


async def test_a_row_says_that_thinking_is_in_the_text() -> None:
    body = story("<th", "ink>", "Let me ", "see.</", "think>", "\n\n", "Hello", " you.")
    async with scripted(replay(CHUNKED + chunk(body) + LAST_CHUNK)) as upstream:
        row = {"base_url": f"{upstream.url}/v1", "thoughts_in_text": "tagged"}
        provider = OpenAIProvider("up", row)
        request = ChatRequest(model="m", messages=[{"role": "user", "content": "Hi"}])
        async with aclosing(provider.stream(request)) as stream:
            events = [event async for batch in stream for event in batch]
        await provider.aclose()
    assert _texts(events) == ("Let me see.", "Hello you.")
    assert isinstance(events[-1], Complete)


def test_another_way_of_thinking_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"^thoughts_in_text: "):
        OpenAIProvider("up", {"thoughts_in_text": "yes"})
