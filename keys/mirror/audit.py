"""Who changed which key in the spreadsheet, and when: one entry for each change that was taken."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime

from sqlalchemy import Connection, insert, select

from keys.mirror.schema import audit

SHEET = "sheet"
"""Who it was: somebody at the spreadsheet. Google does not tell us who."""

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

    def told(self) -> dict[str, object]:
        """As other programs read it."""
        at = self.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {**asdict(self), "at": at}


def write(connection: Connection, entries: Iterable[Entry]) -> None:
    """Within the transaction that makes the changes."""
    lines = [
        {**asdict(entry), "old": entry.old[:_LONGEST], "new": entry.new[:_LONGEST]}
        for entry in entries
    ]
    if lines:
        connection.execute(insert(audit), lines)


def entries(connection: Connection, key_id: str | None = None, limit: int = 100) -> Iterator[Entry]:
    """The newest, oldest of them first."""
    columns = [audit.c[each.name] for each in fields(Entry)]
    found = select(*columns).order_by(audit.c.id.desc()).limit(limit)
    if key_id is not None:
        found = found.where(audit.c.key_id == key_id)
    for record in reversed(connection.execute(found).all()):
        yield Entry(*record)
