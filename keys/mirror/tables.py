"""What the mirror remembers of a spreadsheet, and how it is read and written in the ledger."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import orjson
from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from gateway.records import ApiKey, UsageRow
from keys.columns import Record, api_key, usage_row
from keys.mirror import aside
from keys.mirror.schema import mirror_daily, mirror_flushes, mirror_keys, mirror_state
from keys.rollup import Group, Total
from keys.schema import api_keys, usage_rows

FLUSHED, RESTORED = "flushed", "restored"
"""In the state of a spreadsheet: when something was last written to it, and why this ledger seems to be
an older copy of itself."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What is true once a flush was applied. Absolute, so that nothing depends on how often it is done."""

    upto: int
    """Usage rows up to this revision are in the spreadsheet."""
    rows: int
    keys: Sequence[tuple[str, bool, int | None]] = ()
    """Key id, whether it is listed, its row in `_key_stats`."""
    daily: Sequence[tuple[Group, Total, int]] = ()
    layout: str = ""
    """What the columns of the tabs were that the body was made for."""
    again: Sequence[str] = ()
    """Rows that were set aside before, and are in the spreadsheet now."""
    aside: Sequence[tuple[str, str, str]] = ()
    """Rows up to `upto` that are not: request id, e-mail address and why."""

    def pack(self) -> bytes:
        return orjson.dumps(
            {
                "upto": self.upto,
                "rows": self.rows,
                "keys": self.keys,
                "daily": [
                    [group.day.isoformat(), *group[1:], row, *_sums(total)]
                    for group, total, row in self.daily
                ],
                "layout": self.layout,
                "again": self.again,
                "aside": self.aside,
            }
        )

    @classmethod
    def unpack(cls, data: bytes) -> "Effects":
        tree = orjson.loads(data)
        return cls(
            upto=tree["upto"],
            rows=tree["rows"],
            keys=[(key, listed, row) for key, listed, row in tree["keys"]],
            daily=[
                (Group(date.fromisoformat(item[0]), *item[1:5]), Total(*item[6:]), item[5])
                for item in tree["daily"]
            ],
            layout=tree["layout"],
            again=tree.get("again", ()),
            aside=[(row_id, email, why) for row_id, email, why in tree.get("aside", ())],
        )


@dataclass(frozen=True, slots=True)
class Flush:
    """A body that is sent until its outcome is known."""

    token: str
    number: int
    body: bytes
    """Empty in an older one."""
    effects: Effects


def state(connection: Connection, book: str) -> dict[str, str]:
    found = select(mirror_state.c.name, mirror_state.c.value).where(mirror_state.c.book == book)
    return {name: value for name, value in connection.execute(found)}


def set_state(connection: Connection, book: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        statement = upsert(mirror_state).values(book=book, name=name, value=value)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["book", "name"], set_={"value": statement.excluded.value}
            )
        )


def drop_state(connection: Connection, book: str, name: str) -> None:
    connection.execute(
        delete(mirror_state).where(mirror_state.c.book == book, mirror_state.c.name == name)
    )


def keep_state(connection: Connection, book: str, name: str, value: str) -> None:
    """Sets what is not set yet."""
    statement = upsert(mirror_state).values(book=book, name=name, value=value)
    connection.execute(statement.on_conflict_do_nothing())


def usage_after(connection: Connection, revision: int, limit: int) -> list[tuple[int, UsageRow]]:
    """Settled rows in the order of their settlement, with their revisions."""
    found = (
        select(usage_rows)
        .where(usage_rows.c.revision > revision)
        .order_by(usage_rows.c.revision)
        .limit(limit)
    )
    return [(record.revision, usage_row(record)) for record in connection.execute(found)]


def usage_of(connection: Connection, row_ids: Sequence[str]) -> list[UsageRow]:
    found = select(usage_rows).where(usage_rows.c.id.in_(row_ids))
    return [usage_row(record) for record in connection.execute(found)]


def backlog(connection: Connection, revision: int) -> int:
    """Rows after a revision. Revisions are counted up one by one."""
    last = connection.execute(
        select(func.max(usage_rows.c.revision)).where(usage_rows.c.revision.is_not(None))
    ).scalar()
    return max(0, (last or 0) - revision)


def unlisted_keys(connection: Connection, book: str, limit: int) -> list[tuple[ApiKey, bytes]]:
    """Keys that the tab of keys does not have, with their digests, oldest first."""
    listed = select(mirror_keys.c.key_id).where(mirror_keys.c.book == book, mirror_keys.c.listed)
    found = (
        select(api_keys)
        .where(api_keys.c.id.not_in(listed))
        .order_by(api_keys.c.created_at, api_keys.c.id)
        .limit(limit)
    )
    return [(api_key(record), record.digest) for record in connection.execute(found)]


def list_keys(connection: Connection, book: str, key_ids: Iterable[str]) -> None:
    """Notes that the tab of keys has these: they are not appended."""
    for key_id in key_ids:
        _put_key(connection, book, key_id, listed=True, row=None)


def unlist_key(connection: Connection, book: str, key_id: str) -> None:
    """Notes that the tab of keys has lost this one: it is appended again."""
    connection.execute(
        mirror_keys.update()
        .where(mirror_keys.c.book == book, mirror_keys.c.key_id == key_id)
        .values(listed=False)
    )


def stats_rows(connection: Connection, book: str, key_ids: Sequence[str]) -> dict[str, int]:
    """Rows of keys in `_key_stats`, of those that have one."""
    found = select(mirror_keys.c.key_id, mirror_keys.c.row).where(
        mirror_keys.c.book == book,
        mirror_keys.c.key_id.in_(key_ids),
        mirror_keys.c.row.is_not(None),
    )
    return {key_id: row for key_id, row in connection.execute(found)}


def daily_total(connection: Connection, book: str, group: Group) -> tuple[Total, int | None] | None:
    """What the roll-up has for a group, and in which row, if it has one."""
    columns = mirror_daily.c
    record = connection.execute(
        select(mirror_daily).where(
            columns.book == book,
            columns.day == group.day.isoformat(),
            columns.email == group.email,
            columns.key_id == group.key_id,
            columns.model == group.model,
            columns.provider == group.provider,
        )
    ).one_or_none()
    if record is None:
        return None
    return _total(record), record.row


def daily_groups(connection: Connection, book: str, day: date) -> int:
    """How many groups the roll-up has for a day."""
    found = select(func.count()).where(
        mirror_daily.c.book == book, mirror_daily.c.day == day.isoformat()
    )
    return connection.execute(found).scalar_one()


def flushes(connection: Connection, book: str) -> list[Flush]:
    """Those whose outcome is not known, the latest last."""
    found = (
        select(mirror_flushes).where(mirror_flushes.c.book == book).order_by(mirror_flushes.c.id)
    )
    return [
        Flush(record.token, record.number, record.body, Effects.unpack(record.effects))
        for record in connection.execute(found)
    ]


def store_flush(connection: Connection, book: str, flush: Flush) -> None:
    """Keeps a flush before it is sent. Those before it give up their bodies."""
    connection.execute(
        mirror_flushes.update().where(mirror_flushes.c.book == book).values(body=b"")
    )
    connection.execute(
        insert(mirror_flushes),
        {
            "book": book,
            "token": flush.token,
            "number": flush.number,
            "body": flush.body,
            "effects": flush.effects.pack(),
        },
    )


def confirm_flush(connection: Connection, book: str, flush: Flush, at: datetime) -> None:
    """A flush was applied: nothing of it is ever sent again."""
    effects = flush.effects
    told = {"upto": str(effects.upto), "number": str(flush.number), FLUSHED: at.isoformat()}
    set_state(connection, book, told)
    for key_id, listed, row in effects.keys:
        _put_key(connection, book, key_id, listed=listed, row=row)
    for group, total, row in effects.daily:
        _put_daily(connection, book, group, total, row)
    aside.put(connection, book, effects.aside)
    aside.remove(connection, book, effects.again)
    connection.execute(delete(mirror_flushes).where(mirror_flushes.c.book == book))


def counters(connection: Connection, key_ids: Sequence[str]) -> list[ApiKey]:
    """The keys of these ids that there are, as they are now."""
    return [
        api_key(record)
        for record in connection.execute(select(api_keys).where(api_keys.c.id.in_(key_ids)))
    ]


def forget_stats(connection: Connection, book: str) -> None:
    """`_key_stats` was made anew: no key has a line there."""
    connection.execute(mirror_keys.update().where(mirror_keys.c.book == book).values(row=None))


def forget_daily(connection: Connection, book: str) -> None:
    """`_daily` was made anew: no group has a line there."""
    connection.execute(mirror_daily.update().where(mirror_daily.c.book == book).values(row=None))


def homeless_groups(connection: Connection, book: str, limit: int) -> list[tuple[Group, Total]]:
    """Groups of the roll-up that have no line in `_daily`."""
    found = (
        select(mirror_daily)
        .where(mirror_daily.c.book == book, mirror_daily.c.row.is_(None))
        .limit(limit)
    )
    return [(_group(record), _total(record)) for record in connection.execute(found)]


def homeless_keys(connection: Connection, book: str, limit: int) -> list[str]:
    """Keys that were used and have no line in `_key_stats`."""
    housed = select(mirror_keys.c.key_id).where(
        mirror_keys.c.book == book, mirror_keys.c.row.is_not(None)
    )
    found = (
        select(api_keys.c.id)
        .where(api_keys.c.requests > 0, api_keys.c.id.not_in(housed))
        .limit(limit)
    )
    return list(connection.execute(found).scalars())


def forget_keys(connection: Connection, book: str) -> None:
    """The tab of keys was made anew: no key is there."""
    connection.execute(mirror_keys.update().where(mirror_keys.c.book == book).values(listed=False))


def _put_key(
    connection: Connection, book: str, key_id: str, *, listed: bool, row: int | None
) -> None:
    statement = upsert(mirror_keys).values(book=book, key_id=key_id, listed=listed, row=row)
    changes: dict[str, object] = {"listed": mirror_keys.c.listed | statement.excluded.listed}
    if row is not None:
        changes["row"] = statement.excluded.row
    connection.execute(
        statement.on_conflict_do_update(index_elements=["book", "key_id"], set_=changes)
    )


def _put_daily(connection: Connection, book: str, group: Group, total: Total, row: int) -> None:
    key = {
        "book": book,
        "day": group.day.isoformat(),
        "email": group.email,
        "key_id": group.key_id,
        "model": group.model,
        "provider": group.provider,
    }
    sums = {"row": row, **dict(zip(_SUMS, _sums(total), strict=True))}
    connection.execute(
        upsert(mirror_daily)
        .values(**key, **sums)
        .on_conflict_do_update(index_elements=list(key), set_=sums)
    )


def _group(record: Record) -> Group:
    day = date.fromisoformat(record.day)
    return Group(day, record.email, record.key_id, record.model, record.provider)


def _total(record: Record) -> Total:
    return Total(*(getattr(record, name) for name in _SUMS))


_SUMS = ("requests", "errors", "tokens_in", "tokens_out", "cost_nanos", "duration_ms")


def _sums(total: Total) -> list[int]:
    return [
        total.requests,
        total.errors,
        total.tokens_in,
        total.tokens_out,
        total.cost_nanos,
        total.duration_ms,
    ]
