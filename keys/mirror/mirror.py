"""The mirror at work: one thread that reads what people changed and writes what was used."""

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway.ports import Ledger, Mirror
from keys.database import LedgerError
from keys.ledger import SQLiteLedger
from keys.mirror.book import Book
from keys.mirror.flusher import Flusher
from keys.mirror.google import (
    READS,
    WRITES,
    BudgetSpent,
    Google,
    SheetConfig,
    SheetError,
    SheetLost,
    SheetUnreachable,
)
from keys.mirror.init import initialise

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between what the mirror does."""

    flush: float = 5.0
    poll: float = 12.0
    first_pause: float = 1.0
    last_pause: float = 64.0
    """After a failure: anything up to the pause, which doubles each time."""
    probe: float = 60.0
    """Between looks whether the operator has done what has to be done."""
    farewell: float = 5.0


class SheetsMirror(Mirror):
    """Mirrors a ledger into a Google spreadsheet, and takes edits of keys back. docs/sheets.md.

    `config` has `sheet_id`, `credentials`, `api_base`, and `tiers`, comma separated.
    """

    def __init__(
        self,
        ledger: Ledger,
        config: Mapping[str, str | None],
        *,
        pace: Pace = Pace(),  # frozen
        now: Callable[[], float] = time.monotonic,
        limits: tuple[int, int] = (READS, WRITES),
        timeouts: tuple[float, float] = (5.0, 60.0),
    ) -> None:
        if not isinstance(ledger, SQLiteLedger):
            raise ValueError("SLUICE_SHEET_ID: a spreadsheet mirrors a SQLite ledger only")
        google = Google(SheetConfig.read(config), now=now, limits=limits, timeouts=timeouts)
        tiers = [tier.strip() for tier in (config.get("tiers") or "").split(",")]
        self.book = Book(google, ledger, tuple(dict.fromkeys(["default", *filter(None, tiers)])))
        self._pace, self._now = pace, now
        self._flusher = Flusher(self.book)
        self._poll_at = self._flush_at = self._retry_at = -float("inf")
        self._failures = 0
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._state = "ok"

    # The gateway's side.

    def start(self) -> None:
        if self._thread is None:
            self._ending.clear()
            self._thread = threading.Thread(target=self._run, name="sheets-mirror", daemon=True)
            self._thread.start()

    def close(self) -> None:
        if self._thread is not None:
            self._ending.set()
            self._thread.join(self._pace.farewell + 1)
            if self._thread.is_alive():
                logger.warning(
                    "the spreadsheet does not answer; the rest is written at the next start"
                )
            self._thread = None

    def status(self) -> Mapping[str, object]:
        reads, writes = self.book.google.used()
        flusher = self._flusher.figures
        last = flusher.last_flush
        return {
            "state": "behind" if self._state == "ok" and flusher.backlog else self._state,
            "last_flush": None if last is None else last.isoformat(timespec="seconds"),
            "lag_seconds": flusher.lag(datetime.now(UTC)),
            "backlog_rows": flusher.backlog,
            "quarantined_rows": flusher.quarantined,
            "reads_used": reads,
            "writes_used": writes,
            "cells_used": flusher.cells,
            "problems": self.book.alarms.texts(),
        }

    # The operator's side.

    def init(self) -> Iterator[str]:
        """Raises `SheetError` with what has to be done."""
        return initialise(self.book)

    def reconcile(self, *, repair: bool) -> Iterator[str]:
        raise NotImplementedError

    # The thread.

    def _run(self) -> None:
        while not self._ending.is_set():
            self._ending.wait(self.tick())
        self._farewell()

    def tick(self) -> float:
        """Does what is due, and says how many seconds nothing is."""
        now = self._now()
        if now < self._retry_at:
            return self._retry_at - now
        try:
            if now >= self._poll_at:
                self._poll()
                self._poll_at = self._now() + self._pace.poll
            if now >= self._flush_at:
                self._flusher.step()
                self._flush_at = now + self._pace.flush
        except BudgetSpent as error:
            self._retry_at = self._now() + (error.retry_after or 0.0)
        except SheetUnreachable as error:
            self._wait(error, self._pause(error.retry_after))
        except SheetError as error:
            self._wait(error, self._pace.probe * random.uniform(0.5, 1))
        except LedgerError as error:
            self._wait(error, self._pause(None))
        else:
            self._recover()
        now = self._now()
        return max(0.0, max(self._retry_at, min(self._poll_at, self._flush_at)) - now)

    def _poll(self) -> None:
        """What people changed in the spreadsheet."""

    def _pause(self, asked: float | None) -> float:
        """Full jitter: gateways that failed together do not come back together."""
        if asked is not None:
            return min(asked, self._pace.last_pause) + random.uniform(0, self._pace.first_pause)
        longest = min(self._pace.last_pause, self._pace.first_pause * 2**self._failures)
        return random.uniform(0, longest)

    def _wait(self, error: SheetError | LedgerError, seconds: float) -> None:
        lost = isinstance(error, SheetLost)
        if not self._failures or (lost and self._state != "down"):
            logger.warning("the spreadsheet falls behind: %s", error)
        self._failures = min(self._failures + 1, 16)
        self._retry_at = self._now() + seconds
        self._state = "down" if lost else "behind"
        self.book.alarms.raise_("connection", str(error))

    def _recover(self) -> None:
        if self._failures:
            logger.warning("the spreadsheet can be written again")
        self._failures, self._state = 0, "ok"
        self.book.alarms.clear("connection")

    def _farewell(self) -> None:
        """One last flush, if that is quick."""
        deadline = time.monotonic() + self._pace.farewell
        try:
            while self._flusher.step() and time.monotonic() < deadline:
                pass
        except (SheetError, LedgerError) as error:
            logger.warning("not everything is in the spreadsheet yet: %s", error)
        finally:
            self.book.google.close()
