"""`sluice sheets reconcile`: the ids of usage rows on both sides, compared and put right on request.

Beside a running gateway: only rows that the gateway is done with are looked for, so that nobody writes
what another one is about to write. What Google shows may be older than what it has (up to a minute was
seen), so nothing counts as missing before a second look.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from sqlalchemy import Connection, func, select

from gateway.records import UsageRow
from keys.columns import usage_row
from keys.mirror import aside, layout, schema, tables
from keys.mirror.book import Book
from keys.mirror.google import Budget, Google, SheetRefused, SheetUnreachable
from keys.mirror.layout import Request, Snapshot, Tab
from keys.schema import usage_rows
from keys.tabs import USAGE_COLUMNS, usage_cells

REQUEST_ID = "Request ID"
_CALLS = 12
"""A minute, of each kind: what a gateway beside us leaves of Google's quota."""
_SECOND_LOOK = 45.0
"""Seconds after which what was written is surely shown."""
_ATTEMPTS = 6
_LONGEST_QUERY = 6_000
_MOST_CELLS = 200_000
"""In one read."""
_MOST_ROWS = 2_000
"""In one write."""
_EXAMPLES = 3

_Result = TypeVar("_Result")


class Patient:
    """Calls that wait for their turn and are tried again, at a pace that leaves a gateway its own."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._sleep = sleep
        self._budgets = {"read": Budget(_CALLS, now), "write": Budget(_CALLS, now)}

    def values(self, google: Google, ranges: Sequence[str]) -> list[list[list[object]]]:
        return self._call("read", lambda: google.values(ranges))

    def snapshot(self, google: Google) -> Snapshot:
        return layout.read_snapshot(self._call("read", lambda: google.metadata(layout.FIELDS)))

    def update(self, google: Google, requests: Sequence[Request]) -> None:
        """Once: whether it was applied is not known after a failure, and the next look tells."""
        self._wait("write")
        google.update(orjson.dumps({"requests": requests}))

    def pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def _call(self, kind: str, call: Callable[[], _Result]) -> _Result:
        for attempt in range(_ATTEMPTS):
            self._wait(kind)
            try:
                return call()
            except SheetUnreachable as error:
                if attempt == _ATTEMPTS - 1:
                    raise
                self._sleep(error.retry_after or 2.0**attempt)
        raise AssertionError("unreachable")

    def _wait(self, kind: str) -> None:
        while delay := self._budgets[kind].delay():
            self._sleep(delay)
        self._budgets[kind].spend()


@dataclass(slots=True)
class Finding:
    """What is wrong with the rows of a user."""

    email: str
    rows: int = 0
    """In the ledger, of those that the spreadsheet should have."""
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Not in the ledger, or somebody else's."""
    unreadable: str = ""

    @property
    def fine(self) -> bool:
        return not (self.missing or self.doubled or self.foreign or self.unreadable)

    def line(self) -> str:
        if self.fine:
            return f"{self.email}: {self.rows:,} rows, all there once"
        parts = [f"{self.rows:,} rows"]
        for word, ids in (
            ("missing", self.missing),
            ("doubled", self.doubled),
            ("unknown here", self.foreign),
        ):
            if ids:
                shown = ", ".join(ids[:_EXAMPLES]) + (", …" if len(ids) > _EXAMPLES else "")
                parts.append(f"{len(ids):,} {word} ({shown})")
        if self.unreadable:
            parts.append(self.unreadable)
        return f"{self.email}: {'; '.join(parts)}"


@dataclass(slots=True)
class _Column:
    """The ids in a tab of a user, and where they stand."""

    book: Book
    tab: Tab
    header: Sequence[object]
    ids: list[str] = field(default_factory=list)
    """Of each row below the header; empty where there is none."""


class Reconciliation:
    """One run of the command, over a spreadsheet and those that follow it when it is full."""

    def __init__(self, books: Sequence[Book], patient: Patient | None = None) -> None:
        self._books = books
        self._book = books[0]
        self._patient = patient or Patient()

    def run(self, *, repair: bool) -> Iterator[str]:
        """Raises `SheetError`, `LedgerError`."""
        self._book.change(schema.prepare)
        # First of all: rows that are written while we look are nobody's loss.
        upto, waiting = self._reach()
        snapshots = [self._patient.snapshot(book.google) for book in self._books]
        emails = self._emails(snapshots)
        yield (
            f"{len(emails):,} users, {self._count(upto):,} rows written to the spreadsheet,"
            f" {waiting:,} waiting for the gateway to write them"
        )
        findings = list(self._compare(snapshots, emails, upto))
        if any(finding.missing for finding in findings):
            yield f"Something is missing; a second look in {_SECOND_LOOK:.0f} seconds"
            self._patient.pause(_SECOND_LOOK)
            snapshots = [self._patient.snapshot(book.google) for book in self._books]
            suspects = [finding.email for finding in findings if not finding.fine]
            again = {it.email: it for it in self._compare(snapshots, suspects, upto)}
            findings = [again.get(finding.email, finding) for finding in findings]
        for finding in findings:
            if not finding.fine:
                yield finding.line()
        yield _sum(findings)
        if repair:
            yield from self._repair(snapshots, findings)

    # Both sides.

    def _reach(self) -> tuple[int, int]:
        """Up to which revision rows were written, and how many wait."""
        with self._book.reading() as connection:
            upto = max(
                int(tables.state(connection, book.id).get("upto", "0")) for book in self._books
            )
            return upto, tables.backlog(connection, upto)

    def _count(self, upto: int) -> int:
        found = select(func.count()).where(usage_rows.c.revision <= upto)
        with self._book.reading() as connection:
            return connection.execute(found).scalar_one()

    def _emails(self, snapshots: Sequence[Snapshot]) -> list[str]:
        with self._book.reading() as connection:
            emails = set(connection.execute(select(usage_rows.c.email).distinct()).scalars())
        for snapshot in snapshots:
            emails |= {
                tab.labels[layout.USER_LABEL]
                for tab in snapshot.tabs.values()
                if layout.USER_LABEL in tab.labels
            }
        return sorted(emails)

    def _compare(
        self, snapshots: Sequence[Snapshot], emails: Sequence[str], upto: int
    ) -> Iterator[Finding]:
        """User by user; few reads for many small tabs, and one for each large part of a tab."""
        group: list[str] = []
        size = 0
        for email in emails:
            rows = sum(tab.rows for snapshot in snapshots if (tab := snapshot.user_tab(email)))
            if group and size + rows > _MOST_CELLS:
                yield from self._compare_group(snapshots, group, upto)
                group, size = [], 0
            group.append(email)
            size += rows
        if group:
            yield from self._compare_group(snapshots, group, upto)

    def _compare_group(
        self, snapshots: Sequence[Snapshot], emails: Sequence[str], upto: int
    ) -> Iterator[Finding]:
        columns = self._columns(snapshots, emails)
        for email in emails:
            yield self._find(email, columns.get(email, []), upto)

    def _columns(
        self, snapshots: Sequence[Snapshot], emails: Sequence[str]
    ) -> dict[str, list[_Column]]:
        """The ids in the tabs of some users. A tab without the column has no ids."""
        found: dict[str, list[_Column]] = {}
        for book, snapshot in zip(self._books, snapshots, strict=True):
            there = [(email, tab) for email in emails if (tab := snapshot.user_tab(email))]
            headers = self._read(book, [layout.quoted(tab.title, "1:1") for _, tab in there])
            wanted: list[tuple[_Column, str]] = []
            for (email, tab), lines in zip(there, headers, strict=True):
                column = _Column(book, tab, lines[0] if lines else [])
                found.setdefault(email, []).append(column)
                place = layout.first_places(column.header, USAGE_COLUMNS).get(REQUEST_ID)
                if place is not None and tab.rows > 1:
                    letter = layout.letters(place)
                    wanted.append((column, layout.quoted(tab.title, f"{letter}2:{letter}")))
            blocks = self._read(book, [cells for _, cells in wanted])
            for (column, _), lines in zip(wanted, blocks, strict=True):
                column.ids = [str(line[0]).strip() if line else "" for line in lines]
        return found

    def _read(self, book: Book, ranges: Sequence[str]) -> list[list[list[object]]]:
        values: list[list[list[object]]] = []
        part: list[str] = []
        length = 0
        for item in ranges:
            if part and length + len(item) + 24 > _LONGEST_QUERY:
                values += self._patient.values(book.google, part)
                part, length = [], 0
            part.append(item)
            length += 3 * len(item) + 24  # letters of other alphabets are longer in an address
        return values + (self._patient.values(book.google, part) if part else [])

    def _find(self, email: str, columns: Sequence[_Column], upto: int) -> Finding:
        finding = Finding(email)
        for column in columns:
            if REQUEST_ID not in layout.first_places(column.header, USAGE_COLUMNS):
                finding.unreadable = f"the tab {column.tab.title!r} has no column {REQUEST_ID!r}"
        there = Counter(id for column in columns for id in column.ids if id)
        strange = dict(there)
        found = (
            select(usage_rows.c.id, usage_rows.c.revision)
            .where(usage_rows.c.email == email)
            .execution_options(yield_per=1000)
        )
        with self._book.reading() as connection:
            refused = _set_aside(connection, [book.id for book in self._books])
            for row_id, revision in connection.execute(found):
                strange.pop(row_id, None)
                if revision is None or revision > upto or row_id in refused:
                    continue
                finding.rows += 1
                if row_id not in there and not finding.unreadable:
                    finding.missing.append(row_id)
        finding.foreign = sorted(strange)
        finding.doubled = sorted(id for id, count in there.items() if count > 1)
        return finding

    # Putting right.

    def _repair(self, snapshots: Sequence[Snapshot], findings: Sequence[Finding]) -> Iterator[str]:
        broken = [finding for finding in findings if finding.missing or finding.doubled]
        if not broken:
            yield "There is nothing to repair."
            return
        for finding in broken:
            if finding.doubled:
                count = self._delete_doubles(snapshots, finding.email)
                yield f"{finding.email}: {count:,} doubled rows deleted"
            if finding.missing:
                count = self._write(finding.email, finding.missing)
                yield f"{finding.email}: {count:,} missing rows written"
        yield "Done. `sluice sheets reconcile` in a minute tells whether all is well."

    def _delete_doubles(self, snapshots: Sequence[Snapshot], email: str) -> int:
        """Deletes all but the first of each: rows are looked up anew, right before."""
        deleted = 0
        seen: set[str] = set()
        for column in self._columns(snapshots, [email]).get(email, []):
            rows = []
            for row, id in enumerate(column.ids, 1):
                if id and id in seen:
                    rows.append(row)
                seen.add(id)
            requests: list[Request] = [
                {
                    "deleteDimension": {
                        "range": {
                            "sheetId": column.tab.sheet_id,
                            "dimension": "ROWS",
                            "startIndex": first,
                            "endIndex": last + 1,
                        }
                    }
                }
                for first, last in reversed(_runs(rows))
            ]
            if requests:
                self._patient.update(column.book.google, requests)
            deleted += len(rows)
        return deleted

    def _write(self, email: str, ids: Sequence[str]) -> int:
        """Appends rows of the ledger to the tab of their user, in the spreadsheet of these days."""
        book = self._current()
        written = 0
        for start in range(0, len(ids), _MOST_ROWS):
            rows = self._rows(ids[start : start + _MOST_ROWS])
            snapshot = self._patient.snapshot(book.google)
            tab = snapshot.user_tab(email)
            requests: list[Request] = []
            if tab is None:
                places = {column.header: index for index, column in enumerate(USAGE_COLUMNS)}
                sheet_id = layout.usage_sheet_id(email, snapshot.tabs)
                title = layout.usage_title(email, snapshot.tabs.values())
                requests += layout.add_usage_tab(email, sheet_id, title)
            else:
                sheet_id = tab.sheet_id
                header = self._read(book, [layout.quoted(tab.title, "1:1")])[0]
                places = layout.first_places(header[0] if header else [], USAGE_COLUMNS)
                if len(places) < len(USAGE_COLUMNS):
                    raise SheetRefused(
                        f"the tab {tab.title!r} has lost a column",
                        "the gateway adds it with its next row there; reconcile again after that",
                    )
            requests.append(layout.append(sheet_id, [_line(row, places) for row in rows]))
            self._patient.update(book.google, requests)
            written += len(rows)
        return written

    def _current(self) -> Book:
        """The last one that rows were written to."""
        with self._book.reading() as connection:
            used = [book for book in self._books if "upto" in tables.state(connection, book.id)]
        return used[-1] if used else self._book

    def _rows(self, ids: Sequence[str]) -> list[UsageRow]:
        rows = []
        with self._book.reading() as connection:
            for start in range(0, len(ids), 500):
                found = select(usage_rows).where(usage_rows.c.id.in_(ids[start : start + 500]))
                rows += [usage_row(record) for record in connection.execute(found)]
        return sorted(rows, key=lambda row: row.started_at)


def _set_aside(connection: Connection, books: Sequence[str]) -> set[str]:
    return {row_id for book in books for row_id in aside.ids(connection, book)}


def _sum(findings: Sequence[Finding]) -> str:
    missing = sum(len(finding.missing) for finding in findings)
    doubled = sum(len(finding.doubled) for finding in findings)
    foreign = sum(len(finding.foreign) for finding in findings)
    unreadable = sum(bool(finding.unreadable) for finding in findings)
    if not (missing or doubled or foreign or unreadable):
        return "Both sides have the same rows, each once."
    parts = [f"{missing:,} missing", f"{doubled:,} doubled"]
    if foreign:
        parts.append(
            f"{foreign:,} that this ledger does not know (another gateway's, or from before the"
            " ledger was made anew; they are left alone)"
        )
    if unreadable:
        parts.append(f"{unreadable:,} tabs that cannot be read")
    return "In all: " + ", ".join(parts) + "."


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return runs


def _line(row: UsageRow, places: Mapping[str, int]) -> Request:
    cells = zip(USAGE_COLUMNS, usage_cells(row), strict=True)
    return layout.placed(
        {places[column.header]: layout.typed(column, cell) for column, cell in cells}
    )
