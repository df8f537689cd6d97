"""The stream of a call, from the engine to bytes: sealed, intercepted, encoded, delivered."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import ClassVar, TypeAlias

from gateway.errors import GatewayError, InternalError, ProviderTruncated
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
from gateway.lane import Lane, Stream, divert
from gateway.outcome import Outcome
from gateway.ports import Batch, Encoder, Engine, Events, Interceptor
from gateway.records import Call

log = logging.getLogger(__name__)


_UNRULED = frozenset({Delta, ReasoningDelta, RefusalDelta, Citation, StepStart})
"""Events that the grammar allows anywhere before the end."""


class Filter:
    """An interceptor that waits for nothing: it makes a batch of each batch, maybe an empty one.

    Those that follow each other share a generator, since one for each cost a chunk more than what
    they do.
    """

    hears_text: ClassVar[bool] = True
    """Whether it has to see `Delta`s. Another one passes them as they are."""

    def take(self, batch: Batch, /) -> Batch:
        raise NotImplementedError


Step: TypeAlias = Interceptor | Filter


def run(call: Call, engine: Engine, steps: Sequence[Step]) -> Events:
    """The sealed stream of a call. The first step is the outermost, nearest to the client."""
    inwards = deque(reversed(steps))
    filters: list[Filter] = []
    while inwards and isinstance(inwards[0], Filter):
        filters.append(inwards[0])
        inwards.popleft()
    events = seal(engine.stream(call, call.request), filters)
    for step in inwards:
        events = sift(events, step) if isinstance(step, Filter) else step(call, events)
    return events


async def sift(events: Events, step: Filter) -> Events:
    """A filter as a generator of its own, where no other is beside it."""
    async with aclosing(events):
        async for batch in events:
            if batch := step.take(batch):
                yield batch


def guard(interceptor: Interceptor) -> Interceptor:
    """An interceptor that is not ours, whose faults end a stream as those of an engine do."""

    def guarded(call: Call, events: Events) -> Events:
        return seal(interceptor(call, events))

    return guarded


def seal(events: Events, filters: Sequence[Filter] = ()) -> Events:
    """Enforce the grammar of `gateway.events`: exactly one end, and nothing after it; one result for
    each tool call that a server or provider started. Whatever the engine raises becomes `Error`.
    What comes of it goes through the filters, the first of them first."""
    return Stream(partial(_seal, events, filters))


async def _seal(events: Events, filters: Sequence[Filter], lane: Lane[Batch] | None) -> Events:
    if lane is not None:  # text is allowed anywhere
        for step in reversed(filters):
            if step.hears_text:
                lane = lane.after(step.take)
    events = divert(events, lane)
    calls: dict[str, bool] = {}
    try:
        try:
            async for batch in events:
                ended = False
                if not _UNRULED.issuperset(map(type, batch)):
                    batch, ended = _follow(batch, calls)
                for step in filters:
                    batch = step.take(batch)
                if batch:
                    yield batch
                if ended:
                    return
            end = ProviderTruncated("The engine stopped before its answer was complete.").event()
        except GatewayError as error:
            end = error.event()
        except Exception:
            log.exception("the engine failed")
            end = InternalError("The server had an error while processing your request.").event()
        batch = (*_cancelled(calls), end)
        for step in filters:
            batch = step.take(batch)
        yield batch
    finally:
        await _close(events)


async def _close(events: Events) -> None:
    try:
        await events.aclose()
    except Exception:  # the answer is over, or nobody hears it any more: there is no one to tell
        log.exception("the engine failed while it was closed")


def _follow(batch: Batch, calls: dict[str, bool]) -> tuple[Batch, bool]:
    """The events of a batch that are allowed where they stand, and whether it ends the stream.

    `calls`: those that were announced and did not end, and whether they owe a result.
    """
    kept: list[Event] = []
    for event in batch:
        match event:
            case ToolCallStart():
                calls[event.call_id] = event.executor != "client"
            case ToolCallDelta() | ToolCallReady() | ToolCallProgress():
                if event.call_id not in calls:
                    continue
            case ToolCallResult():
                if not calls.get(event.call_id):
                    continue
                del calls[event.call_id]
            case Complete() | Error():
                return [*kept, *_cancelled(calls), event], True
            case _:
                pass
        kept.append(event)
    return kept, False


def _cancelled(calls: dict[str, bool]) -> list[Event]:
    return [
        ToolCallResult(call_id, "cancelled", "Cancelled.")
        for call_id, owed in calls.items()
        if owed
    ]


class Refused(Exception):
    """The answer failed before it had begun: there is a status to say so."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.message)
        self.error = error


class Delivery:
    """Takes the stream of one call to its client, as frames or as a whole.

    `interrupt` ends it from outside with an error that the client is told, wherever it is: while it
    waits for the engine at once, while a client reads after that.
    """

    def __init__(self, events: Events, on_error: Callable[[Error], None]) -> None:
        """`on_error` hears of the error that the client is told, wherever it came from."""
        self._events = events
        self._on_error = on_error
        self._waiting: asyncio.Task[object] | None = None
        self._interruption: GatewayError | None = None
        self._abandoned = False
        self.begun = False
        """Whether the client is told that there is an answer, or a frame waits for that: a failure is a part
        of it then."""
        self.ending = False
        """Whether nothing comes after the frame that was given."""
        self.delivered = False
        """Whether the end of the answer was handed over."""

    def frames(
        self, encoder: Encoder, on_delivered: Callable[[], None] = lambda: None
    ) -> AsyncGenerator[bytes, None]:
        """The answer's bytes. Whole frames only, so that a heartbeat may go between any two.
        `on_delivered` is called when the last one was taken: the engine may take its time to close.

        Raises `Refused` for an answer that fails before it has `begun`.
        """
        return Stream(partial(self._frames, encoder, on_delivered))

    async def _frames(
        self, encoder: Encoder, on_delivered: Callable[[], None], lane: Lane[bytes] | None
    ) -> AsyncGenerator[bytes, None]:
        encoded = None if lane is None else lane.after(encoder.encode)
        self._events = divert(self._events, encoded)
        async with aclosing(self._events):
            task = asyncio.current_task()
            try:
                if self._interruption is None:
                    self._waiting = task
                    async for batch in self._events:
                        self._waiting = None
                        if not self.begun and isinstance(first := batch[0], Error):
                            raise Refused(first)
                        last = batch[-1]
                        end = last if isinstance(last, Complete | Error) else None
                        self.ending = end is not None
                        if data := encoder.encode(batch):
                            self.begun = True
                            yield data
                        if end is not None:
                            self._close(end)
                            on_delivered()
                            return
                        if self._abandoned:
                            return
                        if self._interruption is not None:
                            break
                        self._waiting = task
            except asyncio.CancelledError:
                self._heed(task)
            finally:
                self._waiting = None
            end = self._interrupted()
            if not self.begun:
                raise Refused(end)
            self.ending = True
            if data := encoder.encode((end,)):
                yield data
            self._close(end)
            on_delivered()

    async def collect(self) -> Outcome:
        """The whole answer."""
        outcome = Outcome()
        self._events = divert(self._events, Lane(lambda: True, outcome.feed))
        async with aclosing(self._events):
            task = asyncio.current_task()
            try:
                if self._interruption is None:
                    self._waiting = task
                    async for batch in self._events:
                        outcome.feed(batch)
                        if self._interruption is not None and outcome.end is None:
                            break
            except asyncio.CancelledError:
                self._heed(task)
            finally:
                self._waiting = None
            end = outcome.end
            if end is None:
                end = self._interrupted()
                outcome.feed((end,))
        self._close(end)
        return outcome

    def abandon(self) -> None:
        """The client is gone: take nothing more from the engine. Said besides cancelling whoever
        iterates `frames`, since anyio cannot cancel a task that always has something to do, and an
        engine that floods leaves it no pause."""
        self._abandoned = True

    def interrupt(self, error: GatewayError) -> None:
        if self._interruption is None:
            self._interruption = error
            if self._waiting is not None:
                self._waiting.cancel()

    async def aclose(self) -> None:
        """Stop the engine, wherever it is."""
        await self._events.aclose()

    def _heed(self, task: asyncio.Task[object] | None) -> None:
        """Called on cancellation: raises it again if it was not meant as an interruption."""
        if self._interruption is None or task is None or task.uncancel():
            raise

    def _interrupted(self) -> Error:
        if self._interruption is None:
            raise RuntimeError("nothing interrupted this call")
        return self._interruption.event()

    def _close(self, end: Complete | Error) -> None:
        self.delivered = True
        if isinstance(end, Error):
            self._on_error(end)
