"""`sluice sheets reconcile`: the ids of usage rows on both sides, compared and put right on request.

Beside a running gateway: only rows that the gateway is done with are looked for, so that nobody writes
what another one is about to write. What Google shows may be older than what it has (up to a minute was
seen), so nothing counts as missing before a second look.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import orjson
from sqlalchemy import Connection, func, select

from gateway.records import UsageRow
from keys.columns import usage_row
from keys.mirror import aside, layout, schema, tables
from keys.mirror.body import usage_line
from keys.mirror.book import Book
from keys.mirror.google import Budget, Google, SheetRefused, SheetUnreachable
from keys.mirror.layout import Request, Snapshot, Tab
from keys.schema import api_keys, usage_rows
from keys.tabs import KEY_ID, USAGE_COLUMNS

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

    def make_room(self) -> None:
        """Waits until a few reads and a write can be made one right after the other."""
        for kind, calls in (("read", 4), ("write", 1)):
            while delay := self._budgets[kind].delay(calls):
                self._sleep(delay)

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
    aside: list[str] = field(default_factory=list)
    """Refused by Google; the gateway tries them again."""
    strange: list[str] = field(default_factory=list)
    """Not in the ledger, or another user's."""
    foreign: list[str] = field(default_factory=list)
    """Not in the ledger, and of a key that it does not have: another gateway's."""
    unreadable: str = ""

    @property
    def same(self) -> bool:
        """Whether both sides have the same, apart from what is another gateway's."""
        return not (self.repairable or self.aside or self.strange or self.unreadable)

    @property
    def repairable(self) -> bool:
        return bool(self.missing or self.doubled)

    @property
    def lines(self) -> Iterator[str]:
        if self.same and not self.foreign:
            return
        parts = [f"{self.rows:,} rows"]
        for word, ids in (
            ("missing", self.missing),
            ("doubled", self.doubled),
            ("set aside", self.aside),
            ("unknown here", self.strange),
            ("of another gateway", self.foreign),
        ):
            if ids:
                shown = ", ".join(ids[:_EXAMPLES]) + (", …" if len(ids) > _EXAMPLES else "")
                parts.append(f"{len(ids):,} {word} ({shown})")
        if self.unreadable:
            parts.append(self.unreadable)
        yield f"{self.email}: {'; '.join(parts)}"


@dataclass(slots=True)
class _Column:
    """The ids in a tab of a user, and where they stand."""

    book: Book
    tab: Tab
    header: Sequence[object]
    ids: list[str] = field(default_factory=list)
    """Of each row below the header; empty where there is none."""

    def cells(self, name: str) -> str:
        """The range of a column below its header, if it is there."""
        place = layout.first_places(self.header, USAGE_COLUMNS).get(name)
        if place is None or self.tab.rows < 2:
            return ""
        letter = layout.letters(place)
        return layout.quoted(self.tab.title, f"{letter}2:{letter}")


class Reconciliation:
    """One run of the command, over a spreadsheet and those that follow it when it is full."""

    def __init__(self, books: Sequence[Book], patient: Patient | None = None) -> None:
        self._books = books
        self._book = books[0]
        self._patient = patient or Patient()

    def run(self, *, repair: bool) -> Generator[str, None, bool]:
        """Returns whether both sides are the same now. Raises `SheetError`, `LedgerError`."""
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
            suspects = [finding.email for finding in findings if not finding.same]
            again = {it.email: it for it in self._compare(snapshots, suspects, upto)}
            findings = [again.get(finding.email, finding) for finding in findings]
        for finding in findings:
            yield from finding.lines
        yield _sum(findings)
        if repair:
            yield from self._repair(findings)
        self._book.change(self._settle)
        return all(finding.same for finding in findings)

    def _settle(self, connection: Connection) -> None:
        """What was told now need not be told by the gateway any more."""
        for book in self._books:
            tables.drop_state(connection, book.id, tables.RESTORED)

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
        findings = [self._find(email, columns.get(email, []), upto) for email in emails]
        self._part(findings, columns)
        yield from findings

    def _part(self, findings: Sequence[Finding], columns: Mapping[str, Sequence[_Column]]) -> None:
        """Tells rows of another gateway, whose keys we do not have, from others that are strange."""
        foreign: dict[str, set[str]] = {}
        with self._book.reading() as connection:
            own = set(connection.execute(select(api_keys.c.id)).scalars())
        for book in self._books:
            wanted = [
                (finding.email, column, cells)
                for finding in findings
                if finding.strange
                for column in columns.get(finding.email, [])
                if column.book is book and (cells := column.cells(KEY_ID.header))
            ]
            blocks = self._read(book, [cells for _, _, cells in wanted])
            for (email, column, _), lines in zip(wanted, blocks, strict=True):
                pairs = zip(column.ids, _texts(lines), strict=False)
                foreign.setdefault(email, set()).update(
                    id for id, key in pairs if key and key not in own
                )
        for finding in findings:
            others = foreign.get(finding.email, set())
            finding.foreign = [id for id in finding.strange if id in others]
            finding.strange = [id for id in finding.strange if id not in others]

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
                if cells := column.cells(REQUEST_ID):
                    wanted.append((column, cells))
            blocks = self._read(book, [cells for _, cells in wanted])
            for (column, _), lines in zip(wanted, blocks, strict=True):
                column.ids = _texts(lines)
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
                if row_id in refused and row_id not in there:
                    finding.aside.append(row_id)
                    continue
                if revision is None or revision > upto:
                    continue
                finding.rows += 1
                if row_id not in there and not finding.unreadable:
                    finding.missing.append(row_id)
        finding.strange = sorted(strange)
        finding.doubled = sorted(id for id, count in there.items() if count > 1)
        return finding

    # Putting right.

    def _repair(self, findings: Sequence[Finding]) -> Iterator[str]:
        """What is repaired is no finding any more."""
        broken = [finding for finding in findings if finding.repairable]
        if not broken:
            yield "There is nothing to repair."
            return
        for finding in broken:
            if finding.doubled:
                count, lost = self._delete_doubles(finding.email)
                finding.doubled = []
                yield f"{finding.email}: {count:,} doubled rows deleted"
                if lost:
                    yield (
                        f"{finding.email}: somebody moved rows meanwhile, and {len(lost):,} others were hit"
                    )
                    finding.missing += lost
            if finding.missing:
                count = self._write(finding.email, finding.missing)
                finding.missing = []
                yield f"{finding.email}: {count:,} missing rows written"
        yield "Done. `sluice sheets reconcile` in a minute tells whether all is well."

    def _delete_doubles(self, email: str) -> tuple[int, list[str]]:
        """Deletes all but the first of each. How many, and rows of ours that are gone with them.

        Rows can only be deleted by their place, which somebody may change at any moment: they are
        looked up right before, with nothing to wait for in between, and counted right after.
        """
        deleted, lost = 0, []
        seen: set[str] = set()
        for book in self._books:
            self._patient.make_room()
            column = self._column_of(book, email)
            if column is None:
                continue
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
            if not requests:
                continue
            self._patient.update(book.google, requests)
            deleted += len(rows)
            after = self._column_of(book, email)
            left = set() if after is None else set(after.ids)
            lost += [id for id in dict.fromkeys(column.ids) if id and id not in left]
        return deleted, self._own(lost)

    def _column_of(self, book: Book, email: str) -> _Column | None:
        snapshot = self._patient.snapshot(book.google)
        found = Reconciliation([book], self._patient)._columns([snapshot], [email])
        return next(iter(found.get(email, [])), None)

    def _own(self, ids: Sequence[str]) -> list[str]:
        return [row.id for row in self._rows(ids)]

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
            requests.append(layout.append(sheet_id, [usage_line(row, places) for row in rows]))
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
    aside = sum(len(finding.aside) for finding in findings)
    strange = sum(len(finding.strange) for finding in findings)
    foreign = sum(len(finding.foreign) for finding in findings)
    unreadable = sum(bool(finding.unreadable) for finding in findings)
    others = f" {foreign:,} more are of another gateway." if foreign else ""
    if all(finding.same for finding in findings):
        return f"Both sides have the same rows, each once.{others}"
    parts = [f"{missing:,} missing", f"{doubled:,} doubled"]
    if aside:
        parts.append(f"{aside:,} set aside, which the gateway tries again by itself")
    if strange:
        parts.append(
            f"{strange:,} that this ledger does not know (written by hand, or from before the ledger"
            " was made anew or restored; they are left alone)"
        )
    if unreadable:
        parts.append(f"{unreadable:,} tabs that cannot be read")
    return "In all: " + ", ".join(parts) + "." + others


def _texts(lines: Sequence[Sequence[object]]) -> list[str]:
    return [str(line[0]).strip() if line else "" for line in lines]


def _runs(rows: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    runs: list[tuple[int, int]] = []
    for row in rows:
        if runs and row == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], row)
        else:
            runs.append((row, row))
    return runs
