"""The calls under way: their ids, their checkpoints, and their end when the process is to stop."""

import asyncio
import logging
import os
import time
from dataclasses import dataclass

from gateway.errors import GatewayError, ShuttingDown
from gateway.server.account import Account
from gateway.server.pipeline import Delivery

log = logging.getLogger(__name__)

CHECKPOINT = 2.0
"""Seconds. What a killed process loses of a row's token counts, at most."""


class _Randomness:
    """Random bytes, drawn for 400 ids at once: each system call lets another thread take the interpreter
    from the event loop."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        # The child of a fork must not go on with what its parent uses as well.
        os.register_at_fork(after_in_child=self._parts.clear)

    def ten(self) -> bytes:
        try:
            return self._parts.pop()  # atomic: no two threads get the same
        except IndexError:
            drawn = os.urandom(4000)
            self._parts.extend(drawn[at : at + 10] for at in range(10, 4000, 10))
            return drawn[:10]


_random = _Randomness()


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): ids sort by time, as rows do."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(_random.ten())
    value = value & ~(0xF << 76 | 0x3 << 62) | (0x7 << 76 | 0x2 << 62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True, slots=True, eq=False)
class LiveCall:
    account: Account
    delivery: Delivery


@dataclass(slots=True)
class _Tracked:
    calls: "Calls"
    call: LiveCall

    def __enter__(self) -> None:
        self.calls.enter(self.call)

    def __exit__(self, *error: object) -> None:
        self.calls.leave(self.call)


class Calls:
    """Every call between the opening of its row and its settlement."""

    def __init__(self) -> None:
        self._live: set[LiveCall] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        self._end: GatewayError | None = None
        """What calls are ended with, once they are."""

    def __len__(self) -> int:
        return len(self._live)

    def track(self, call: LiveCall) -> "_Tracked":
        """A block that settles the row on the way out, whatever the way. Does not wait for anything."""
        return _Tracked(self, call)

    def enter(self, call: LiveCall) -> None:
        self._live.add(call)
        self._empty.clear()
        if self._end is not None:
            call.delivery.interrupt(self._end)

    def leave(self, call: LiveCall) -> None:
        self._live.discard(call)
        if not self._live:
            self._empty.set()
        call.account.settle()

    async def checkpoint(self) -> None:
        """Runs for ever: hands to the ledger what open rows count so far."""
        while True:
            await asyncio.sleep(CHECKPOINT)
            for call in tuple(self._live):
                call.account.checkpoint()

    def drain(self, grace: float) -> None:
        """Take no new calls; end those that still run after `grace` seconds."""
        if not self.draining:
            self.draining = True
            log.info("stopping: %d calls have %g s to finish", len(self._live), grace)
            asyncio.get_running_loop().call_later(grace, self.interrupt)

    def interrupt(self) -> None:
        """End all calls now, and any that was just let in, each with an error its client is told."""
        self.draining = True
        self._end = ShuttingDown(
            "The server is shutting down before this answer was complete. Try again."
        )
        for call in tuple(self._live):
            call.delivery.interrupt(self._end)

    async def wait_until_empty(self, timeout: float) -> bool:
        try:
            async with asyncio.timeout(timeout):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
