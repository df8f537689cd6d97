"""How long a model round may take, and how much a tool loop may do."""

import asyncio
from dataclasses import dataclass

from gateway.errors import ProviderTimedOut
from gateway.ports import Events


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimits:
    """Seconds, for one round of one provider."""

    connect: float = 5.0
    first_event: float = 120.0
    idle: float = 120.0
    """Between two events; comments that a server sends to keep the line open do not count."""
    total: float = 600.0
    """From the first attempt on: pauses and further attempts are part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """What one answer may use up. Beyond them calls are denied and the model has to answer."""

    rounds: int = 16
    parallel_calls: int = 8
    calls: int = 64
    result_bytes: int = 256 * 1024
    """Longer tool results are cut, and say so."""


class _Watch:
    """All time limits of one round on a single timer.

    A timer per event would cost more than everything else that happens to it. Here an event costs
    two assignments; the timer looks at the clock only when the nearest limit could have passed. It
    interrupts only a wait for the provider, never a consumer that is busy with the last batch.
    """

    __slots__ = (
        "_expired",
        "_limits",
        "_loop",
        "_overdue",
        "_since",
        "_started",
        "_task",
        "_timer",
    )

    def __init__(self, limits: TimeLimits, deadline: float | None) -> None:
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._started = False
        self._since: float | None = None
        self._task: asyncio.Task[object] | None = None
        self._expired: str | None = None
        self._overdue = self._loop.time() + limits.total if deadline is None else deadline
        self._timer = self._look_at(self._nearest(self._loop.time()))

    def _nearest(self, since: float) -> float:
        wait = self._limits.idle if self._started else self._limits.first_event
        return min(since + wait, self._overdue)

    def _look_at(self, due: float) -> asyncio.TimerHandle:
        # Not later than the idle limit could pass: nobody sets the timer when the first event comes.
        return self._loop.call_at(min(due, self._loop.time() + self._limits.idle), self._look)

    def wait(self) -> None:
        self._task = asyncio.current_task(self._loop)  # without it, a system call in Python 3.11
        self._since = self._loop.time()

    def got(self) -> None:
        self._since = None
        self._started = True

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

    def translate(self, name: str) -> None:
        """Called on cancellation: raise what it means if it was this watch that cancelled."""
        if self._expired is not None and self._task is not None and not self._task.uncancel():
            raise ProviderTimedOut(f"The provider {name!r} {self._expired}.")

    def stop(self) -> None:
        self._timer.cancel()


async def within(
    limits: TimeLimits, name: str, events: Events, deadline: float | None = None
) -> Events:
    """The same events; raises `ProviderTimedOut` when the provider `name` breaks a limit.

    `deadline`: the time of the loop at which the total limit passes, if it began to count before this.
    """
    watch = _Watch(limits, deadline)
    try:
        while True:
            watch.wait()
            try:
                batch = await anext(events)
            except StopAsyncIteration:
                return
            except asyncio.CancelledError:
                watch.translate(name)
                raise
            watch.got()
            yield batch
    finally:
        watch.stop()
        await events.aclose()
