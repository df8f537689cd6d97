import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import anyio
import pytest

from gateway.engine.apart import apart
from gateway.errors import RateLimited
from gateway.events import Complete, Delta
from gateway.ports import Batch
from tests.samples import drain, stream_of
from tests.scripted_model import until

BATCHES: list[Batch] = [(Delta("a"), Delta("b")), (Delta("c"),), (Complete(),)]


class Foreign:
    """A stream that notes which tasks iterate and close it, and takes its time to close."""

    def __init__(self, *, pause: float = 60, farewell: float = 0.05) -> None:
        self.tasks: set[object] = set()
        self.asked = 0
        self.closed = False
        self._pause = pause
        self._farewell = farewell

    async def stream(self) -> AsyncGenerator[Batch, None]:
        try:
            for batch in BATCHES:
                self.tasks.add(asyncio.current_task())
                self.asked += 1
                yield batch
            await asyncio.sleep(self._pause)
        finally:
            self.tasks.add(asyncio.current_task())
            await asyncio.sleep(self._farewell)
            self.closed = True


async def test_events_stay_as_they_are() -> None:
    heard = [batch async for batch in apart(stream_of(BATCHES))]
    assert heard == BATCHES


async def test_nothing_is_asked_for_that_nobody_wants_yet() -> None:
    foreign = Foreign()
    async with aclosing(apart(foreign.stream())) as events:
        await anext(events)
        await asyncio.sleep(0.01)
        assert foreign.asked == 1
    assert foreign.closed


async def test_one_task_iterates_and_closes_whoever_listens() -> None:
    foreign = Foreign()
    events = apart(foreign.stream())
    for _ in BATCHES:
        await asyncio.ensure_future(anext(events))
    await asyncio.create_task(events.aclose())
    assert len(foreign.tasks) == 1
    assert foreign.closed


async def test_what_is_raised_is_raised() -> None:
    async def failing() -> AsyncGenerator[Batch, None]:
        yield (Delta("a"),)
        raise RateLimited("Not now.")

    with pytest.raises(RateLimited):
        await drain(apart(failing()))


async def test_a_listener_that_is_cancelled_over_and_over_lets_it_finish() -> None:
    """As the scopes of anyio do it, in which a response is served."""
    foreign = Foreign()
    with anyio.move_on_after(0.05) as scope:
        await drain(apart(foreign.stream()))
    assert scope.cancelled_caught
    await until(lambda: foreign.closed)


async def test_a_fault_while_it_closes_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn() -> AsyncGenerator[Batch, None]:
        try:
            yield (Delta("a"),)
        finally:
            raise KeyError("left over")

    with caplog.at_level(logging.ERROR):
        async with aclosing(apart(stubborn())) as events:
            await anext(events)
    assert "the engine failed while it was closed" in caplog.text
