"""Events to Anthropic's named frames: a message that is put together before the client's eyes."""

from adapters.wires.anthropic_messages.blocks import Blocks, Piece, Start, Step, Stop
from adapters.wires.anthropic_messages.parts import error_body, message, stop, usage_body
from gateway.events import Complete, Delta, Error, Event
from gateway.ports import Batch, Encoder
from gateway.records import Call, Dialect
from gateway.sse import CLOSE, dump, frame

_TEXT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"text_delta","text":'
)


class MessagesEncoder(Encoder):
    """The frames of one response. Most carry one piece of text: what surrounds it is made once for
    each block of text."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._blocks = Blocks(shows_tools=call.dialect is not Dialect.OFF)
        self._text = b""
        self._text_index = -1

    def begin(self) -> bytes:
        """The prompt's tokens are not known before the end, which tells all counts again."""
        start = {
            "type": "message_start",
            "message": message(self._call, [], usage_body(None)),
        }
        return frame(dump(start), "message_start")

    def encode(self, batch: Batch, /) -> bytes:
        if len(batch) == 1:
            return self._encode(batch[0])
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: Event) -> bytes:
        blocks = self._blocks
        match event:
            case Delta() if blocks.kind == "text" and event.text:
                if blocks.index != self._text_index:
                    self._text_index = blocks.index
                    self._text = _TEXT % blocks.index
                return self._text + dump(event.text) + b"}}" + CLOSE
            case Complete():
                return self._end(event)
            case Error():
                return frame(dump(error_body(event)), "error")
            case _:
                return _frames(blocks.take(event))

    def _end(self, end: Complete) -> bytes:
        steps = self._blocks.close(refused=end.finish_reason == "content_filter")
        delta = {
            "type": "message_delta",
            "delta": stop(end, self._blocks.refusal),
            "usage": usage_body(end.usage),
        }
        return (
            _frames(steps)
            + frame(dump(delta), "message_delta")
            + frame(b'{"type":"message_stop"}', "message_stop")
        )


def _frames(steps: list[Step]) -> bytes:
    return b"".join(map(_frame, steps))


def _frame(step: Step) -> bytes:
    match step:
        case Start():
            name, more = "content_block_start", {"content_block": step.block}
        case Piece():
            name, more = "content_block_delta", {"delta": step.delta}
        case Stop():
            name, more = "content_block_stop", {}
    return frame(dump({"type": name, "index": step.index, **more}), name)
