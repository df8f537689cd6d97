"""OpenAI's chat completions: `POST /v1/chat/completions`."""

from collections.abc import Mapping
from typing import ClassVar

from adapters.wires.openai_chat.answer import render
from adapters.wires.openai_chat.description import describe
from adapters.wires.openai_chat.encoder import ChatEncoder
from adapters.wires.openai_chat.request import parse
from gateway.errors import error_body
from gateway.events import Error
from gateway.outcome import Outcome
from gateway.ports import Description, Encoder, Wire
from gateway.records import Call
from gateway.request import ChatRequest


class OpenAIChatWire(Wire):
    type: ClassVar[str] = "chat"
    # Clients append a slash, or are given a base URL with or without /v1, or one that ends in the path
    # that they append. All are routes of their own: a redirect would lose the body or the key with
    # some of them.
    paths: ClassVar[tuple[str, ...]] = tuple(
        f"{base}/{path}{slash}"
        for base in ("/v1", "/api", "")
        for path in ("chat/completions", "chat/completions/chat/completions")
        for slash in ("", "/")
    )
    notifies: ClassVar[bool] = True

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        return parse(body, size)

    def encoder(self, call: Call, /) -> Encoder:
        return ChatEncoder(call)

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        return render(call, outcome)

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        return error_body(error)

    def describe(self) -> Description:
        return describe()
