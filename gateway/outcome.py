"""The whole answer, put together from a stream: for `stream: false` and for storage."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    Executor,
    FinishReason,
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


@dataclass(slots=True)
class ToolCall:
    """A tool call with all that became of it. `result` stays None for calls the client is to run."""

    call_id: str
    name: str
    executor: Executor
    arguments: str = ""
    ready: bool = False
    result: ToolCallResult | None = None


@dataclass(slots=True)
class Choice:
    """One answer; there are several only where the client asked for them."""

    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)
    refusal_logprobs: list[Json] = field(default_factory=list)
    citations: list[Citation] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: FinishReason = "stop"


@dataclass(slots=True)
class Outcome:
    """What a stream amounted to. Feed it every batch; it is whole once `end` is set."""

    choices: list[Choice] = field(default_factory=lambda: [Choice()])
    calls: dict[str, ToolCall] = field(default_factory=dict)
    """All tool calls by id, whoever ran them, in the order they were announced."""
    end: Complete | Error | None = None
    story: list[Event] = field(default_factory=list)
    """Every event in its order, for formats that tell what came between what."""

    def feed(self, batch: Sequence[Event]) -> None:
        self.story.extend(batch)
        text = self.choices[0].text
        for event in batch:
            if type(event) is Delta and not event.choice and event.logprobs is None:
                text.append(event.text)
            else:
                self._take(event)

    def _choice(self, index: int) -> Choice:
        while len(self.choices) <= index:
            self.choices.append(Choice())
        return self.choices[index]

    def _take(self, event: Event) -> None:
        match event:
            case Delta():
                choice = self._choice(event.choice)
                choice.text.append(event.text)
                choice.logprobs.extend(event.logprobs or ())
            case ReasoningDelta():
                self._choice(event.choice).reasoning.append(event.text)
            case RefusalDelta():
                choice = self._choice(event.choice)
                choice.refusal.append(event.text)
                choice.refusal_logprobs.extend(event.logprobs or ())
            case Citation():
                self._choice(event.choice).citations.append(event)
            case ToolCallStart():
                call = ToolCall(event.call_id, event.name, event.executor)
                self.calls[event.call_id] = call
                self._choice(event.choice).tool_calls.append(call)
            case ToolCallDelta():
                self.calls[event.call_id].arguments += event.fragment
            case ToolCallReady():
                call = self.calls[event.call_id]
                call.arguments, call.ready = event.arguments, True
            case ToolCallResult():
                self.calls[event.call_id].result = event
            case Complete():
                self.end = event
                reasons = (event.finish_reason, *event.further)
                for index, reason in enumerate(reasons):
                    self._choice(index).finish_reason = reason
            case Error():
                self.end = event
            case ToolCallProgress() | StepStart():
                pass
            case _:
                assert_never(event)
