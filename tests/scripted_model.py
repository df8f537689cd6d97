"""A provider that says what a script says, round by round, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeAlias

from gateway.errors import GatewayError
from gateway.events import (
    Complete,
    Delta,
    Event,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
    Usage,
)
from gateway.ports import Batch, Events
from gateway.request import ChatRequest

Part: TypeAlias = Batch | float | GatewayError | asyncio.Event
"""A batch is yielded, a number is slept, an error is raised, an event is waited for."""


class ScriptedModel:
    """One script per round, in order; the last one is said again for every further round."""

    def __init__(self, *rounds: Sequence[Part], name: str = "scripted") -> None:
        self.name = name
        self.requests: list[ChatRequest] = []
        self.open = 0
        """Streams that were begun and not closed yet."""
        self._rounds = rounds

    def stream(self, request: ChatRequest, /) -> Events:
        self.requests.append(request)
        return self._say(self._rounds[min(len(self.requests), len(self._rounds)) - 1])

    async def _say(self, script: Sequence[Part]) -> AsyncGenerator[Batch, None]:
        self.open += 1
        try:
            for part in script:
                match part:
                    case GatewayError():
                        raise part
                    case asyncio.Event():
                        await part.wait()
                    case int() | float():
                        await asyncio.sleep(part)
                    case _:
                        yield part
        finally:
            self.open -= 1

    async def models(self) -> Sequence[str]:
        return ()

    async def aclose(self) -> None:
        pass


def says(text: str, **complete: object) -> list[Batch]:
    """A round of text alone."""
    return [(Delta(text),), (_end(complete),)]


def calls(*wanted: tuple[str, str, str], text: str = "", **complete: object) -> list[Batch]:
    """A round that calls tools: id, name and arguments of each."""
    events: list[Event] = [Delta(text)] if text else []
    for call_id, name, arguments in wanted:
        events += [
            ToolCallStart(call_id, name),
            ToolCallDelta(call_id, arguments),
            ToolCallReady(call_id, arguments),
        ]
    return [tuple(events), (_end({"finish_reason": "tool_calls"} | complete),)]


def _end(fields: dict[str, object]) -> Complete:
    return Complete(**({"usage": Usage(10, 2)} | fields))  # type: ignore[arg-type]  # a test names them


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Returns once something became true that another task does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # nothing there sets an event
            await asyncio.sleep(0.005)
