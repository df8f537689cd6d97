"""The stream of a call, from the engine to bytes: sealed, intercepted, encoded, delivered."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from gateway.errors import GatewayError, InternalError, ProviderTruncated
from gateway.events import (
    Complete,
    Delta,
    Error,
    Event,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.outcome import Outcome
from gateway.ports import Batch, Encoder, Engine, Events, Interceptor
from gateway.records import Call

log = logging.getLogger(__name__)


def run(call: Call, engine: Engine, interceptors: Sequence[Interceptor]) -> Events:
    """The sealed stream of a call. The first interceptor is the outermost, nearest to the client."""
    events = seal(engine.stream(call, call.request))
    for interceptor in reversed(interceptors):
        events = interceptor(call, events)
    return events


def guard(interceptor: Interceptor) -> Interceptor:
    """An interceptor that is not ours, whose faults end a stream as those of an engine do."""

    def guarded(call: Call, events: Events) -> Events:
        return seal(interceptor(call, events))

    return guarded


async def seal(events: Events) -> Events:
    """Enforce the grammar of `gateway.events`: exactly one end, and nothing after it; one result for
    each tool call that a server or provider started. Whatever the engine raises becomes `Error`."""
    calls: dict[str, bool] = {}
    try:
        try:
            async for batch in events:
                if len(batch) == 1 and type(batch[0]) is Delta:
                    yield batch
                    continue
                batch, ended = _follow(batch, calls)
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
        yield (*_cancelled(calls), end)
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


class Delivery:
    """Takes the stream of one call to its client, as frames or as a whole.

    `interrupt` ends it from outside with an error that the client is told, wherever it is: while it
    waits for the engine at once, while a client reads after that.
    """

    def __init__(self, events: Events, on_error: Callable[[Error], None]) -> None:
        """`on_error` hears of the error that the client is told, wherever it came from."""
        self._events = events
        self._on_error = on_error
        self._pending: asyncio.Future[Batch] | None = None
        self._waiting: asyncio.Task[object] | None = None
        self._interruption: GatewayError | None = None
        self._abandoned = False
        self.delivered = False
        """Whether the end of the answer was handed over."""

    async def first(self, wait: float) -> Batch | None:
        """The first batch, or None when there is none yet after `wait` seconds. Does not lose it."""
        if self._interruption is not None:
            return self._interrupted()
        pending = self._pending = asyncio.ensure_future(anext(self._events))
        task = self._waiting = asyncio.current_task()
        try:
            await asyncio.wait((pending,), timeout=wait)
        except asyncio.CancelledError:
            self._heed(task)
            return self._interrupted()
        finally:
            self._waiting = None
        return await self._next(task) if pending.done() else None

    async def frames(self, encoder: Encoder, first: Batch | None) -> AsyncGenerator[bytes, None]:
        """The answer's bytes. Whole frames only, so that a heartbeat may go between any two."""
        async with aclosing(self._events):
            if opening := encoder.begin():
                yield opening
            task = asyncio.current_task()
            batch = first or await self._next(task)
            while not self._abandoned:
                if data := encoder.encode(batch):
                    yield data
                if isinstance(batch[-1], Complete | Error):
                    self._close(batch[-1])
                    return
                batch = await self._next(task)

    async def collect(self) -> Outcome:
        """The whole answer."""
        outcome = Outcome()
        async with aclosing(self._events):
            task = asyncio.current_task()
            while outcome.end is None:
                outcome.feed(await self._next(task))
        self._close(outcome.end)
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
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.wait((self._pending,))
        await self._events.aclose()

    async def _next(self, task: asyncio.Task[object] | None) -> Batch:
        """`task`: the present one, which does not change within an answer."""
        if self._interruption is not None:
            return self._interrupted()
        pending, self._pending = self._pending, None
        self._waiting = task
        try:
            return await (anext(self._events) if pending is None else pending)
        except asyncio.CancelledError:
            self._heed(task)
            return self._interrupted()
        finally:
            self._waiting = None

    def _heed(self, task: asyncio.Task[object] | None) -> None:
        """Called on cancellation: raises it again if it was not meant as an interruption."""
        if self._interruption is None or task is None or task.uncancel():
            raise

    def _interrupted(self) -> Batch:
        if self._interruption is None:
            raise RuntimeError("nothing interrupted this call")
        return (self._interruption.event(),)

    def _close(self, end: Complete | Error) -> None:
        self.delivered = True
        if isinstance(end, Error):
            self._on_error(end)
