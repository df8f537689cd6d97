"""Usage rows and the counters of their keys, as statements within a transaction of the caller."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, case, func, insert, select, update

from gateway.records import UsageRow
from keys.columns import IDENTITY, STATE, state_values, usage_row, whole
from keys.prepared import Converter, Prepared, Row, converter
from keys.schema import OPEN, api_keys, usage_rows

_INSERT = Prepared(insert(usage_rows), (*STATE, *IDENTITY))
_UPDATE = Prepared(
    update(usage_rows).where(usage_rows.c.id == bindparam("row_id"), OPEN), (*STATE, "row_id")
)
_COUNT = Prepared(
    update(api_keys)
    .where(api_keys.c.id == bindparam("key_id"))
    .values(
        requests=api_keys.c.requests + bindparam("more_requests"),
        tokens=api_keys.c.tokens + bindparam("more_tokens"),
        last_used_at=case(
            (api_keys.c.last_used_at > bindparam("used_at"), api_keys.c.last_used_at),
            else_=bindparam("used_at"),
        ),
    ),
    ("key_id", "more_requests", "more_tokens", "used_at"),
)
_LAST_REVISION = select(func.max(usage_rows.c.revision)).where(usage_rows.c.revision.is_not(None))


def open_rows(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Raises `IntegrityError` if one of the ids was used before."""
    instant = converter(usage_rows.c.started_at.type, connection.dialect)
    _INSERT.execute(connection, [_whole_row(row, "open", None, instant) for row in rows])


def checkpoint_rows(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Keeps what open rows count so far; settled and unknown ones stay as they are."""
    _UPDATE.execute(connection, [(*state_values(row, "open", None), row.id) for row in rows])


def settle_rows(
    connection: Connection, rows: Sequence[UsageRow], *, opened: Collection[str], revision: int
) -> None:
    """Settles rows with different ids, and counts them for their keys.

    `opened` are ids known to be open in the database; it is asked about others. A row settled
    before stays as it is, one that was never opened is added. The rows get revisions from `revision`.
    """
    unsure = [row.id for row in rows if row.id not in opened]
    statuses: dict[str, str] = {}
    if unsure:
        found = select(usage_rows.c.id, usage_rows.c.status).where(usage_rows.c.id.in_(unsure))
        statuses = {id: status for id, status in connection.execute(found)}
    counters = _Counters()
    present: list[Row] = []
    absent: list[Row] = []
    instant = converter(usage_rows.c.started_at.type, connection.dialect)
    for number, row in enumerate(rows, revision):
        # Who settles a row without an end knows none; the row must not look as if it still ran.
        final = "interrupted" if row.status == "open" else row.status
        if row.id in opened or statuses.get(row.id) == "open":
            present.append((*state_values(row, final, number), row.id))
        elif row.id not in statuses:
            absent.append(_whole_row(row, final, number, instant))
        else:
            continue
        counters.add(row)
    if absent:
        _INSERT.execute(connection, absent)
    if present:
        _UPDATE.execute(connection, present)
    counters.write(connection, instant)


def interrupt_rows(connection: Connection) -> int:
    """Closes the rows that a dead process left open; returns how many.

    They keep what their last checkpoint counted, its duration too, and count for their keys.
    """
    rows = [
        usage_row(record)
        for record in connection.execute(
            select(usage_rows).where(OPEN).order_by(usage_rows.c.started_at, usage_rows.c.id)
        )
    ]
    if rows:
        settle_rows(
            connection,
            [replace(row, status="interrupted", counted="partial") for row in rows],
            opened={row.id for row in rows},
            revision=last_revision(connection) + 1,
        )
    return len(rows)


def last_revision(connection: Connection) -> int:
    return connection.execute(_LAST_REVISION).scalar() or 0


@dataclass(slots=True)
class _Count:
    requests: int
    tokens: int
    used_at: datetime


class _Counters:
    """What a group of rows adds to its keys: one statement for a key, however many its rows."""

    def __init__(self) -> None:
        self._counts: dict[str, _Count] = {}

    def add(self, row: UsageRow) -> None:
        count = self._counts.get(row.key_id)
        if count is None:
            count = self._counts[row.key_id] = _Count(0, 0, row.started_at)
        count.requests += 1
        count.tokens += whole(row.usage.input_tokens) + whole(row.usage.output_tokens)
        count.used_at = max(count.used_at, row.started_at)

    def write(self, connection: Connection, instant: Converter) -> None:
        if self._counts:
            _COUNT.execute(
                connection,
                [
                    (key_id, count.requests, count.tokens, instant(count.used_at))
                    for key_id, count in self._counts.items()
                ],
            )


def _whole_row(row: UsageRow, status: str, revision: int | None, instant: Converter) -> Row:
    identity = (row.id, instant(row.started_at), row.key_id, row.email)
    return (*state_values(row, status, revision), *identity)
