"""The conversation as the demo model sees it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from gateway.request import Message


@dataclass(frozen=True, slots=True)
class Done:
    """A call of this turn that has its result."""

    name: str
    arguments: Mapping[str, object]
    output: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The conversation as the demo sees it."""

    said: str
    """The last text of the user."""
    images: int = 0
    files: int = 0
    before: tuple[str, ...] = ()
    """What the user said earlier."""
    answered: tuple[str, ...] = ()
    """What was answered to it."""
    done: tuple[Done, ...] = ()
    called: frozenset[tuple[str, str]] = frozenset()
    """All calls of this turn, by name and canonical arguments."""


def text_of(content: object) -> str:
    """The text of a message's content, which may be a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "\n".join(part for part in parts if isinstance(part, str))


def last_text(messages: Sequence[Message]) -> str:
    """What the user said last, whole."""
    said = (text_of(row.get("content")) for row in reversed(messages) if row.get("role") == "user")
    return next(said, "")


def read(messages: Sequence[Message]) -> Turn:
    last = max((i for i, row in enumerate(messages) if row.get("role") == "user"), default=-1)
    content = messages[last].get("content") if last >= 0 else ""
    kinds = [
        str(part.get("type"))
        for part in (content if isinstance(content, list | tuple) else ())
        if isinstance(part, Mapping)
    ]
    earlier = messages[: max(last, 0)]
    done, called = _calls(messages[last + 1 :])
    return Turn(
        said=text_of(content),
        images=sum(kind in ("image_url", "input_image", "image") for kind in kinds),
        files=sum(kind in ("file", "input_file", "input_audio") for kind in kinds),
        before=tuple(text_of(row.get("content")) for row in earlier if row.get("role") == "user"),
        answered=tuple(
            text
            for row in earlier
            if row.get("role") == "assistant" and (text := text_of(row.get("content")))
        ),
        done=done,
        called=called,
    )


def _calls(rows: Sequence[Message]) -> tuple[tuple[Done, ...], frozenset[tuple[str, str]]]:
    asked: dict[str, tuple[str, str]] = {}
    outputs: dict[str, str] = {}
    for row in rows:
        made = row.get("tool_calls")
        for call in made if isinstance(made, list | tuple) else ():
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping):
                name, arguments = str(function.get("name")), function.get("arguments")
                asked[str(call.get("id"))] = (name, arguments if isinstance(arguments, str) else "")
        if row.get("role") == "tool":
            outputs[str(row.get("tool_call_id"))] = text_of(row.get("content"))
    done = tuple(
        Done(name, parsed(arguments), outputs[call_id])
        for call_id, (name, arguments) in asked.items()
        if call_id in outputs
    )
    called = frozenset((name, canonical(parsed(text))) for name, text in asked.values())
    return done, called


def parsed(text: str) -> Mapping[str, object]:
    try:
        value = orjson.loads(text or "{}")
        orjson.dumps(value)  # what can be read may be too deep to be written again
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return {}
    return value if isinstance(value, dict) else {}


def canonical(arguments: Mapping[str, object]) -> str:
    return json.dumps(arguments, sort_keys=True)
