"""The calls under way: their ids, their checkpoints, and their end when the process is to stop."""

import asyncio
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gateway.errors import GatewayError, ShuttingDown
from gateway.server.account import Account
from gateway.server.pipeline import Delivery

log = logging.getLogger(__name__)

CHECKPOINT = 2.0
"""Seconds. What a killed process loses of a row's token counts, at most."""


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): ids sort by time, as rows do."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@dataclass(frozen=True, slots=True, eq=False)
class LiveCall:
    account: Account
    delivery: Delivery


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

    @contextmanager
    def track(self, call: LiveCall) -> Iterator[None]:
        """Settles the row on the way out, whatever the way. Does not wait for anything."""
        self._live.add(call)
        self._empty.clear()
        if self._end is not None:
            call.delivery.interrupt(self._end)
        try:
            yield
        finally:
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
