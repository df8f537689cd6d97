"""A stream as it can be heard: nothing but text and the client's own tool calls, each of them whole."""

from contextlib import aclosing
from dataclasses import replace

from adapters.wires.voice.plain import PlainSpeech
from gateway.events import (
    Complete,
    Delta,
    Error,
    Event,
    RefusalDelta,
    StepStart,
    ToolCallReady,
    ToolCallStart,
)
from gateway.ports import Batch, Events
from gateway.records import Call


async def speak(call: Call, events: Events) -> Events:
    """As it was written."""
    async with aclosing(_speak(events, None)) as spoken:
        async for batch in spoken:
            yield batch


async def speak_plainly(call: Call, events: Events) -> Events:
    """Without Markdown, addresses and code."""
    async with aclosing(_speak(events, PlainSpeech())) as spoken:
        async for batch in spoken:
            yield batch


async def _speak(events: Events, plain: PlainSpeech | None) -> Events:
    speech = _Speech(plain)
    async with aclosing(events):
        async for batch in events:
            if heard := speech.take(batch):
                yield heard


class _Speech:
    def __init__(self, plain: PlainSpeech | None) -> None:
        self._plain = plain
        self._last = ""
        """The last character of the text."""
        self._announced: dict[str, ToolCallStart] = {}
        """The client's calls whose arguments are not whole yet."""

    def take(self, batch: Batch) -> Batch:
        return [heard for event in batch for heard in self._take(event)]

    def _take(self, event: Event) -> list[Event]:
        match event:
            case Delta(choice=0) | RefusalDelta(choice=0):
                return self._say(event.text)
            case StepStart():
                # What a model says before its tools ran and after are two sentences, not one word.
                parting = self._say("\n") if self._last.strip() else []
                return [*parting, event]
            case ToolCallStart(executor="client", choice=0):
                self._announced[event.call_id] = event
                return []
            case ToolCallReady() if start := self._announced.pop(event.call_id, None):
                # Whole, since some platforms read only the first call of a chunk, and in turn.
                return [*self._rest(), start, event]
            case Complete():
                return [*self._rest(), replace(event, further=())]
            case Error():
                return [*self._rest(), event]
            case _:
                return []

    def _say(self, text: str) -> list[Event]:
        if self._plain is not None:
            text = self._plain.feed(text)
        return self._heard(text)

    def _rest(self) -> list[Event]:
        return self._heard(self._plain.close()) if self._plain is not None else []

    def _heard(self, text: str) -> list[Event]:
        if not text:
            return []
        self._last = text[-1]
        return [Delta(text)]
