"""Events to OpenAI's sequence of them: numbered from zero, each frame named after its type."""

from adapters.wires.openai_responses.answer import begun, completed, failed
from adapters.wires.openai_responses.output import Change, Output
from gateway.events import Complete, Delta, Error, Event
from gateway.ports import Batch, Encoder
from gateway.records import Call
from gateway.sse import CLOSE, dump, frame

_DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'


class ResponsesEncoder(Encoder):
    """The frames of one response. Most of them carry one piece of a message's text: the bytes around
    it are made once for each part."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._output = Output(call)
        self._number = 0
        self._head = b""
        self._text: list[str] | None = None
        """The pieces of the part that `_head` belongs to."""

    def begin(self) -> bytes:
        response = begun(self._call)
        return self._frames(
            [
                {"type": "response.created", "response": response},
                {"type": "response.in_progress", "response": response},
            ]
        )

    def encode(self, batch: Batch, /) -> bytes:
        if len(batch) == 1:
            return self._encode(batch[0])
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: Event) -> bytes:
        if (
            type(event) is Delta
            and self._text is not None
            and event.logprobs is None
            and event.choice == 0
            and event.text
        ):
            self._text.append(event.text)
            number = self._number
            self._number = number + 1
            return self._head + dump(event.text) + b',"sequence_number":%d}' % number + CLOSE
        match event:
            case Complete():
                return self._end(event)
            case Error():
                return self._fail(event)
            case _:
                data = self._frames(self._output.take(event))
                self._follow()
                return data

    def _follow(self) -> None:
        """Sees whether the next piece of text would be one of many."""
        message = self._output.message
        text = None if message is None else message.text()
        if text is self._text:
            return
        self._text = text
        if message is not None:
            place = {
                "item_id": message.id,
                "output_index": message.index,
                "content_index": len(message.parts) - 1,
                "logprobs": [],
            }
            self._head = _DELTA + dump(place)[1:-1] + b',"delta":'

    def _end(self, event: Complete) -> bytes:
        whole = event.finish_reason not in ("length", "content_filter")
        changes = self._output.close(whole=whole)
        kind = "response.completed" if whole else "response.incomplete"
        response = completed(self._call, self._output.items(), event)
        return self._frames([*changes, {"type": kind, "response": response}])

    def _fail(self, error: Error) -> bytes:
        """First what went wrong, for clients that know it as the end of a stream, both flat as OpenAI
        documents it and nested as OpenAI sends it; then what there was of the answer."""
        told = {"code": error.code, "message": error.message, "param": error.param}
        nested = {"type": error.type, **told}
        response = failed(self._call, self._output.items(), error)
        return self._frames(
            [
                {"type": "error", **told, "error": nested},
                {"type": "response.failed", "response": response},
            ]
        )

    def _frames(self, changes: list[Change]) -> bytes:
        frames = []
        for change in changes:
            change["sequence_number"] = self._number
            self._number += 1
            frames.append(frame(dump(change), str(change["type"])))
        return b"".join(frames)
