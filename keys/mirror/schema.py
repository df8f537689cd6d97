"""The mirror's tables in the ledger's database, declared as `keys.schema` declares the ledger's own.

They are made when a mirror first starts; a ledger without a spreadsheet has none of them. Everything is
kept apart by `book`, the spreadsheet's id: another spreadsheet starts from nothing. Only `audit` is one
for all: it is about keys.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from keys.schema import Instant

metadata = MetaData()

mirror_state = Table(
    "mirror_state",
    metadata,
    Column("book", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

# Bodies whose outcome is not known. The last one is sent; those before it are kept, without their
# bodies, until one of all is confirmed: an answer that never came may have been a yes.
mirror_flushes = Table(
    "mirror_flushes",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("book", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("number", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("effects", LargeBinary, nullable=False),
)

# Keys that the spreadsheet has: in the tab of keys, and in which row of `_key_stats`.
mirror_keys = Table(
    "mirror_keys",
    metadata,
    Column("book", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("listed", Boolean, nullable=False),
    Column("row", Integer),
)

# The roll-up: what stands in which row of `_daily`.
mirror_daily = Table(
    "mirror_daily",
    metadata,
    Column("book", Text, primary_key=True),
    Column("day", Text, primary_key=True),
    Column("email", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("row", Integer),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("tokens_in", BigInteger, nullable=False),
    Column("tokens_out", BigInteger, nullable=False),
    Column("cost_nanos", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
)

# Usage rows that Google did not take, with its words, and how often they were refused alone.
mirror_aside = Table(
    "mirror_aside",
    metadata,
    Column("book", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("email", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("tries", Integer, nullable=False),
)

# What the rows of keys said when people's edits were last looked for.
mirror_seen = Table(
    "mirror_seen",
    metadata,
    Column("book", Text, primary_key=True),
    Column("key_id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("revoked", Boolean, nullable=False),
    Column("missing", Boolean, nullable=False),
    Column("unticked", Boolean, nullable=False),
)

# What people changed in the tab of keys.
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("actor", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("field", Text, nullable=False),
    Column("old", Text, nullable=False),
    Column("new", Text, nullable=False),
    Column("why", Text, nullable=False),
    Index("audit_key", "key_id", "id"),
)


def prepare(connection: Connection) -> None:
    """Makes the tables that are missing."""
    metadata.create_all(connection)
