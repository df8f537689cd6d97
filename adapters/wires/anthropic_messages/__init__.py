"""Anthropic's Messages API: `POST /v1/messages`, and what a request would cost in tokens."""

from collections.abc import Mapping
from typing import ClassVar

from adapters.wires.anthropic_messages.answer import render
from adapters.wires.anthropic_messages.description import describe
from adapters.wires.anthropic_messages.encoder import MessagesEncoder
from adapters.wires.anthropic_messages.parts import error_body
from adapters.wires.anthropic_messages.request import parse
from gateway.events import Error
from gateway.outcome import Outcome
from gateway.ports import Description, Encoder, Wire
from gateway.records import Call
from gateway.request import ChatRequest


class AnthropicMessagesWire(Wire):
    type: ClassVar[str] = "messages"
    # Its SDKs append `/v1/messages` to a base URL, also to one that ends in /v1 as OpenAI's do.
    paths: ClassVar[tuple[str, ...]] = ("/v1/messages", "/v1/messages/", "/v1/v1/messages")
    count_paths: ClassVar[tuple[str, ...]] = (
        "/v1/messages/count_tokens",
        "/v1/v1/messages/count_tokens",
    )

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        return parse(body, size)

    def parse_count(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        return parse({"max_tokens": 1, **body}, size)

    def encoder(self, call: Call, /) -> Encoder:
        return MessagesEncoder(call)

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        return render(call, outcome)

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        return error_body(error)

    def headers(self, request_id: str, /) -> Mapping[str, str]:
        return {"request-id": request_id}

    def describe(self) -> Description:
        return describe()
