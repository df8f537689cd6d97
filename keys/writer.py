"""The one thread that writes usage rows: group commit, and what happens when the disk fails.

Whatever waits in the queue is committed as one transaction, so that the cost of a durable commit is
shared by all who wait for it, and nobody waits for more to come: only settlements, which nobody waits
for, let some milliseconds pass for a row that is to be opened. When a commit fails, those who wait
to open a row are refused at once, and settlements are kept and tried again until they succeed.
"""

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeAlias, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)

from gateway.errors import LedgerUnavailable
from gateway.records import UsageRow
from keys import account
from keys.database import Database, LedgerError, describe

logger = logging.getLogger(__name__)

_GROUP = 500
"""Operations in one transaction, at most."""
_LINGER = 0.005
"""Seconds that settlements wait for rows to be opened, to be committed with them: nobody waits for them,
and a commit takes 115 µs of CPU, as much as ten rows."""
_PATIENCE = 10.0
"""Seconds after which a disk that neither takes a row nor fails counts as failed."""
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 1.0
_FAREWELL = 10.0
"""Seconds that `close` goes on trying while the disk fails."""
_MOST_UNOPENED = 10_000
"""Settlements kept of rows that were never opened, while the disk fails."""

_Result = TypeVar("_Result")


@dataclass(slots=True, eq=False)
class _Open:
    row: UsageRow
    waiter: asyncio.Future[None]


@dataclass(slots=True, eq=False)
class _Checkpoint:
    row: UsageRow


@dataclass(slots=True, eq=False)
class _Settle:
    row: UsageRow


@dataclass(slots=True, eq=False)
class _Task:
    """An operator's command."""

    function: Callable[[Connection], object]
    future: Future[object] = field(default_factory=Future)


class _Stop:
    pass


_Operation: TypeAlias = _Open | _Checkpoint | _Settle | _Task | _Stop


@dataclass(slots=True)
class _Group:
    """What one transaction writes, in the order of a row's life, and what came of it."""

    opens: list[_Open] = field(default_factory=list)
    checkpoints: dict[str, UsageRow] = field(default_factory=dict)
    settlements: list[UsageRow] = field(default_factory=list)
    tasks: list[_Task] = field(default_factory=list)
    faulty: list[_Open] = field(default_factory=list)
    answers: list[Callable[[], None]] = field(default_factory=list)


class Writer:
    """Owns the writing connection from `start` to `close`. Its methods may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queue: queue.SimpleQueue[_Operation] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._connection: Connection | None = None
        self._revision = 0
        self._opened: set[str] = set()
        self._unsettled: dict[str, UsageRow] = {}
        """Handed over and not yet written, the first settlement of each row."""
        self._failing = False
        self._pause = _FIRST_PAUSE
        self._retry_at = 0.0
        self._stopping = False
        self._finished = False

    def start(self) -> None:
        """Closes what a dead process left open, and begins. Raises `LedgerError`."""
        with self._database.explained(), self._database.exclusive():
            self._connection = self._database.connect()
            try:
                with self._connection.begin():
                    interrupted = account.interrupt_rows(self._connection)
                    self._revision = account.last_revision(self._connection)
            except BaseException:
                self._let_go_of_connection()
                raise
        if interrupted:
            logger.warning("closed %d usage rows of a gateway that died under them", interrupted)
        self._thread.start()

    def close(self) -> None:
        """Writes what was handed over, then ends. Blocks."""
        self._queue.put(_Stop())
        self._thread.join()

    def open(self, row: UsageRow) -> asyncio.Future[None]:
        """As `Ledger.open`."""
        if self._finished or time.monotonic() < self._retry_at:
            raise _unavailable()
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        waiter.add_done_callback(partial(_note, loop.call_later(_PATIENCE, _fail, waiter)))
        self._put(_Open(row, waiter))
        return waiter

    def checkpoint(self, row: UsageRow) -> None:
        self._put(_Checkpoint(row))

    def settle(self, row: UsageRow) -> None:
        self._put(_Settle(row))

    def call(self, function: Callable[[Connection], _Result]) -> _Result:
        """Runs an operator's command within the next transaction, and waits for its result.

        Raises what it raises, which may be `KeyError` or `ValueError`, and `LedgerError`. It may run
        twice, the first time in vain.
        """
        task = _Task(function)
        self._put(task)
        return cast(_Result, task.future.result())

    def _put(self, operation: _Operation) -> None:
        # No lock: a settlement may come from a finalizer, in the midst of anything.
        self._queue.put(operation)
        if self._finished:
            self._dismiss()

    # From here on, everything runs in the writer's thread.

    def _run(self) -> None:
        try:
            deadline = math.inf
            while time.monotonic() < deadline:
                group = self._take()
                self._handle(group)
                if self._stopping:
                    deadline = min(deadline, time.monotonic() + _FAREWELL)
                    if not self._unsettled and self._queue.empty():
                        break
        finally:
            self._finished = True
            self._dismiss()
            self._let_go()

    def _take(self) -> _Group:
        """What waits in the queue; waits itself if there is nothing to do."""
        group = _Group()
        timeout = 0.0 if self._stopping else None
        if self._unsettled:
            timeout = max(0.0, self._retry_at - time.monotonic()) if self._failing else 0.0
        until = 0.0
        try:
            for _ in range(_GROUP):
                self._sort(group, self._queue.get(timeout=timeout))
                if until == 0.0:
                    until = time.monotonic() + _LINGER
                # What is waited for is committed with what is there; all else waits for that a little.
                hurried = group.opens or group.tasks or self._stopping or self._failing
                timeout = 0.0 if hurried else max(0.0, until - time.monotonic())
        except queue.Empty:
            pass
        return group

    def _sort(self, group: _Group, operation: _Operation) -> None:
        match operation:
            case _Open():
                group.opens.append(operation)
            case _Checkpoint(row=row):
                group.checkpoints[row.id] = row
            case _Settle(row=row):
                self._keep(row)
            case _Task():
                group.tasks.append(operation)
            case _Stop():
                self._stopping = True

    def _keep(self, row: UsageRow) -> None:
        if row.id not in self._opened and len(self._unsettled) >= _MOST_UNOPENED:
            # Such a call got no answer. Those that were promised always have room.
            logger.error("usage row %s is lost: the ledger fails, and it was never opened", row.id)
            return
        self._unsettled.setdefault(row.id, row)

    def _handle(self, group: _Group) -> None:
        if self._failing:
            early = time.monotonic() < self._retry_at
            if early or self._unsettled:
                # What must not be lost goes first, and alone: it may fit where new rows do not.
                self._refuse(group)
                group = _Group()
            if early:
                return
            self._retry_at = math.inf  # one try at a time: whoever comes meanwhile is refused
        try:
            group.settlements = list(islice(self._unsettled.values(), _GROUP))
            self._commit(group)
        except (SQLAlchemyError, OSError) as error:
            self._refuse(group)
            self._fail(error)
        except BaseException:
            self._refuse(group)  # the thread ends here, and leaves nobody waiting
            raise
        else:
            self._recover(group)

    def _commit(self, group: _Group) -> None:
        """One transaction, and its results to those who wait. Raises what the medium does."""
        if not (group.opens or group.checkpoints or group.settlements or group.tasks):
            return
        with self._database.exclusive():
            connection = self._connected()
            try:
                with connection.begin():
                    self._write(connection, group)
            except (SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
                if not _at_fault(error):
                    raise
                with connection.begin():
                    self._write_singly(connection, group)
        self._revision += len(group.settlements)
        self._opened.update(open.row.id for open in group.opens if open not in group.faulty)
        for row in group.settlements:
            self._opened.discard(row.id)
            self._unsettled.pop(row.id, None)
        _resolve([open.waiter for open in group.opens if open not in group.faulty], written=True)
        _resolve([open.waiter for open in group.faulty], written=False)
        for answer in group.answers:
            answer()

    def _write(self, connection: Connection, group: _Group) -> None:
        if group.opens:
            account.open_rows(connection, [open.row for open in group.opens])
        if group.checkpoints:
            account.checkpoint_rows(connection, list(group.checkpoints.values()))
        if group.settlements:
            account.settle_rows(
                connection,
                group.settlements,
                opened=self._known(group),
                revision=self._revision + 1,
            )
        for task in group.tasks:
            self._perform(connection, group, task)

    def _known(self, group: _Group) -> Set[str]:
        """The rows of a group's settlements that are surely open."""
        if self._failing:
            return frozenset()  # nothing is sure: the file may be another one
        fresh = {open.row.id for open in group.opens}
        return {row.id for row in group.settlements if row.id in self._opened or row.id in fresh}

    def _write_singly(self, connection: Connection, group: _Group) -> None:
        """The same once more, each operation on its own: one of them is at fault."""
        group.answers.clear()
        for open in group.opens:
            if not _tried(connection, open.row, account.open_rows):
                group.faulty.append(open)
        for row in group.checkpoints.values():
            _tried(connection, row, account.checkpoint_rows)

        for number, row in enumerate(group.settlements, self._revision + 1):

            def settle(
                connection: Connection, rows: Sequence[UsageRow], revision: int = number
            ) -> None:
                account.settle_rows(connection, rows, opened=(), revision=revision)

            _tried(connection, row, settle)
        for task in group.tasks:
            self._perform(connection, group, task)

    def _perform(self, connection: Connection, group: _Group, task: _Task) -> None:
        try:
            with connection.begin_nested():
                result = task.function(connection)
        except (KeyError, ValueError) as error:
            reason = error  # the name of a caught exception ends with its clause
            group.answers.append(lambda: task.future.set_exception(reason))
        else:
            group.answers.append(lambda: task.future.set_result(result))

    def _connected(self) -> Connection:
        """The connection; a new one after a failure, whatever state that left the old one in."""
        if self._connection is None or self._failing:
            self._let_go_of_connection()
            self._connection = self._database.connect()
        else:
            self._database.check_place()
        return self._connection

    def _refuse(self, group: _Group) -> None:
        # Checkpoints are dropped: the next one, or the settlement, says more.
        _resolve([open.waiter for open in group.opens], written=False)
        for task in group.tasks:
            if not task.future.done():
                task.future.set_exception(LedgerError(f"{self._database.path} cannot be written"))

    def _fail(self, error: Exception) -> None:
        if not self._failing:
            self._pause = _FIRST_PAUSE
            logger.error("the ledger cannot be written, new calls are refused: %s", describe(error))
        self._failing = True
        self._retry_at = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, _LAST_PAUSE)

    def _recover(self, group: _Group) -> None:
        if not self._failing:
            return
        self._retry_at = 0.0
        if group.opens or group.tasks:  # settlements alone prove little
            self._failing = False
            logger.warning("the ledger can be written again")

    def _dismiss(self) -> None:
        """Refuses what came after the end. Settlements of open rows become `interrupted` later."""
        group = _Group()
        try:
            while True:
                self._sort(group, self._queue.get_nowait())
        except queue.Empty:
            pass
        self._refuse(group)
        lost, self._unsettled = self._unsettled, {}
        if lost:
            # Those that were opened are closed as `interrupted` at the next start.
            logger.error(
                "%d usage rows are not settled: %s", len(lost), ", ".join(islice(lost, 20))
            )

    def _let_go(self) -> None:
        try:
            with self._database.exclusive():
                self._let_go_of_connection()
        except OSError as error:
            logger.error("the ledger's lock cannot be had to close it: %s", error)

    def _let_go_of_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def _tried(
    connection: Connection,
    row: UsageRow,
    write: Callable[[Connection, Sequence[UsageRow]], None],
) -> bool:
    """Whether the row could be written; a fault of its own leaves the rest of the group alone."""
    try:
        with connection.begin_nested():
            write(connection, [row])
    except (SQLAlchemyError, ValueError, TypeError, OverflowError) as error:
        if not _at_fault(error):
            raise
        logger.error("usage row %s cannot be written: %s", row.id, describe(error))
        return False
    return True


def _at_fault(error: Exception) -> bool:
    """Whether an operation is to blame, which then fails alone, and not the medium."""
    match error:
        case DBAPIError(connection_invalidated=True):
            return False
        case IntegrityError() | DataError() | InterfaceError() | ProgrammingError():
            return True
        case DBAPIError():
            return False
        case StatementError() | ValueError() | TypeError() | OverflowError():
            return True  # a value that the driver does not take
        case _:
            return False


def _unavailable() -> LedgerUnavailable:
    return LedgerUnavailable(
        "Usage cannot be accounted for at the moment, so nothing is served. Try again."
    )


def _resolve(waiters: Sequence[asyncio.Future[None]], *, written: bool) -> None:
    """Wakes those who wait, with one call for each event loop. A loop that has gone is left alone."""
    loops = defaultdict(list)
    for waiter in waiters:
        loops[waiter.get_loop()].append(waiter)
    for loop, group in loops.items():
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_finish, group, written)


def _finish(waiters: Sequence[asyncio.Future[None]], written: bool) -> None:
    for waiter in waiters:
        if not written:
            _fail(waiter)
        elif not waiter.done():  # given up meanwhile
            waiter.set_result(None)


def _fail(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_exception(_unavailable())


def _note(timer: asyncio.TimerHandle, waiter: asyncio.Future[None]) -> None:
    timer.cancel()
    if not waiter.cancelled():
        waiter.exception()  # taken note of, should nobody ask
