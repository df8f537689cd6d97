"""One answer for several prompts: each is answered in turn, as choices of the same answer."""

from contextlib import aclosing
from dataclasses import dataclass, field, replace

from gateway.errors import ProviderTruncated
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    ReasoningDelta,
    RefusalDelta,
    Step,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.ports import Engine, Events
from gateway.records import Call
from gateway.request import ChatRequest


class Several:
    """Puts `ChatRequest.further` before an engine that knows one history. Others pass untouched."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def stream(self, call: Call, request: ChatRequest, /) -> Events:
        if not request.further:
            return self._engine.stream(call, request)
        return self._answer(call, request)

    async def _answer(self, call: Call, request: ChatRequest) -> Events:
        total = _Total(request.n)
        for messages in (request.messages, *request.further):
            one = replace(request, messages=messages, further=())
            async with aclosing(self._engine.stream(call, one)) as events:
                async for batch in events:
                    if isinstance(batch[-1], Error):
                        yield batch
                        return
                    if isinstance(batch[-1], Complete):
                        if len(batch) > 1:
                            yield [total.place(event) for event in batch[:-1]]
                        total.add(batch[-1])
                        break
                    yield [total.place(event) for event in batch]
                else:
                    raise ProviderTruncated("The engine stopped before its answer was complete.")
        yield (total.complete(),)


@dataclass(slots=True)
class _Total:
    """The answers so far, and where the events of the next one belong."""

    width: int
    """Choices of each."""
    ends: list[Complete] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    spent: Usage = field(default_factory=Usage)

    def place(self, event: Event) -> Event:
        first, started = self.width * len(self.ends), len(self.steps)
        match event:
            case Delta() | ReasoningDelta() | RefusalDelta() | Citation():
                return replace(event, choice=first + event.choice)
            case ToolCallStart():
                return replace(event, choice=first + event.choice, call_id=self._name(event))
            case ToolCallDelta() | ToolCallReady() | ToolCallProgress() | ToolCallResult():
                return replace(event, call_id=self._name(event))
            case StepStart():
                return replace(event, number=started + event.number, spent=self.spent + event.spent)
            case Complete() | Error():
                return event

    def _name(
        self,
        event: ToolCallStart | ToolCallDelta | ToolCallReady | ToolCallProgress | ToolCallResult,
    ) -> str:
        """Ids are unique in an answer, and so in each of these, but not in all of them."""
        return f"{event.call_id}-{len(self.ends)}" if self.ends else event.call_id

    def add(self, end: Complete) -> None:
        started = len(self.steps)
        self.steps += [replace(step, number=started + step.number) for step in end.steps]
        self.spent += end.usage or sum((step.usage for step in end.steps if step.usage), Usage())
        self.ends.append(end)

    def complete(self) -> Complete:
        reasons = [reason for end in self.ends for reason in (end.finish_reason, *end.further)]
        known = all(end.usage is not None for end in self.ends)
        return Complete(
            finish_reason=reasons[0],
            provider_reason=self.ends[0].provider_reason,
            usage=self.spent if known else None,
            steps=tuple(self.steps),
            further=tuple(reasons[1:]),
        )
