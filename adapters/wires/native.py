"""The engine's own events, as they are: `POST /chat`, for a page or program of one's own.

A stream of named frames, `event: delta` with `data: {"type":"delta","text":"…","seq":2}` and so on:
one name for each event of `gateway.events` in snake case, its fields as they are there, and `seq`
counting from one. The last frame is `complete` or `error`; there is no `[DONE]`. An unstreamed answer
is one object with the text, the reasoning and all tool calls with their results.
"""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import ClassVar

from adapters.wires.openai_chat import request
from gateway.errors import ERROR_SCHEMA, InvalidRequest, error_body
from gateway.events import Citation, Complete, Delta, Error, Event, Json, Usage
from gateway.outcome import Outcome, ToolCall
from gateway.ports import Batch, Description, Encoder, Wire
from gateway.records import Call
from gateway.request import ChatRequest, missing, wrong_type
from gateway.sse import dump, frame

_LONGEST_MODEL = 256


class NativeWire(Wire):
    type: ClassVar[str] = "native"
    paths: ClassVar[tuple[str, ...]] = ("/chat", "/chat/")

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        """`model`, and `messages` or just one `message`; the rest as with chat completions. Streams
        unless `stream` is false."""
        if body.get("n") not in (None, 1):
            raise InvalidRequest("One answer at a time: 'n' has to be 1.", param="n")
        stream = body.get("stream", True)
        if not isinstance(stream, bool):
            raise wrong_type("stream", "a boolean", stream)
        asked = {name: value for name, value in body.items() if name not in ("n", "message")}
        return replace(
            request.parse({**asked, "messages": _messages(body), "stream": stream}, size),
            include_usage=True,
        )

    def encoder(self, call: Call, /) -> Encoder:
        return NativeEncoder()

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        choice, end = outcome.choices[0], outcome.end
        body: dict[str, object] = {
            "id": call.id,
            "model": call.request.model,
            "text": "".join(choice.text),
            "reasoning": "".join(choice.reasoning),
            "refusal": "".join(choice.refusal),
            "citations": [_plain(citation) for citation in choice.citations],
            "tool_calls": [_tool_call(item) for item in outcome.calls.values()],
        }
        if isinstance(end, Complete):
            body["finish_reason"] = end.finish_reason
            body["usage"] = None if end.usage is None else _plain(end.usage)
        return body

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        return error_body(error)

    def describe(self) -> Description:
        message = {
            "type": "object",
            "required": ["role"],
            "properties": {"role": {"type": "string"}},
        }
        words = {"type": "string"}
        return Description(
            summary="The engine’s own events",
            request={
                "type": "object",
                "required": ["model"],
                "properties": {
                    "model": {"type": "string", "minLength": 1, "maxLength": _LONGEST_MODEL},
                    "messages": {"type": "array", "minItems": 1, "items": message},
                    "message": {"type": "string", "minLength": 1},
                    "tools": {"type": ["array", "null"], "items": {"type": "object"}},
                    "n": {"enum": [1, None]},
                    "stream": {"type": "boolean", "default": True},
                },
            },
            answer={
                "type": "object",
                "required": ["id", "model", "text", "reasoning", "refusal", "citations"],
                "properties": {
                    **dict.fromkeys(("id", "model", "text", "reasoning", "refusal"), words),
                    "citations": {"type": "array"},
                    "tool_calls": {"type": "array"},
                    "finish_reason": words,
                    "usage": {"type": ["object", "null"]},
                },
            },
            error=ERROR_SCHEMA,
            stream="A named frame for each event, the last one `complete` or `error`.",
        )


class NativeEncoder(Encoder):
    """The frames of one response."""

    def __init__(self) -> None:
        self._seq = 0

    def encode(self, batch: Batch, /) -> bytes:
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: Event) -> bytes:
        self._seq += 1
        if type(event) is Delta and event.logprobs is None:
            body: dict[str, object] = {"type": "delta", "text": event.text, "choice": event.choice}
            return frame(dump(body | {"seq": self._seq}), "delta")
        name = _NAMES[type(event)]
        if isinstance(event, Error):
            # Wrapped, so that a reader which knows only OpenAI's errors sees one.
            body = {"type": name, "error": _plain(event)}
        else:
            body = {"type": name, **_plain(event)}
        return frame(dump(body | {"seq": self._seq}), name)


_NAMES: Mapping[type[Event], str] = {
    kind: re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in Event.__args__
}


def _plain(event: Event | Usage | Citation) -> dict[str, object]:
    """The fields of an event that are for clients; what it does not say (None) is left out."""
    values = {item.name: getattr(event, item.name) for item in fields(event)}
    values.pop("attempts", None)  # what the operator's providers did is for the account
    return {name: value for name, value in values.items() if value is not None and value != ()}


def _tool_call(item: ToolCall) -> Json:
    body: dict[str, object] = {
        "id": item.call_id,
        "name": item.name,
        "executor": item.executor,
        "arguments": item.arguments,
    }
    if item.result is not None:
        body |= {
            "status": item.result.status,
            "output": item.result.output,
            "duration": item.result.duration,
        }
    return body


def _messages(body: Mapping[str, object]) -> object:
    if "messages" in body:
        return body["messages"]
    message = body.get("message")
    if message is None:
        raise missing("messages")
    if not isinstance(message, str) or not message:
        raise InvalidRequest("Expected 'message' to be a text that is not empty.", param="message")
    return [{"role": "user", "content": message}]
