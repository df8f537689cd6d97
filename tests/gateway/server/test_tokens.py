"""Estimates of tokens: near the truth with a vocabulary, defined without one."""

import sys

import pytest

from gateway.request import NATIVE, ChatRequest, Message
from gateway.server import tokens

TEXT = "The quick brown fox jumps over the lazy dog. " * 10


def _request(*messages: Message, tools: list[dict[str, object]] | None = None) -> ChatRequest:
    return ChatRequest(model="m", messages=messages, tools=tools or ())


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_vocabulary", None)
    tokens.load()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without the extra."""
    monkeypatch.setitem(sys.modules, "splintr", None)
    monkeypatch.setattr(tokens, "_vocabulary", None)
    tokens.load()


@pytest.mark.usefixtures("vocabulary")
@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("", 0, id="nothing"),
        pytest.param("hello world", 2, id="words"),
        pytest.param(TEXT, 101, id="a paragraph"),
        pytest.param("\ud800" * 8, 2, id="halves of pairs are bytes"),
        pytest.param("<|endoftext|>", 7, id="a special token's name is text like any other"),
    ],
)
def test_a_vocabulary_counts(text: str, number: int) -> None:
    assert tokens.count(text) == number


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("", 0, id="nothing"),
        pytest.param("abcd", 1, id="four bytes"),
        pytest.param("abcde", 2, id="five bytes"),
        pytest.param("éé", 1, id="bytes, not characters"),
        pytest.param("\ud800", 1, id="half of a pair"),
    ],
)
def test_without_one_four_bytes_are_a_token(text: str, number: int) -> None:
    assert tokens.count(text) == number


@pytest.mark.usefixtures("vocabulary")
def test_a_text_that_would_hold_up_others_is_counted_by_its_bytes() -> None:
    assert tokens.count("word " * (1 << 18)) == 5 * (1 << 18) // 4


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    ("message", "number"),
    [
        pytest.param({"role": "user", "content": "x" * 40}, 4 + 10, id="text"),
        pytest.param(
            {"role": "user", "content": [{"type": "text", "text": "x" * 40}, IMAGE]},
            4 + 10 + 765,
            id="a picture is not its bytes",
        ),
        pytest.param(
            {"role": "user", "content": [{**IMAGE, "image_url": {"url": "x", "detail": "low"}}]},
            4 + 85,
            id="a small picture",
        ),
        pytest.param(
            {"role": "assistant", "content": None, "tool_calls": [CALL]}, 4 + 19, id="a call"
        ),
        pytest.param(
            {"role": "assistant", "content": "", "reasoning_content": "x" * 8}, 4 + 2, id="thoughts"
        ),
        pytest.param({"role": "user", "content": [{"type": "text"}]}, 4, id="a part without text"),
    ],
)
def test_a_message_is_what_a_model_reads_of_it(message: Message, number: int) -> None:
    assert tokens.estimate(_request(message)) == number


@pytest.mark.usefixtures("bare")
def test_offered_tools_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {}}}
    alone = tokens.estimate(_request({"role": "user", "content": "Hi"}))
    assert tokens.estimate(_request({"role": "user", "content": "Hi"}, tools=[tool])) == alone + 16


@pytest.mark.usefixtures("bare")
def test_what_one_format_says_of_a_tool_besides_is_no_part_of_the_prompt() -> None:
    tool: dict[str, object] = {"type": "function", "function": {"name": "look", "parameters": {}}}
    marked = {**tool, NATIVE: {"cache_control": {"type": "ephemeral"}}}
    assert tokens.estimate(_request(tools=[marked])) == tokens.estimate(_request(tools=[tool]))


def test_a_rough_estimate_goes_by_the_length_of_texts_and_knows_pictures() -> None:
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "A" * 8_000_000},
    }
    message = {"role": "user", "content": [{"type": "text", "text": "x" * 400}, picture]}
    assert tokens.estimate(_request(message), roughly=True) == 4 + 100 + 765
