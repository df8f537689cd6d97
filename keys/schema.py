"""The tables of a ledger, in types that SQLite and PostgreSQL share, and how they grow.

docs/ledger.md says what each column means. A new database gets the tables as they are here; an older
one is brought forward by `STEPS`. A change of the tables is: the change here, and a step that makes it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    insert,
    inspect,
    literal_column,
    select,
    text,
    update,
)


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept in UTC: SQLite has no zones, and its text then sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be kept")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("masked", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("notifications", Text),
    Column("created_at", Instant, nullable=False),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    Column("requests", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    # Grows with every change of a key, counters aside: who follows the keys asks for what is newer.
    Column("revision", BigInteger, nullable=False),
    Index("api_keys_revision", "revision"),
)

# No foreign key from a row to its key: an account must be kept whatever became of the key.
usage_rows = Table(
    "usage_rows",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", Instant, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("provider", Text, nullable=False),
    Column("upstream_model", Text, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("counted", Text, nullable=False),
    Column("cost_nanos", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Column("first_token_ms", BigInteger),
    Column("steps", Integer, nullable=False),
    Column("tool_calls", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("http_status", Integer),
    Column("finish_reason", Text),
    Column("error_code", Text),
    Column("attributes", Text, nullable=False),
    Column("receipt", Text, nullable=False, server_default="[]"),
    # Null while open; then a number that grows in the order of settlement, for who follows the rows.
    Column("revision", BigInteger),
)

OPEN = usage_rows.c.status == literal_column("'open'")
"""Written out, not bound: SQLite uses a partial index only where it can see the condition."""

Index("usage_rows_started", usage_rows.c.started_at, usage_rows.c.id)
Index("usage_rows_key", usage_rows.c.key_id, usage_rows.c.started_at, usage_rows.c.id)
Index("usage_rows_email", usage_rows.c.email, usage_rows.c.started_at, usage_rows.c.id)
_PARTIAL = {
    Index("usage_rows_open", usage_rows.c.status): OPEN,
    Index("usage_rows_revision", usage_rows.c.revision): usage_rows.c.revision.is_not(None),
}
"""Indexes of some rows only. Said where a database is at hand: to say it here, for each kind there may be,
loads all of them in every command, which takes 25 ms."""

Step: TypeAlias = Callable[[Connection], None]


def _add_receipts(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE usage_rows ADD COLUMN receipt TEXT DEFAULT '[]' NOT NULL"))


STEPS: tuple[Step, ...] = (_add_receipts,)
"""The nth step leads from version n to n + 1. Never change one that was released."""


class SchemaTooNew(Exception):
    """A later version of this program has been here."""


def migrate(connection: Connection, steps: Sequence[Step] = STEPS) -> None:
    """Brings the tables to the version of this program, within the caller's transaction.

    Raises `SchemaTooNew`.
    """
    latest = 1 + len(steps)
    if not inspect(connection).has_table(schema_version.name):
        for index, condition in _PARTIAL.items():
            index.dialect_options[connection.dialect.name]["where"] = condition
        metadata.create_all(connection)
        connection.execute(insert(schema_version), {"version": latest})
        return
    version = connection.execute(select(schema_version.c.version)).scalar_one()
    if version > latest:
        raise SchemaTooNew(f"its tables have version {version}, this program knows {latest}")
    for step in steps[version - 1 :]:
        step(connection)
    if version < latest:
        connection.execute(update(schema_version).values(version=latest))
