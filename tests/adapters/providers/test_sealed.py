"""Thinking that OpenRouter wants back as it was, and that nobody else gets."""

import pytest

from adapters.providers.anthropic_request import Style, translate
from adapters.providers.chunks import ChunkReader
from adapters.providers.profiles import PROFILES
from adapters.providers.sealed import SealedThoughts, is_sealed, opened
from gateway.events import ReasoningDelta
from gateway.request import ChatRequest, Message
from tests.servers.scripted import frames

TEXT = {"type": "reasoning.text", "format": "f", "index": 0}


def seal(*chunks: list[object]) -> str | None:
    thoughts = SealedThoughts()
    for chunk in chunks:
        thoughts.add(chunk)
    return thoughts.sealed()


def test_pieces_are_put_together_and_opened_again() -> None:
    sealed = seal(
        [{**TEXT, "text": "Let "}],
        [{**TEXT, "text": "me."}, {**TEXT, "signature": "s", "id": None}],
        [{"type": "reasoning.encrypted", "data": "x", "index": 1}],
        [{"type": "reasoning.encrypted", "data": "y", "index": 2}],
    )
    assert sealed is not None
    assert is_sealed(sealed)
    assert opened({"reasoning_details": [{"text": "Let me."}, {"redacted": sealed}]}) == [
        {**TEXT, "text": "Let me.", "signature": "s"},
        {"type": "reasoning.encrypted", "data": "x", "index": 1},
        {"type": "reasoning.encrypted", "data": "y", "index": 2},
    ]


@pytest.mark.parametrize(
    "chunk",
    [
        [],
        [{**TEXT, "text": "Only text."}],
        ["text"],
        [{"type": "reasoning.summary", "summary": "s"}],
    ],
)
def test_what_is_mere_text_is_not_sealed(chunk: list[object]) -> None:
    assert seal(chunk) is None


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"reasoning_details": "x"},
        {"reasoning_details": [{"text": "hm", "signature": "s"}, 7]},
        {"reasoning_details": [{"redacted": "of another provider"}]},
        {"reasoning_details": [{"redacted": "openrouter:{oops"}, {"redacted": "openrouter:1"}]},
    ],
)
def test_there_is_nothing_to_open_in_other_messages(message: Message) -> None:
    assert opened(message) is None


def test_it_comes_once_before_the_calls_are_ready() -> None:
    reader = ChunkReader("up")
    signed = {"reasoning": "Hm.", "reasoning_details": [{**TEXT, "text": "Hm.", "signature": "s"}]}
    chunks = [
        {"choices": [{"index": 0, "delta": signed}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    events = reader.feed(frames(*chunks, b"[DONE]"))
    thoughts = [event for event in events if isinstance(event, ReasoningDelta)]
    assert [thought.text for thought in thoughts] == ["Hm.", ""]
    assert is_sealed(thoughts[1].redacted or "")


def test_only_openrouter_gets_it_back() -> None:
    sealed = seal([{**TEXT, "text": "Hm.", "signature": "s"}])
    history: list[Message] = [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "Hello.",
            "reasoning_content": "Hm.",
            "reasoning_details": [{"redacted": sealed}],
        },
    ]
    bare = [{name: m[name] for name in m if name != "reasoning_details"} for m in history]
    assert PROFILES["default"].unseal(history, bare) is bare
    assert PROFILES["openrouter"].unseal(history, bare) == [
        history[0],
        {
            "role": "assistant",
            "content": "Hello.",
            "reasoning_details": [{**TEXT, "text": "Hm.", "signature": "s"}],
        },
    ]
    body = translate(ChatRequest(model="m", messages=history), Style())
    assert "openrouter:" not in str(body)
