"""What the spreadsheet and the workbook have in common: tabs, columns, and what is in a cell."""

import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple, TypeAlias

from gateway.records import ApiKey, UsageRow

DASHBOARD = "Dashboard"
KEYS = "User API Keys"
DAILY = "_daily"
RESERVED = frozenset({DASHBOARD, KEYS, DAILY, "_key_stats", "_gateway", "History"})
"""Names that no user's tab may have; Excel keeps `History` for itself."""

Cell: TypeAlias = str | int | float | bool | None
"""As it is in the medium: a moment is a `serial` number, None leaves the cell empty."""


class Kind(Enum):
    """What a column holds, for its format."""

    TEXT = "text"
    MOMENT = "moment"
    DAY = "day"
    COUNT = "count"
    MONEY = "money"
    SECONDS = "seconds"
    FLAG = "flag"


class Column(NamedTuple):
    header: str
    kind: Kind
    width: int
    """In characters."""


KEY_ID = Column("Key ID", Kind.TEXT, 28)

KEY_COLUMNS = (
    Column("API Key", Kind.TEXT, 16),
    Column("User Email", Kind.TEXT, 30),
    Column("Key Name", Kind.TEXT, 22),
    Column("Tier", Kind.TEXT, 10),
    Column("Created At", Kind.MOMENT, 20),
    Column("Last Used", Kind.MOMENT, 20),
    Column("Requests", Kind.COUNT, 11),
    Column("Tokens", Kind.COUNT, 14),
    Column("Revoked", Kind.FLAG, 10),
    Column("Notes", Kind.TEXT, 40),
    KEY_ID,
)
USAGE_COLUMNS = (
    Column("Timestamp", Kind.MOMENT, 20),
    Column("Email", Kind.TEXT, 30),
    Column("Type", Kind.TEXT, 10),
    Column("Model", Kind.TEXT, 26),
    Column("Provider", Kind.TEXT, 14),
    Column("Tokens In", Kind.COUNT, 11),
    Column("Tokens Out", Kind.COUNT, 12),
    Column("Cost", Kind.MONEY, 12),
    Column("Duration", Kind.SECONDS, 10),
    Column("Status", Kind.TEXT, 12),
    Column("Request ID", Kind.TEXT, 38),
    KEY_ID,
)
DAILY_COLUMNS = (
    Column("Day", Kind.DAY, 12),
    Column("Email", Kind.TEXT, 30),
    KEY_ID,
    Column("Model", Kind.TEXT, 26),
    Column("Provider", Kind.TEXT, 14),
    Column("Requests", Kind.COUNT, 11),
    Column("Errors", Kind.COUNT, 10),
    Column("Tokens In", Kind.COUNT, 14),
    Column("Tokens Out", Kind.COUNT, 14),
    Column("Cost", Kind.MONEY, 14),
    Column("Duration", Kind.SECONDS, 12),
)


def key_cells(key: ApiKey) -> tuple[Cell, ...]:
    """In the order of `KEY_COLUMNS`."""
    return (
        key.masked,
        plain(key.email),
        plain(key.name),
        plain(key.tier),
        serial(key.created_at),
        None if key.last_used_at is None else serial(key.last_used_at),
        key.requests,
        key.tokens,
        key.revoked,
        plain(key.notes),
        key.id,
    )


def usage_cells(row: UsageRow) -> tuple[Cell, ...]:
    """In the order of `USAGE_COLUMNS`: cost in US dollars, or empty without a price; seconds."""
    return (
        serial(row.started_at),
        plain(row.email),
        plain(row.type),
        plain(row.model),
        plain(row.provider),
        row.usage.input_tokens,
        row.usage.output_tokens,
        None if row.cost_nanos is None else row.cost_nanos / 1e9,
        row.duration_ms / 1000,
        row.status,
        plain(row.id),
        plain(row.key_id),
    )


_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)
_DAY = 86_400


def serial(moment: datetime) -> float:
    """Days since 1899-12-30 in UTC, as spreadsheets count. The moment is aware."""
    return (moment - _EPOCH).total_seconds() / _DAY


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def like_formula(text: str) -> bool:
    """Whether a program might compute this instead of showing it, once somebody edits or copies it."""
    return text.startswith(_FORMULA)


LONGEST_TEXT = 32_767
"""Of a cell, in UTF-16 units: Excel's limit. Google's is 50,000 characters."""
# What XML cannot carry: most control characters, surrogates, and two that are no characters.
_IMPOSSIBLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def plain(text: str) -> str:
    """Text as any cell can hold it. A formula stays what it is: the cell's type makes it text."""
    if text.isprintable() and len(text) <= LONGEST_TEXT // 2:
        return text
    text = _IMPOSSIBLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))
    units = text.encode("utf-16-le")
    if len(units) > 2 * LONGEST_TEXT:
        return units[: 2 * (LONGEST_TEXT - 1)].decode("utf-16-le", "ignore") + "…"
    return text


LONGEST_TAB = 100
"""Characters in the name of a tab, in Google's spreadsheet."""


def tab_name(email: str, taken: Iterable[str], longest: int = LONGEST_TAB) -> str:
    """The tab of a user: `test@example.com` has `test_at_example_dot_com`.

    Differs from all of `taken` and from the machine's own tabs, letter case aside: where the plain
    name is too long or taken, a part of the address's SHA-256 makes it the user's own. Without
    characters that Excel refuses.
    """
    used = {name.casefold() for name in (*taken, *RESERVED)}
    name = email.lower().replace("@", "_at_").replace(".", "_dot_")
    name = "".join(letter if _harmless(letter) else "_" for letter in name) or "_"
    if len(name) <= longest and name.casefold() not in used:
        return name
    digest = hashlib.sha256(email.lower().encode("utf-8", "replace")).hexdigest()
    for length in range(6, len(digest)):
        own = f"{name[: longest - length - 1]}_{digest[:length]}"
        if own.casefold() not in used:
            return own
    raise ValueError(f"{email!r} has a tab already")


def continued(name: str, number: int, longest: int = LONGEST_TAB) -> str:
    """The name of the nth tab of what does not fit into one: `name (2)`."""
    if number == 1:
        return name
    suffix = f" ({number})"
    if len(name) + len(suffix) > longest:
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        name = f"{name[: longest - len(suffix) - 7]}_{digest}"
    return name + suffix


def _harmless(letter: str) -> bool:
    # Beyond U+FFFF a letter counts twice in Excel's limit.
    return (letter.isalnum() and letter <= "\uffff") or letter in "_+-"
