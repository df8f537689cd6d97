"""Usage rows and the counters of their keys, as statements within a transaction of the caller."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, case, func, insert, select, update

from gateway.records import UsageRow
from keys.columns import Values, usage_row, usage_values, whole
from keys.schema import OPEN, api_keys, usage_rows

# A row keeps what it was opened with: whose it is, and where it stands in the order of rows.
_IDENTITY = ("id", "started_at", "key_id", "email")

_INSERT = insert(usage_rows)
_UPDATE = update(usage_rows).where(usage_rows.c.id == bindparam("row_id"), OPEN)
_COUNT = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key_id"))
    .values(
        requests=api_keys.c.requests + bindparam("more_requests"),
        tokens=api_keys.c.tokens + bindparam("more_tokens"),
        last_used_at=case(
            (api_keys.c.last_used_at > bindparam("used_at"), api_keys.c.last_used_at),
            else_=bindparam("used_at", type_=api_keys.c.last_used_at.type),
        ),
    )
)
_LAST_REVISION = select(func.max(usage_rows.c.revision)).where(usage_rows.c.revision.is_not(None))


def open_rows(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Raises `IntegrityError` if one of the ids was used before."""
    connection.execute(_INSERT, [_opened(row) for row in rows])


def checkpoint_rows(connection: Connection, rows: Sequence[UsageRow]) -> None:
    """Keeps what open rows count so far; settled and unknown ones stay as they are."""
    connection.execute(_UPDATE, [_changes(row, "open", None) for row in rows])


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
    present: list[Values] = []
    absent: list[Values] = []
    for number, row in enumerate(rows, revision):
        # Who settles a row without an end knows none; the row must not look as if it still ran.
        final = "interrupted" if row.status == "open" else row.status
        if row.id in opened or statuses.get(row.id) == "open":
            present.append(_changes(row, final, number))
        elif row.id not in statuses:
            absent.append(usage_values(row) | {"status": final, "revision": number})
        else:
            continue
        counters.add(row)
    if absent:
        connection.execute(_INSERT, absent)
    if present:
        connection.execute(_UPDATE, present)
    counters.write(connection)


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

    def write(self, connection: Connection) -> None:
        if not self._counts:
            return
        connection.execute(
            _COUNT,
            [
                {
                    "key_id": key_id,
                    "more_requests": count.requests,
                    "more_tokens": count.tokens,
                    "used_at": count.used_at,
                }
                for key_id, count in self._counts.items()
            ],
        )


def _opened(row: UsageRow) -> Values:
    return usage_values(row) | {"status": "open", "revision": None}


def _changes(row: UsageRow, status: str, revision: int | None) -> Values:
    values = usage_values(row)
    for column in _IDENTITY:
        del values[column]
    return values | {"row_id": row.id, "status": status, "revision": revision}
