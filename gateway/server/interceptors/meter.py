"""What a call used: counted while it streams, so that a cut answer is accounted like a whole one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

from gateway.events import (
    Complete,
    Counted,
    Delta,
    Error,
    Event,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.ports import Batch
from gateway.server import tokens
from gateway.server.pipeline import Filter

_LONGEST_TOKEN = 16
"""Bytes. Model servers send a token an event; a longer text is several, and counted."""
_MOST_TEXTS = 256
"""After which they are joined, or counted."""
_MOST_UNCOUNTED = 1 << 16
"""Characters. An answer that is longer is counted in parts, whether or not its provider will report it."""
_BYTES = 4
"""Of a token, roughly."""


@dataclass(slots=True)
class Round:
    """A round of a model as it went."""

    step: StepStart
    began: float
    seconds: float = 0.0


@dataclass(slots=True)
class ToolUse:
    """A call that the server or a provider ran."""

    name: str
    result: ToolCallResult


class Meter(Filter):
    """The account of one call while it runs.

    Counts do not depend on how bytes were cut: an event is an event, however many a read held.
    """

    def __init__(
        self, estimate: Callable[[], int], roughly: Callable[[], int] | None = None
    ) -> None:
        """`estimate`: tokens of the request, asked for once at most, when nobody reports them; `roughly`:
        the same at less cost, for figures that are replaced soon."""
        self._rough_prompt: int | None = None
        self._estimate_roughly = roughly or estimate
        self._started = time.monotonic()
        self._estimate_prompt = estimate
        self._prompt: int | None = None
        self._grown = 0
        """Tokens that the rounds so far have added to the prompt, estimated."""
        self._reported = Usage()
        """By the rounds that are over."""
        self._unreported = Usage()
        """Estimated, for rounds that are over and reported nothing."""
        self._written = 0
        """Tokens of the round that runs, estimated."""
        self._uncounted: list[str] = []
        """Texts of more than a token. They are counted when somebody asks, and nobody does where the
        provider reports its own count."""
        self._characters = 0
        """In them."""
        self._heard = 0
        """Tokens of its tools' results, which are part of the next round's prompt."""
        self.step: StepStart | None = None
        self.attempts: list[str] = []
        """That failed, and were followed by one that did not."""
        self.first_token: float | None = None
        """Seconds from the start of the call."""
        self.story: list[Round | ToolUse] = []
        """Rounds and calls in the order that they ended."""
        self._names: dict[str, str] = {}
        self.end: Complete | Error | None = None
        self._filled = False
        """Whether the usage in `end` is our estimate, since the engine told none."""

    def take(self, batch: Batch, /) -> Batch:
        for event in batch:
            if type(event) is Delta:
                text = event.text
            elif read := _TEXTS.get(type(event)):
                text = read(event)
            else:
                self._note(event)
                continue
            # Nearly all of them: what this asks is a tenth of what counting does.
            if len(text) <= _LONGEST_TOKEN and text.isascii():
                if text:
                    self._written += 1
            else:
                self._hear(text)
            if self.first_token is None:
                self.first_token = time.monotonic() - self._started
        if isinstance(self.end, Complete) and self.end.usage is None:
            # Whoever asked for usage gets what the row says.
            return (*batch[:-1], self.close(self.end))
        return batch

    def close(self, end: Complete) -> Complete:
        """The end with usage in it: what was reported, or else our estimate."""
        self.end = end
        if end.usage is None:
            self._filled = True
            end = self.end = replace(end, usage=self.usage()[0])
        return end

    def usage(self, *, roughly: bool = False) -> tuple[Usage, Counted]:
        """Tokens so far, or in all once `end` is set. `roughly`: where they are estimated, by their length
        alone, for a figure that another one replaces soon."""
        if isinstance(self.end, Complete) and self.end.usage is not None:
            return self.end.usage, "estimated" if self._filled else "reported"
        if self.step is None and not self._written and not self._uncounted:
            return Usage(), "reported"
        total = self._reported + self._unreported + self._estimate(roughly=roughly)
        return total, "estimated" if isinstance(self.end, Complete) else "partial"

    @property
    def tool_calls(self) -> int:
        return sum(isinstance(line, ToolUse) for line in self.story)

    @property
    def duration(self) -> float:
        return time.monotonic() - self._started

    def _estimate(self, *, roughly: bool = False) -> Usage:
        if roughly:
            prompt = self._prompt
            if prompt is None:
                if self._rough_prompt is None:
                    self._rough_prompt = self._estimate_roughly()
                prompt = self._rough_prompt
            written = self._written + self._characters // _BYTES
            return Usage(input_tokens=prompt + self._grown, output_tokens=written)
        if self._prompt is None:
            self._prompt = self._estimate_prompt()
        self._count()
        return Usage(input_tokens=self._prompt + self._grown, output_tokens=self._written)

    def _hear(self, text: str) -> None:
        if tokens.size(text) <= _LONGEST_TOKEN:
            self._written += 1
            return
        self._uncounted.append(text)
        self._characters += len(text)
        if len(self._uncounted) == _MOST_TEXTS:
            if self._characters > _MOST_UNCOUNTED:
                self._count()
            else:
                self._uncounted = ["".join(self._uncounted)]

    def _count(self) -> None:
        if self._uncounted:
            # In one: each by itself took 9 µs.
            self._written += tokens.count("".join(self._uncounted))
            self._uncounted.clear()
            self._characters = 0

    def _note(self, event: Event) -> None:
        match event:
            case StepStart():
                if self.step is not None:
                    self._close_step(event)
                self.step = event
                self.attempts += event.attempts
                self.story.append(Round(event, self.duration))
            case ToolCallStart():
                self._names[event.call_id] = event.name
            case ToolCallReady():
                self._pause()
            case ToolCallResult():
                self._heard += tokens.count(event.output)
                self.story.append(ToolUse(self._names.get(event.call_id, ""), event))
            case Complete() | Error():
                self._pause()
                self.end = event
            case _:
                pass

    def _pause(self) -> None:
        """The model has said what it says in this round, as far as one can know."""
        for line in reversed(self.story):
            if isinstance(line, Round):
                line.seconds = self.duration - line.began
                return

    def _close_step(self, following: StepStart) -> None:
        if following.spent == self._reported:
            self._unreported += self._estimate()
        self._reported = following.spent
        self._count()
        self._grown += self._written + self._heard
        self._written = self._heard = 0


_TEXTS: dict[type[Event], Callable[[Event], str]] = {
    **dict.fromkeys((Delta, ReasoningDelta, RefusalDelta), attrgetter("text")),
    ToolCallDelta: attrgetter("fragment"),
}
"""What the events that are made of tokens are made of."""
