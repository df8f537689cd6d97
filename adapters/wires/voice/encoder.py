"""Speech to chunks: the form that is right for every voice platform that was looked at (docs/voice.md)."""

from adapters.wires.openai_chat.parts import usage_body
from gateway.events import Complete, Delta, Error, Event, Json, ToolCallReady, ToolCallStart
from gateway.ports import Batch, Encoder
from gateway.sse import DONE, dump, frame

SUPERSEDED = "superseded"
"""The code of what ends an answer whose caller has gone on talking: nobody wants to hear of that."""


class VoiceEncoder(Encoder):
    """The chunks of one response: its role at once, then text, and one whole tool call in a chunk."""

    def __init__(self, head: Json, apology: str, *, include_usage: bool = False) -> None:
        """`head`: `id`, `created` and `model` of the response."""
        self._include_usage = include_usage
        self._apology = apology
        self._head: Json = {**head, "object": "chat.completion.chunk"}
        self._names: dict[str, str] = {}
        """Of the client's tools that are called, by call."""
        self._calls = 0
        self._last = " "
        """The last character that was said."""

    def begin(self) -> bytes:
        return self._delta({"role": "assistant", "content": ""})

    def encode(self, batch: Batch, /) -> bytes:
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: Event) -> bytes:
        match event:
            case Delta() if event.text:
                self._last = event.text[-1] if event.text.isspace() else event.text.rstrip()[-1]
                return self._delta({"content": event.text})
            case ToolCallStart(executor="client"):
                self._names[event.call_id] = event.name
                return b""
            case ToolCallReady() if name := self._names.pop(event.call_id, None):
                return self._call(event, name)
            case Complete():
                usage = event.usage if self._include_usage else None
                last = [] if usage is None else [self._chunk([], usage=usage_body(usage))]
                return b"".join([self._finish(event.finish_reason), *last, DONE])
            case Error():
                # A broken stream may end the telephone call, so that it ends well whatever happened.
                apology = b""
                if event.code != SUPERSEDED:
                    apology = self._delta({"content": self._parting() + self._apology})
                return apology + self._finish("stop", failure=failure(event)) + DONE
            case _:
                return b""

    def _parting(self) -> str:
        """A pause, where a sentence was broken off."""
        if self._last.isalnum():
            return "… "
        return "" if self._last.isspace() else " "

    def _call(self, event: ToolCallReady, name: str) -> bytes:
        call = {
            "index": self._calls,
            "id": event.call_id,
            "type": "function",
            "function": {"name": name, "arguments": event.arguments},
        }
        self._calls += 1
        return self._delta({"tool_calls": [call]})

    def _delta(self, delta: Json) -> bytes:
        return self._chunk([{"index": 0, "delta": delta, "finish_reason": None}])

    def _finish(self, reason: str, **more: object) -> bytes:
        return self._chunk([{"index": 0, "delta": {}, "finish_reason": reason}], **more)

    def _chunk(self, choices: list[Json], **more: object) -> bytes:
        return frame(dump({**self._head, "choices": choices, **more}))


def failure(error: Error) -> Json:
    """What failed, for who looks into a response. Never under `error`: SDKs throw there."""
    return {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
    }
