"""What an answer was, as messages for a later request: the rounds of the model, and what the gateway's
own tools said between them, which clients see in part or not at all."""

from collections.abc import Sequence
from typing import assert_never

from gateway.engine.loop import WARNING
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
from gateway.ports import Batch
from gateway.request import Message


class Transcript:
    """Of the first choice. Feed it every batch as the engine says it."""

    def __init__(self) -> None:
        self._rounds: list[_Round] = [_Round()]
        self._owners: dict[str, _Round] = {}
        """The rounds of the calls that belong into a history. A provider keeps its own to itself."""
        self._servers: dict[str, str] = {}

    def feed(self, batch: Batch) -> None:
        for event in batch:
            if not getattr(event, "choice", 0):
                self._take(event)

    def messages(self) -> Sequence[Message]:
        """A call of the client's that has no result yet is the last of them."""
        return [row for round_ in self._rounds for row in round_.rows()]

    def _take(self, event: Event) -> None:
        match event:
            case StepStart():
                self._rounds.append(_Round())
            case Delta():
                self._round().text.append(event.text)
            case RefusalDelta():
                self._round().refusal.append(event.text)
            case ReasoningDelta():
                self._round().think(event)
            case ToolCallStart():
                if event.executor != "provider":
                    self._owners[event.call_id] = self._round()
                    self._owners[event.call_id].names[event.call_id] = event.name
                    if event.server is not None:
                        self._servers[event.call_id] = event.server
            case ToolCallReady() if event.call_id in self._owners:
                self._owners[event.call_id].arguments[event.call_id] = event.arguments
            case ToolCallResult() if event.call_id in self._owners:
                result = event.output or event.status
                if (server := self._servers.get(event.call_id)) is not None:
                    # Later rounds do not know any more whether somebody trusts it.
                    result = f"{WARNING.format(server=server)}\n\n{result}"
                self._owners[event.call_id].results[event.call_id] = result
            case ToolCallReady() | ToolCallResult():
                pass
            case ToolCallDelta() | ToolCallProgress() | Citation() | Complete() | Error():
                pass
            case _:
                assert_never(event)

    def _round(self) -> "_Round":
        """The one that is on. Some engines do not tell rounds apart, but what a model says after a
        result is of another."""
        if self._rounds[-1].results:
            self._rounds.append(_Round())
        return self._rounds[-1]


class _Round:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.refusal: list[str] = []
        self.names: dict[str, str] = {}
        self.arguments: dict[str, str] = {}
        self.results: dict[str, str] = {}
        self._thoughts: list[dict[str, str]] = []

    def think(self, event: ReasoningDelta) -> None:
        """One entry for each stretch of thinking, as its provider wants it back."""
        if event.redacted is not None:
            self._thoughts.append({"redacted": event.redacted})
            return
        if not self._thoughts or self._thoughts[-1].keys() & {"signature", "redacted"}:
            self._thoughts.append({"text": ""})
        self._thoughts[-1]["text"] += event.text
        if event.signature is not None:
            self._thoughts[-1]["signature"] = event.signature

    def rows(self) -> list[Message]:
        """Calls whose arguments did not become whole are as if they never were."""
        row: dict[str, object] = {"role": "assistant", "content": self._content()}
        calls = [self._call(call_id) for call_id in self.arguments]
        if not row["content"] and not calls:
            return []
        if calls:
            row["tool_calls"] = calls
        if self._thoughts:
            row["reasoning_details"] = self._thoughts
            if text := "".join(thought.get("text", "") for thought in self._thoughts):
                row["reasoning_content"] = text
        results: list[Message] = [
            {"role": "tool", "tool_call_id": call_id, "content": self.results[call_id]}
            for call_id in self.arguments
            if call_id in self.results
        ]
        return [row, *results]

    def _content(self) -> object:
        text, refusal = "".join(self.text), "".join(self.refusal)
        if not refusal:
            return text or None
        said: list[Json] = [{"type": "text", "text": text}] if text else []
        return [*said, {"type": "refusal", "refusal": refusal}]

    def _call(self, call_id: str) -> Json:
        function = {"name": self.names[call_id], "arguments": self.arguments[call_id]}
        return {"id": call_id, "type": "function", "function": function}
