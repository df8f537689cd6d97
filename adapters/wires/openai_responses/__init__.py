"""OpenAI's Responses API: `POST /v1/responses`, with answers that are kept and gone on from."""

from collections.abc import Mapping
from typing import ClassVar

from adapters.wires.openai_responses.answer import render
from adapters.wires.openai_responses.description import describe
from adapters.wires.openai_responses.encoder import ResponsesEncoder
from adapters.wires.openai_responses.request import parse
from gateway.errors import error_body
from gateway.events import Error
from gateway.outcome import Outcome
from gateway.ports import Description, Encoder, Wire
from gateway.records import Call
from gateway.request import ChatRequest


class OpenAIResponsesWire(Wire):
    type: ClassVar[str] = "responses"
    # Below every base URL that chat completions are served below.
    paths: ClassVar[tuple[str, ...]] = (
        "/v1/responses",
        "/v1/responses/",
        "/api/responses",
        "/api/responses/",
        "/responses",
        "/responses/",
    )
    count_paths: ClassVar[tuple[str, ...]] = (
        "/v1/responses/input_tokens",
        "/api/responses/input_tokens",
        "/responses/input_tokens",
    )
    stored_paths: ClassVar[tuple[str, ...]] = (
        "/v1/responses/{id}",
        "/api/responses/{id}",
        "/responses/{id}",
    )

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        return parse(body, size)

    def encoder(self, call: Call, /) -> Encoder:
        return ResponsesEncoder(call)

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        return render(call, outcome)

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        return error_body(error)

    def render_count(self, tokens: int, /) -> Mapping[str, object]:
        return {"object": "response.input_tokens", "input_tokens": tokens}

    def describe(self) -> Description:
        return describe()
