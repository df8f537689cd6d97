"""Events to chunks. Every `data:` is a whole chunk: clients of all ages index into `choices[0]`."""

from typing import assert_never

from adapters.wires.openai_chat.notification import Notifications
from adapters.wires.openai_chat.parts import annotation, completion_id, usage_body
from gateway.errors import error_body
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.ports import Batch, Encoder
from gateway.records import Call
from gateway.sse import CLOSE, DONE, OPEN, dump, frame

_REST = b',"finish_reason":null}]}'
_AFTER = b"}" + _REST + CLOSE
"""What follows the text of a delta."""
_DELTAS = frozenset({Delta})


class ChatEncoder(Encoder):
    """The chunks of one response.

    All chunks begin alike and most carry one piece of text, so the bytes around a piece of text are
    made once for each choice and a piece costs its own JSON and two concatenations.
    """

    def __init__(self, call: Call) -> None:
        self._include_usage = call.request.include_usage
        head = {
            "id": completion_id(call),
            "object": "chat.completion.chunk",
            "created": call.created,
            "model": call.request.model,
        }
        self._head = dump(head)[:-1]
        self._text: dict[int, bytes] = {}
        """For each choice that has begun: the bytes up to the text of a delta."""
        self._tools: dict[str, tuple[int, int]] = {}
        """The client's calls: choice and position in it."""
        self._unwritten: set[str] = set()
        """Those whose arguments have not begun. A provider may tell them only whole, at the end."""
        empty = self._head + b',"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]'
        self._notifications = Notifications(call.dialect, empty)

    def encode(self, batch: Batch, /) -> bytes:
        if len(batch) == 1:
            event = batch[0]
            if type(event) is Delta and event.logprobs is None:
                head = self._text.get(event.choice)
                if head is not None:
                    return head + dump(event.text) + _AFTER
            return self._encode(event)
        head = self._text.get(0)
        if head is not None and _DELTAS.issuperset(map(type, batch)):
            # Pieces of one text that came together: their JSON, with the same bytes between any two.
            texts = [e.text for e in batch if type(e) is Delta and not e.choice and not e.logprobs]
            if len(texts) == len(batch):
                return head + (_AFTER + head).join(map(dump, texts)) + _AFTER
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: Event) -> bytes:
        match event:
            case Delta():
                return self._begin(event.choice) + self._first_or_scored(event)
            case ReasoningDelta():
                return (
                    self._delta(event.choice, {"reasoning_content": event.text})
                    if event.text
                    else b""
                )
            case RefusalDelta():
                return self._delta(event.choice, {"refusal": event.text}, "refusal", event.logprobs)
            case Citation():
                return self._source(event)
            case ToolCallStart() | ToolCallDelta() | ToolCallReady():
                return self._tool_call(event)
            case ToolCallProgress():
                return self._begin(0) + self._notifications.progress(event)
            case ToolCallResult():
                return self._begin(0) + self._notifications.ended(event)
            case StepStart():
                return b""
            case Complete():
                return self._end(event)
            case Error():
                return self._notifications.close() + frame(dump(error_body(event)), "error")
            case _:
                assert_never(event)

    def _begin(self, choice: int) -> bytes:
        """The chunk that opens a choice with its role, once."""
        if choice in self._text:
            return b""
        index = b',"choices":[{"index":%d,"delta":{' % choice
        self._text[choice] = OPEN + self._head + index + b'"content":'
        role = b'"role":"assistant","content":"","refusal":null}'
        return OPEN + self._head + index + role + _REST + CLOSE

    def _first_or_scored(self, event: Delta) -> bytes:
        if event.logprobs is None:
            return self._text[event.choice] + dump(event.text) + _AFTER
        return self._delta(event.choice, {"content": event.text}, "content", event.logprobs)

    def _source(self, event: Citation) -> bytes:
        """As an annotation, or as whoever reads the notifications shows it: with both, it would be twice."""
        told = self._notifications.source(event)
        if told is None:
            return self._delta(event.choice, {"annotations": [annotation(event)]})
        return self._begin(event.choice) + told

    def _delta(
        self, choice: int, delta: object, scored: str | None = None, logprobs: object = None
    ) -> bytes:
        item: dict[str, object] = {"index": choice, "delta": delta}
        if scored is not None and logprobs is not None:
            other = "refusal" if scored == "content" else "content"
            item["logprobs"] = {scored: logprobs, other: None}
        item["finish_reason"] = None
        return self._begin(choice) + self._chunk(b'"choices":' + dump([item]))

    def _chunk(self, rest: bytes) -> bytes:
        return OPEN + self._head + b"," + rest + b"}" + CLOSE

    def _tool_call(self, event: ToolCallStart | ToolCallDelta | ToolCallReady) -> bytes:
        """The client's own calls as deltas; those that others run as notifications, never as calls:
        a client would run them again."""
        match event:
            case ToolCallStart(executor="client"):
                index = sum(choice == event.choice for choice, _ in self._tools.values())
                self._tools[event.call_id] = (event.choice, index)
                self._unwritten.add(event.call_id)
                function = {"name": event.name, "arguments": ""}
                call = {
                    "index": index,
                    "id": event.call_id,
                    "type": "function",
                    "function": function,
                }
                return self._delta(event.choice, {"tool_calls": [call]})
            case ToolCallStart():
                self._notifications.announce(event.call_id, event.name, event.server)
                return b""
            case ToolCallDelta():
                return self._arguments(event.call_id, event.fragment)
            case ToolCallReady() if self._notifications.knows(event.call_id):
                return self._begin(0) + self._notifications.started(event.call_id, event.arguments)
            case ToolCallReady() if event.call_id in self._unwritten:
                return self._arguments(event.call_id, event.arguments)
            case ToolCallReady():
                return b""

    def _arguments(self, call_id: str, fragment: str) -> bytes:
        if call_id not in self._tools or not fragment:
            return b""
        self._unwritten.discard(call_id)
        choice, index = self._tools[call_id]
        call = {"index": index, "function": {"arguments": fragment}}
        return self._delta(choice, {"tool_calls": [call]})

    def _end(self, event: Complete) -> bytes:
        parts = []
        for choice, reason in enumerate((event.finish_reason, *event.further)):
            item = {"index": choice, "delta": {}, "finish_reason": reason}
            parts += [self._begin(choice), self._chunk(b'"choices":' + dump([item]))]
        if self._include_usage and event.usage is not None:
            parts.append(self._chunk(b'"choices":[],"usage":' + dump(usage_body(event.usage))))
        return b"".join([*parts, DONE])
