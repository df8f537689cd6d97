"""Usage rows that Google did not take: kept apart, so that the others go on, and tried again later.

Whose tab or which row is to blame is told by the place that Google names in a refused body. All rows of
that user are then left out and set aside; counters and roll-up have them all the same. What was set aside
is tried again by itself, in halves, until only rows are left that are refused alone; those are tried
ever more seldom.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from gateway.records import UsageRow
from keys.columns import usage_row
from keys.mirror.schema import mirror_aside
from keys.schema import usage_rows

_SOON = timedelta(seconds=5)
_BREATH = timedelta(seconds=15)
"""After a tab was refused, before another one is tried: where none can be made, all would be."""
_FIRST, _LAST = timedelta(minutes=1), timedelta(hours=1)
"""Pauses after a tab, or a row alone, was refused: they double."""
_MOST = 500
_STREAK = 5
"""Rows refused alone, one after the other, before it is rather their tab."""


@dataclass(slots=True)
class _Trial:
    """When and how the rows of a user are tried again."""

    due: datetime
    most: int = _MOST
    pause: timedelta = _FIRST
    streak: int = 0


class Aside:
    """What is left out of a spreadsheet's flushes, and what is tried again. For one thread.

    Remembers no more than whom to leave out: after a restart that is found out once more.
    """

    def __init__(self, book: str, now: Callable[[], datetime]) -> None:
        self._book, self._now = book, now
        self._users: dict[str, str] = {}
        self._rows: dict[str, str] = {}
        self._trials: dict[str, _Trial] = {}
        self._rest = now()

    @property
    def held(self) -> Sequence[str]:
        """Who and what is left out."""
        return sorted((*self._users, *self._rows))

    def leave_out(self, email: str, reason: str) -> None:
        """All rows of a user, until those that are set aside are in the spreadsheet."""
        self._users[email] = reason
        self._trials.setdefault(email, _Trial(self._now() + _SOON))

    def leave_out_row(self, row_id: str, reason: str) -> None:
        self._rows[row_id] = reason

    def reason(self, row: UsageRow) -> str | None:
        """Why a row is left out, if it is."""
        return self._users.get(row.email) or self._rows.get(row.id)

    def uncountable(self, row: UsageRow) -> bool:
        """Whether the roll-up as well is refused with it as it is."""
        return row.id in self._rows

    def due(self, connection: Connection) -> list[UsageRow]:
        """Rows of one user that are to be tried now."""
        now = self._now()
        if now < self._rest:
            return []
        for email in _emails(connection, self._book):
            trial = self._trials.setdefault(email, _Trial(now + _SOON))
            if now >= trial.due:
                return _rows(connection, self._book, email, trial.most)
        return []

    def refuse(self, connection: Connection, rows: Sequence[UsageRow], *, tab: bool) -> None:
        """These, of one user, were tried and refused again. `tab`: none of them was to blame."""
        email = rows[0].email
        trial = self._trials.setdefault(email, _Trial(self._now()))
        done = False
        if not tab and len(rows) > 1:
            trial.most = len(rows) // 2
        elif not tab:
            trial.streak += 1
            _note_try(connection, self._book, rows[0].id)
            done = not _untried(connection, self._book, email)
        if done:
            self._users.pop(email, None)
        if tab:
            self._rest = self._now() + _BREATH
        if tab or done or trial.streak >= _STREAK:
            trial.due = self._now() + trial.pause
            trial.pause = min(_LAST, trial.pause * 2)
        else:
            trial.due = self._now() + _SOON

    def take_back(self, connection: Connection, email: str) -> None:
        """What was tried is in the spreadsheet."""
        trial = self._trials.setdefault(email, _Trial(self._now()))
        self._trials[email] = _Trial(self._now() + _SOON, min(_MOST, trial.most * 2))
        if not _untried(connection, self._book, email):
            self._users.pop(email, None)

    def settle(self, row_ids: Iterable[str]) -> None:
        """These were set aside for good."""
        for row_id in row_ids:
            self._rows.pop(row_id, None)


def put(connection: Connection, book: str, rows: Iterable[tuple[str, str, str]]) -> None:
    """Sets rows aside: request id, e-mail address, and why."""
    for request_id, email, reason in rows:
        statement = upsert(mirror_aside).values(
            book=book, request_id=request_id, email=email, reason=reason, tries=0
        )
        connection.execute(statement.on_conflict_do_nothing())


def remove(connection: Connection, book: str, row_ids: Iterable[str]) -> None:
    for row_id in row_ids:
        connection.execute(delete(mirror_aside).where(*_row(book, row_id)))


def count(connection: Connection, book: str) -> int:
    found = select(func.count()).where(mirror_aside.c.book == book)
    return connection.execute(found).scalar_one()


def ids(connection: Connection, book: str) -> list[str]:
    found = select(mirror_aside.c.request_id).where(mirror_aside.c.book == book)
    return list(connection.execute(found).scalars())


def example(connection: Connection, book: str) -> tuple[str, str] | None:
    """One of the rows, and why it is there."""
    found = (
        select(mirror_aside.c.request_id, mirror_aside.c.reason)
        .where(mirror_aside.c.book == book)
        .order_by(mirror_aside.c.tries.desc(), mirror_aside.c.request_id)
        .limit(1)
    )
    record = connection.execute(found).first()
    return None if record is None else (record.request_id, record.reason)


def _row(book: str, row_id: str) -> tuple[ColumnElement[bool], ...]:
    return mirror_aside.c.book == book, mirror_aside.c.request_id == row_id


def _note_try(connection: Connection, book: str, row_id: str) -> None:
    """A row was refused alone."""
    connection.execute(
        mirror_aside.update().where(*_row(book, row_id)).values(tries=mirror_aside.c.tries + 1)
    )


def _emails(connection: Connection, book: str) -> list[str]:
    found = select(mirror_aside.c.email).where(mirror_aside.c.book == book).distinct()
    return list(connection.execute(found).scalars())


def _untried(connection: Connection, book: str, email: str) -> bool:
    found = select(mirror_aside.c.request_id).where(
        mirror_aside.c.book == book, mirror_aside.c.email == email, mirror_aside.c.tries == 0
    )
    return connection.execute(found.limit(1)).first() is not None


def _rows(connection: Connection, book: str, email: str, most: int) -> list[UsageRow]:
    """Those that were tried least. A row that was refused alone is tried alone."""
    found = (
        select(usage_rows, mirror_aside.c.tries)
        .join(mirror_aside, mirror_aside.c.request_id == usage_rows.c.id)
        .where(mirror_aside.c.book == book, mirror_aside.c.email == email)
        .order_by(mirror_aside.c.tries, usage_rows.c.started_at, usage_rows.c.id)
        .limit(most)
    )
    records = connection.execute(found).all()
    untried = [usage_row(record) for record in records if not record.tries]
    return untried or [usage_row(record) for record in records[:1]]
