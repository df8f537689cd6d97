"""The mirror at work: one thread that reads what people changed and writes what was used."""

import logging
import random
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from gateway.ports import Ledger, Mirror
from keys.database import LedgerError
from keys.ledger import SQLiteLedger
from keys.mirror import aside, audit, schema, tables
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
from keys.mirror.init import initialise, redraw
from keys.mirror.intake import Intake
from keys.mirror.reconcile import Reconciliation

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
    impatience: float = 4.0
    """The longest pause before people's edits of keys are looked for again: a revocation waits for it."""
    patience: float = 10.0
    """For an answer to such a look."""
    farewell: float = 5.0


@dataclass(slots=True)
class _Duty:
    """What is done again and again, with pauses of its own after failures: a full spreadsheet must not
    keep a revocation from being read."""

    work: Callable[[], object]
    every: float
    last_pause: float
    probe: float
    due: float = -float("inf")
    failures: int = 0
    error: SheetError | LedgerError | None = None


class SheetsMirror(Mirror):
    """Mirrors a ledger into a Google spreadsheet, and takes edits of keys back. docs/sheets.md.

    `config` has `sheet_id` (further ones for when it is full, after commas), `credentials`, `api_base`,
    `full` (the share of cells at which a spreadsheet is full), and `tiers`, comma separated.
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
        wanted = SheetConfig.read(config)
        google = Google(wanted, now=now, limits=limits, timeouts=timeouts)
        tiers = [tier.strip() for tier in (config.get("tiers") or "").split(",")]
        self.book = Book(google, ledger, tuple(dict.fromkeys(["default", *filter(None, tiers)])))
        self._pace, self._now = pace, now
        full = float(config.get("full") or 0.8)
        self._flusher = Flusher(self.book, full=full)
        self._flushers = [self._flusher]
        for sheet_id in wanted.further:
            book = replace(self.book, google=google.other(sheet_id))
            self._flushers.append(Flusher(book, follows=self._flushers[-1], full=full))
        self._intake = Intake(replace(self.book, google=google.within(pace.patience)))
        self._duties = (
            _Duty(self._intake.poll, pace.poll, pace.impatience, pace.poll),
            *(
                _Duty(flusher.step, pace.flush, pace.last_pause, pace.probe)
                for flusher in self._flushers
            ),
        )
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

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
        figures = [flusher.figures for flusher in self._flushers]
        backlog = max(each.backlog for each in figures)
        last = max((each.last_flush for each in figures if each.last_flush), default=None)
        return {
            "state": self._state(backlog),
            "last_flush": _told(last),
            "last_look": _told(self._intake.last_look),
            "lag_seconds": max(each.lag(datetime.now(UTC)) for each in figures),
            "backlog_rows": backlog,
            "quarantined_rows": max(each.quarantined for each in figures),
            "reads_used": reads,
            "writes_used": writes,
            "cells_used": figures[0].cells if len(figures) == 1 else [it.cells for it in figures],
            "problems": self.book.alarms.texts(),
        }

    # The operator's side.

    def remembered(self) -> Mapping[str, object]:
        """Raises `LedgerError`."""
        self.book.change(schema.prepare)
        with self.book.reading() as connection:
            states = [tables.state(connection, each.book.id) for each in self._flushers]
            upto = max(int(state.get("upto", "0")) for state in states)
            backlog = tables.backlog(connection, upto)
            refused = sum(aside.count(connection, each.book.id) for each in self._flushers)
        flushed = max(
            (
                datetime.fromisoformat(state[tables.FLUSHED])
                for state in states
                if tables.FLUSHED in state
            ),
            default=None,
        )
        return {
            "state": "unknown",
            "last_flush": _told(flushed),
            "backlog_rows": backlog,
            "quarantined_rows": refused,
            "problems": [state[tables.RESTORED] for state in states if tables.RESTORED in state],
        }

    def init(self) -> Iterator[str]:
        """Raises `SheetError` with what has to be done."""
        for flusher in self._flushers:
            yield from initialise(flusher)

    def repair_dashboard(self) -> Iterator[str]:
        """Raises `SheetError`."""
        return redraw(self.book)

    def audit(self, reference: str | None, limit: int, /) -> Iterator[Mapping[str, object]]:
        key_id = None if reference is None else self.book.ledger.key(reference).id
        self.book.change(schema.prepare)
        with self.book.reading() as connection:
            for entry in audit.entries(connection, key_id, limit):
                yield entry.told()

    def reconcile(self, *, repair: bool) -> Generator[str, None, bool]:
        """Raises `SheetError` and `LedgerError`. Takes its time: Google's quota is the gateway's."""
        books = [flusher.book for flusher in self._flushers]
        rows = yield from Reconciliation(books).run(repair=repair)
        keys = yield from self._intake.reconcile(repair=repair)
        return rows and keys

    # The thread.

    def _run(self) -> None:
        while not self._ending.is_set():
            self._ending.wait(self.tick())
        self._farewell()

    def tick(self) -> float:
        """Does what is due, and says how many seconds nothing is."""
        for duty in self._duties:
            if self._now() >= duty.due:
                self._do(duty)
        return max(0.0, min(duty.due for duty in self._duties) - self._now())

    def _do(self, duty: _Duty) -> None:
        begun = self._now()
        try:
            duty.work()
        except BudgetSpent as error:
            duty.due = self._now() + (error.retry_after or 0.0)
        except SheetUnreachable as error:
            self._wait(duty, error, self._pause(duty, error.retry_after))
        except SheetError as error:
            self._wait(duty, error, duty.probe * random.uniform(0.5, 1))
        except LedgerError as error:
            self._wait(duty, error, self._pause(duty, None))
        else:
            duty.due = begun + duty.every
            self._recover(duty)

    def _state(self, backlog: int) -> str:
        errors = [duty.error for duty in self._duties if duty.error is not None]
        if any(isinstance(error, SheetLost) for error in errors):
            return "down"
        return "behind" if errors or backlog else "ok"

    def _pause(self, duty: _Duty, asked: float | None) -> float:
        """Full jitter: gateways that failed together do not come back together."""
        if asked is not None:
            return min(asked, self._pace.last_pause) + random.uniform(0, self._pace.first_pause)
        longest = min(duty.last_pause, self._pace.first_pause * 2**duty.failures)
        return random.uniform(0, longest)

    def _wait(self, duty: _Duty, error: SheetError | LedgerError, seconds: float) -> None:
        lost, known = isinstance(error, SheetLost), [duty.error for duty in self._duties]
        if not any(known) or (lost and not any(isinstance(it, SheetLost) for it in known)):
            logger.warning("the spreadsheet falls behind: %s", error)
        duty.failures = min(duty.failures + 1, 16)
        duty.due = self._now() + seconds
        duty.error = error
        self.book.alarms.raise_("connection", str(error))

    def _recover(self, duty: _Duty) -> None:
        if duty.error is None:
            return
        duty.error, duty.failures = None, 0
        if not any(it.error for it in self._duties):
            logger.warning("the spreadsheet can be written again")
            self.book.alarms.clear("connection")

    def _farewell(self) -> None:
        """One last flush, if that is quick."""
        deadline = time.monotonic() + self._pace.farewell
        try:
            for flusher in self._flushers:
                while flusher.step() and time.monotonic() < deadline:
                    pass
        except (SheetError, LedgerError) as error:
            logger.warning("not everything is in the spreadsheet yet: %s", error)
        finally:
            self.book.google.close()


def _told(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")
