"""Chat completions for telephone calls: the same API, for platforms that read an answer out.

They send OpenAI's format to a path of their choice, so that the wire shares those of chat completions and
takes the requests that are recognisably a voice platform's (docs/voice.md).
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from adapters.wires.openai_chat import OpenAIChatWire
from adapters.wires.openai_chat.answer import render
from adapters.wires.openai_chat.description import describe
from adapters.wires.openai_chat.parts import completion_id
from adapters.wires.voice import options, speech
from adapters.wires.voice.encoder import SUPERSEDED, VoiceEncoder, failure
from adapters.wires.voice.fillers import Fillers
from adapters.wires.voice.request import VoiceRequest, parse, recognise
from gateway.errors import error_body
from gateway.events import Error, Json
from gateway.outcome import Outcome
from gateway.ports import Description, Encoder, Interceptor, Reply, Wire
from gateway.records import ApiKey, Call
from gateway.request import ChatRequest
from gateway.sse import dump

_OWN = "/voice"


class VoiceWire(Wire):
    type: ClassVar[str] = "voice"
    paths: ClassVar[tuple[str, ...]] = tuple(
        f"{base}/{path}{slash}"
        for base in (_OWN, f"{_OWN}/v1")
        for path in ("chat/completions", "chat/completions/chat/completions")
        for slash in ("", "/")
    )
    shared_paths: ClassVar[tuple[str, ...]] = OpenAIChatWire.paths
    probe_paths: ClassVar[tuple[str, ...]] = (
        _OWN,
        f"{_OWN}/",
        "/api",
        "/api/",
        "/",
        *(f"{base}/chat/completions{slash}" for base in (_OWN, "/api", "") for slash in ("", "/")),
    )
    # An early failure is spoken as well, so that there is nothing to wait for.
    patience: ClassVar[float] = 0.0
    heartbeat: ClassVar[float] = 5.0

    def __init__(self, config: Mapping[str, object] | None = None) -> None:
        self._options = options.read(config or {})
        self._fillers = (
            Fillers(self._options.fillers, self._options.filler_after)
            if self._options.fillers
            else None
        )

    def claims(self, body: Mapping[str, object], key: ApiKey, /) -> bool:
        return key.tier in self._options.tiers or recognise(body)

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        return parse(body, size, self._options.model)

    def encoder(self, call: Call, /) -> Encoder:
        head: Json = {
            "id": completion_id(call),
            "created": call.created,
            "model": call.request.model,
        }
        return VoiceEncoder(head, self._options.apology, include_usage=call.request.include_usage)

    def interceptors(self, call: Call, /) -> Sequence[Interceptor]:
        speak = speech.speak_plainly if self._options.plain else speech.speak
        asked = call.request
        if self._fillers is None or not asked.stream:
            return (speak,)
        flushes = isinstance(asked, VoiceRequest) and asked.flushes
        return (self._fillers.interceptor(flushes), speak)

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        return render(call, outcome)

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        return error_body(error)

    def refuse(self, error: Error, request: ChatRequest | None, /) -> Reply:
        """Spoken, since a status may end the telephone call. But a platform that has no key, or whose
        requests cannot be understood, is one that somebody is setting up, and has to tell them."""
        unread = request is None and error.type == "invalid_request_error"
        if unread or error.status == 401:
            return Reply(body=dump(self.render_error(error)), status=error.status)
        head: Json = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": "" if request is None else request.model,
        }
        if request is None or request.stream:
            encoder = VoiceEncoder(head, self._options.apology)
            return Reply(
                body=encoder.begin() + encoder.encode((error,)),
                media_type="text/event-stream",
                headers={"cache-control": "no-store"},
            )
        content = "" if error.code == SUPERSEDED else self._options.apology
        message = {"role": "assistant", "content": content, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        told = {**head, "object": "chat.completion", "choices": [choice], "failure": failure(error)}
        return Reply(body=dump(told))

    def describe(self) -> Description:
        told = describe()
        return replace(
            told,
            summary="Chat completions for voice platforms",
            stream=(
                "`chat.completion.chunk` objects with text that can be spoken, and `[DONE]` at the end. "
                "A failure is an apology in words, and what failed stands under `failure`."
            ),
        )
