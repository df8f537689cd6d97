"""Who changed which key in the spreadsheet, and when: one entry for each change that was taken."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, Connection, Index, Integer, Table, Text, insert, select

from keys.mirror.tables import metadata
from keys.schema import Instant

SHEET = "sheet"
"""Who it was: somebody at the spreadsheet. Google does not tell us who."""

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
)
Index("audit_key", audit.c.key_id, audit.c.id)

_LONGEST = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A change: `field` of a key was `old` and is `new`. Never holds a secret."""

    at: datetime
    actor: str
    key_id: str
    field: str
    old: str
    new: str
    why: str = ""

    def fields(self) -> dict[str, object]:
        """As other programs read it."""
        at = self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "at": at,
            "actor": self.actor,
            "key_id": self.key_id,
            "field": self.field,
            "old": self.old,
            "new": self.new,
            "why": self.why,
        }


def write(connection: Connection, entries: Iterable[Entry]) -> None:
    """Within the transaction that makes the changes."""
    lines = [
        {
            "at": entry.at,
            "actor": entry.actor,
            "key_id": entry.key_id,
            "field": entry.field,
            "old": entry.old[:_LONGEST],
            "new": entry.new[:_LONGEST],
            "why": entry.why,
        }
        for entry in entries
    ]
    if lines:
        connection.execute(insert(audit), lines)


def entries(connection: Connection, key_id: str | None = None, limit: int = 100) -> Iterator[Entry]:
    """The newest, oldest of them first."""
    found = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if key_id is not None:
        found = found.where(audit.c.key_id == key_id)
    for record in reversed(connection.execute(found).all()):
        yield Entry(
            record.at,
            record.actor,
            record.key_id,
            record.field,
            record.old,
            record.new,
            record.why,
        )
