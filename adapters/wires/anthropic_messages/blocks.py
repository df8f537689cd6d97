"""Events as content blocks: opened, written and closed, one after the other.

A stream of Anthropic's never has two blocks open at once, while a model may write several calls side
by side: what comes while a client's call is being written waits for its end.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import TypeAlias, assert_never

from adapters.wires.anthropic_messages.parts import read_input
from adapters.wires.anthropic_messages.server_tools import result_block, use_block, use_input
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    Json,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.sse import dump


@dataclass(frozen=True, slots=True)
class Start:
    index: int
    block: Json


@dataclass(frozen=True, slots=True)
class Piece:
    index: int
    delta: Json


@dataclass(frozen=True, slots=True)
class Stop:
    index: int


Step: TypeAlias = Start | Piece | Stop


@dataclass(slots=True)
class _Ours:
    """A call that the client does not run."""

    name: str
    told: bool = False


@dataclass(slots=True)
class Blocks:
    """The blocks of one message. `close` them before its end is told."""

    shows_tools: bool = True
    index: int = -1
    """Of the block that was opened last."""
    kind: str | None = None
    """Of the block that is open: text, thinking, tool_use."""
    refusal: str = ""
    """What the model said instead of an answer, apart from its text."""
    _call: str = ""
    """The client's call that is being written."""
    _written: bool = False
    """Whether any of its arguments are."""
    _waiting: deque[list[Event]] = field(default_factory=deque)
    """What came meanwhile, in order; all that belongs to one call is together."""
    _waiting_calls: dict[str, list[Event]] = field(default_factory=dict)
    _ours: dict[str, _Ours] = field(default_factory=dict)

    def take(self, event: Event) -> list[Step]:
        steps: list[Step] = []
        if self.kind != "tool_use":
            self._take(event, steps)
        elif not self._continue(event, steps):
            self._wait(event)
        elif self.kind is None:
            self._resume(steps)
        return steps

    def close(self, *, refused: bool) -> list[Step]:
        """What is left. A refusal that did not end the message as one is text like any other."""
        steps: list[Step] = []
        while self.kind == "tool_use":  # cut before its arguments were whole
            self._stop(steps)
            self._resume(steps)
        if self.refusal and not refused:
            self._write("text", "text", self.refusal, steps)
        self._stop(steps)
        return steps

    def _take(self, event: Event, steps: list[Step]) -> None:
        match event:
            case Delta():
                if event.text:
                    self._write("text", "text", event.text, steps)
            case ReasoningDelta():
                self._think(event, steps)
            case RefusalDelta():
                self.refusal += event.text
            case Citation():
                self._cite(event, steps)
            case ToolCallStart(executor="client"):
                block: Json = {
                    "type": "tool_use",
                    "id": event.call_id,
                    "name": event.name,
                    "input": {},
                }
                self._start("tool_use", block, steps)
                self._call, self._written = event.call_id, False
            case ToolCallStart():
                self._ours[event.call_id] = _Ours(event.name)
            case ToolCallReady() if event.call_id in self._ours:
                self._use(event.call_id, event.arguments, steps)
            case ToolCallResult() if event.call_id in self._ours:
                self._result(event, steps)
            case StepStart():
                self._stop(steps)  # each round of the model has its own blocks
            case ToolCallDelta() | ToolCallReady() | ToolCallProgress() | ToolCallResult():
                pass
            case Complete() | Error():
                pass
            case _:
                assert_never(event)

    def _continue(self, event: Event, steps: list[Step]) -> bool:
        """Goes on with the client's call that is open; says whether `event` was about it."""
        match event:
            case ToolCallDelta(call_id=self._call):
                self._arguments(event.fragment, steps)
            case ToolCallReady(call_id=self._call):
                if not self._written:
                    # SDKs fail on what is no JSON.
                    self._arguments(dump(read_input(event.arguments)).decode(), steps)
                self._stop(steps)
            case _:
                return False
        return True

    def _wait(self, event: Event) -> None:
        match event:
            case ToolCallStart(executor="client"):
                self._waiting_calls[event.call_id] = [event]
                self._waiting.append(self._waiting_calls[event.call_id])
            case ToolCallDelta() | ToolCallReady() if event.call_id in self._waiting_calls:
                self._waiting_calls[event.call_id].append(event)
            case _:
                self._waiting.append([event])

    def _resume(self, steps: list[Step]) -> None:
        """Goes on until a call is open again that is not whole yet."""
        while self._waiting and self.kind != "tool_use":
            first, *rest = self._waiting.popleft()
            self._take(first, steps)
            for event in rest:
                self._continue(event, steps)
            if isinstance(first, ToolCallStart):
                self._waiting_calls.pop(first.call_id, None)

    def _arguments(self, text: str, steps: list[Step]) -> None:
        self._written = True
        delta: Json = {"type": "input_json_delta", "partial_json": text}
        steps.append(Piece(self.index, delta))

    def _think(self, event: ReasoningDelta, steps: list[Step]) -> None:
        if event.redacted is not None:
            block: Json = {"type": "redacted_thinking", "data": event.redacted}
            self._start("redacted_thinking", block, steps)
            self._stop(steps)
            return
        if event.text or (event.signature and self.kind != "thinking"):
            self._write("thinking", "thinking", event.text, steps)
        if event.signature:
            delta: Json = {"type": "signature_delta", "signature": event.signature}
            steps.append(Piece(self.index, delta))
            self._stop(steps)

    def _cite(self, event: Citation, steps: list[Step]) -> None:
        if self.kind != "text":
            self._start("text", {"type": "text", "text": ""}, steps)
        citation: Json = {
            "type": "web_search_result_location",
            "url": event.url,
            "title": event.title,
            "cited_text": "",
            "encrypted_index": "",
        }
        steps.append(Piece(self.index, {"type": "citations_delta", "citation": citation}))

    def _use(self, call_id: str, arguments: str, steps: list[Step]) -> None:
        ours = self._ours[call_id]
        ours.told = True
        if not self.shows_tools:
            return
        self._start("server_tool_use", use_block(call_id, ours.name), steps)
        self._arguments(dump(use_input(ours.name, arguments)).decode(), steps)
        self._stop(steps)

    def _result(self, event: ToolCallResult, steps: list[Step]) -> None:
        ours = self._ours[event.call_id]
        if not ours.told:
            self._use(event.call_id, "", steps)
        if self.shows_tools:
            block = result_block(ours.name, event)
            self._start("result", block, steps)
            self._stop(steps)

    def _write(self, kind: str, field_name: str, text: str, steps: list[Step]) -> None:
        if self.kind != kind:
            block: dict[str, object] = {"type": kind, field_name: ""}
            if kind == "thinking":
                block["signature"] = ""
            self._start(kind, block, steps)
        if text:
            steps.append(Piece(self.index, {"type": f"{kind}_delta", field_name: text}))

    def _start(self, kind: str, block: Json, steps: list[Step]) -> None:
        self._stop(steps)
        self.index += 1
        self.kind = kind
        steps.append(Start(self.index, block))

    def _stop(self, steps: list[Step]) -> None:
        if self.kind is not None:
            steps.append(Stop(self.index))
            self.kind = None
