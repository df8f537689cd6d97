"""How many tokens a text or a request is, where no provider tells: an estimate, and marked as one.

With the extra `[tokens]` OpenAI's newest public vocabulary counts, which other makers' tokenizers come
within some per cent of; without it four bytes are a token.
"""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from gateway.request import ChatRequest, Message, plain
from gateway.sse import dump

_LONGEST = 1 << 20
"""Characters. A longer text would hold up other calls for more than ten milliseconds."""

_MESSAGE = 4
"""What OpenAI's format adds to each message."""

_IMAGE, _SMALL_IMAGE = 765, 85
"""What OpenAI bills for a picture of 1024 × 1024 pixels, and for one in low detail."""


class _Vocabulary(Protocol):
    def encode_ordinary(self, text: str, /) -> Sequence[int]: ...


_vocabulary: _Vocabulary | None = None


def load() -> None:
    """Read the vocabulary, if there is one. Takes some 50 ms and as many megabytes; once at start."""
    global _vocabulary
    with suppress(ImportError):  # the extra is not installed
        _vocabulary = importlib.import_module("splintr").Tokenizer.from_pretrained("o200k_base")


def count(text: str) -> int:
    """Tokens of a text."""
    if _vocabulary is not None and len(text) <= _LONGEST:
        with suppress(UnicodeEncodeError):  # half of a character
            return len(_vocabulary.encode_ordinary(text))
    return _quarter(text)


def estimate(request: ChatRequest, *, roughly: bool = False) -> int:
    """Tokens of a request's prompt: its messages and the tools that it offers. `roughly`: by the length of
    its texts alone, which takes a twentieth of the time."""
    counted = _quarter if roughly else count
    request = plain(request)  # whatever format it came in, it is as long
    tools = sum(counted(dump(tool).decode()) for tool in request.tools)
    messages = sum(_MESSAGE + sum(_message(message, counted)) for message in request.messages)
    return tools + messages


def _message(message: Message, counted: Callable[[str], int]) -> Iterable[int]:
    match message.get("content"):
        case str() as text:
            yield counted(text)
        case list() as parts:
            yield from (_part(part, counted) for part in parts)
        case _:
            pass
    if isinstance(thoughts := message.get("reasoning_content"), str):
        yield counted(thoughts)
    if calls := message.get("tool_calls"):
        yield counted(dump(calls).decode())


def _part(part: object, counted: Callable[[str], int]) -> int:
    match part:
        case {"text": str() as text}:
            return counted(text)
        case {"image_url": Mapping() as image}:
            return _SMALL_IMAGE if image.get("detail") == "low" else _IMAGE
        case {"type": "text" | "refusal"}:
            return 0
        case _:
            return _IMAGE


def _quarter(text: str) -> int:
    return -(-size(text) // 4)


def size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
