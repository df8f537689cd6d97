"""Limits of time for a stream of events."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self

from gateway.engine.limits import TimeLimits
from gateway.errors import ProviderTimedOut
from gateway.lane import Lane, divert
from gateway.ports import Batch, Events


class Timed:
    """The events of one round of the provider `name`, which must not take longer than its limits.

    A timer per event would cost more than everything else that happens to it. Here an event costs
    some assignments; one timer looks at the clock only when the nearest limit could have passed. It
    interrupts only a wait for the provider, never a consumer that is busy with the last batch. No
    generator either, which cost 3.5 of a chunk's 57 µs: so whoever iterates has to say when a batch
    has come.

        async with timed:
            async for batch in timed:
                timed.got()

    When a limit has passed what is awaited is cancelled, and leaving the block makes `ProviderTimedOut` of
    that.
    """

    __slots__ = (
        "_events",
        "_expired",
        "_limits",
        "_loop",
        "_name",
        "_overdue",
        "_since",
        "_started",
        "_task",
        "_timer",
    )

    def __init__(
        self,
        limits: TimeLimits,
        name: str,
        events: Events,
        deadline: float | None = None,
        lane: Lane[Batch] | None = None,
    ) -> None:
        """`deadline`: the time of the loop at which the total limit passes, if it began to count before
        this. `lane`: for events that come while a batch is waited for."""
        self._limits = limits
        self._name = name
        self._events = divert(events, lane and lane.after(self._note))
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._since: float | None = None
        self._task: asyncio.Task[object] | None = None
        self._expired: str | None = None
        self._overdue = self._loop.time() + limits.total if deadline is None else deadline
        self._timer = self._look_at(self._nearest(self._loop.time()))

    def _note(self, batch: Batch) -> Batch:
        self._since = self._loop.time()
        return batch

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[Batch]:
        self._task = asyncio.current_task(self._loop)  # without it, a system call in Python 3.11
        self._since = self._loop.time()
        return self._events.__anext__()

    def got(self) -> None:
        """Nothing is waited for until the next batch is asked for."""
        self._since = None
        self._started = True

    async def first(self) -> Batch | None:
        """The first batch, None if there is none. Closed already unless it returns one."""
        try:
            batch = await anext(self)
        except StopAsyncIteration:
            await self.aclose()
            return None
        except BaseException as error:
            await self.__aexit__(type(error), error, None)
            raise
        self.got()
        return batch

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is asyncio.CancelledError and self._is_ours():
                raise ProviderTimedOut(f"The provider {self._name!r} {self._expired}.") from None
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        self._timer.cancel()
        await self._events.aclose()

    def _is_ours(self) -> bool:
        """Whether it was the timer that cancelled, and nobody else did."""
        return self._expired is not None and self._task is not None and not self._task.uncancel()

    def _nearest(self, since: float) -> float:
        wait = self._limits.idle if self._started else self._limits.first_event
        return min(since + wait, self._overdue)

    def _look_at(self, due: float) -> asyncio.TimerHandle:
        # Not later than the idle limit could pass: nobody sets the timer when the first event comes.
        return self._loop.call_at(min(due, self._loop.time() + self._limits.idle), self._look)

    def _look(self) -> None:
        now = self._loop.time()
        due = self._nearest(now if self._since is None else self._since)
        if self._since is None or due > now:
            # Past the total limit, with a consumer at work: look again soon, it will ask for more.
            self._timer = self._look_at(max(due, now + 0.05))
            return
        if now >= self._overdue:
            self._expired = f"did not finish within {self._limits.total:g} s"
        elif self._started:
            self._expired = f"sent nothing for {self._limits.idle:g} s"
        else:
            self._expired = f"did not begin to answer within {self._limits.first_event:g} s"
        if self._task is not None:
            self._task.cancel()
