"""From the ledger to the tabs."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway.ports import Ledger
from gateway.records import UsageRow
from keys.rollup import daily_cells, roll_up
from keys.tabs import (
    DAILY,
    DAILY_COLUMNS,
    DASHBOARD,
    KEY_COLUMNS,
    KEYS,
    USAGE_COLUMNS,
    key_cells,
    tab_name,
    usage_cells,
)
from keys.workbook.book import LONGEST_TAB, Book, Table, writing
from keys.workbook.dashboard import draw
from keys.workbook.figures import Figures

_EMAIL = next(n for n, column in enumerate(KEY_COLUMNS) if column.header == "User Email")


def write(
    ledger: Ledger,
    path: Path,
    email: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> int:
    """Writes keys, usage rows and a dashboard as an .xlsx file; returns the number of usage rows.

    The dashboard shows the month of the last moment before `until`, which is now at the latest. Rows
    are read twice, once for the sums and once user by user, so that memory does not grow with them.
    Raises `OSError`.
    """
    now = datetime.now(UTC)
    until = now if until is None else min(until, now)
    figures = Figures((until - timedelta(microseconds=1)).astimezone(UTC).date())
    with writing(path) as book:
        board = book.sheet(DASHBOARD)
        keys = book.table(KEYS, KEY_COLUMNS)
        daily = book.table(DAILY, DAILY_COLUMNS, hidden=True)
        users: set[str] = set()
        rows = _seen(ledger.usage(email=email, since=since, until=until), figures, users)
        for group, total in roll_up(rows):
            figures.add(group, total)
            daily.append(daily_cells(group, total))
        daily.finish()
        tabs: dict[str, str] = {}
        for user in sorted(users):
            tabs[user] = tab_name(user, tabs.values(), LONGEST_TAB)
        _write_keys(ledger, keys, email, tabs)
        count = sum(_write_user(ledger, book, user, tabs[user], since, until) for user in tabs)
        draw(book, board, figures, daily.parts, tabs, since=since, until=until, email=email)
    return count


def _seen(rows: Iterator[UsageRow], figures: Figures, users: set[str]) -> Iterator[UsageRow]:
    for row in rows:
        figures.see(row)
        users.add(row.email)
        yield row


def _write_keys(ledger: Ledger, table: Table, email: str | None, tabs: Mapping[str, str]) -> None:
    """Without the keys' digests: this file is mailed around, and whoever had them could tell whether
    a key found elsewhere is one of ours. Nothing is restored from it either."""
    for key in ledger.keys():
        if email is None or key.email == email.lower():
            tab = tabs.get(key.email)
            table.append(key_cells(key), None if tab is None else (_EMAIL, tab))
    table.mark("Revoked")
    table.finish()


def _write_user(
    ledger: Ledger,
    book: Book,
    user: str,
    tab: str,
    since: datetime | None,
    until: datetime,
) -> int:
    table = book.table(tab, USAGE_COLUMNS)
    count = 0
    for row in ledger.usage(email=user, since=since, until=until):
        if row.email == user:  # the ledger takes an address in small letters for the same
            table.append(usage_cells(row))
            count += 1
    table.finish()
    return count
