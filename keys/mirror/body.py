"""The body of a flush: what puts usage rows, new keys, counters and the roll-up into the spreadsheet.

Nothing is sent here. What a body comes to, once it was applied, is told beside it, and whose tab each of
its requests is for.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import orjson
from sqlalchemy import Connection

from gateway.records import ApiKey, UsageRow
from keys.columns import whole
from keys.mirror import layout, tables
from keys.mirror.aside import Aside
from keys.mirror.book import HEALED, Book
from keys.mirror.layout import Request, Snapshot, Tab
from keys.mirror.tables import Effects, Flush
from keys.rollup import FULLEST_DAY, OTHER, Group, Total, daily_cells, group_of
from keys.tabs import DAILY, USAGE_COLUMNS, Cell, Column, key_cells, serial, usage_cells

LARGEST_BODY = 2_000_000
MOST_KEYS = 500
NOBODY = "0" * 8
"""Who owns the first marker."""
_ROOM = 100
"""Rows that a machine's tab grows by."""


@dataclass(frozen=True, slots=True)
class UserTab:
    email: str
    tab: Tab | None
    header: Sequence[object]


@dataclass(frozen=True, slots=True)
class Ground:
    """What a body is built upon, beside the rows."""

    snapshot: Snapshot
    users: Mapping[str, UserTab]
    keys_tab: Tab | None
    keys_header: Sequence[object]
    keys_there: frozenset[str]
    daily_rows: int
    stats_rows: int

    def print(self, batch: "Batch") -> str:
        """Changes when a stored body would no longer put everything in its place."""
        return hashlib.sha256(
            orjson.dumps(
                [
                    [
                        [it.email, it.tab and it.tab.sheet_id, it.header]
                        for it in self.users.values()
                    ],
                    self.keys_tab and self.keys_tab.sheet_id,
                    self.keys_header,
                    self.daily_rows,
                    self.stats_rows,
                    batch.print(),
                ],
                default=str,
            )
        ).hexdigest()


Row = tuple[int, UsageRow]


@dataclass(frozen=True, slots=True)
class Batch:
    """The usage rows of a flush."""

    rows: Sequence[Row]
    """Counted, and done with: those after `upto`, in the order of their revisions."""
    upto: int
    sent: Sequence[UsageRow]
    """Appended to their users' tabs."""
    aside: Sequence[tuple[str, str, str]] = ()
    """Of the former, those that are left out of their tabs."""
    again: bool = False
    """What is sent was counted before, and set aside."""

    @property
    def size(self) -> int:
        return len(self.sent if self.again else self.rows)

    def first(self, size: int) -> "Batch":
        if self.again:
            return replace(self, sent=self.sent[:size])
        rows = self.rows[:size]
        ids = {row.id for _, row in rows}
        return replace(
            self,
            rows=rows,
            sent=[row for row in self.sent if row.id in ids],
            aside=[each for each in self.aside if each[0] in ids],
        )

    def print(self) -> list[str]:
        """What tells it from others of the same size."""
        if self.again:
            return [row.id for row in self.sent]
        return [str(len(self.sent)), *(each[0] for each in self.aside)]


@dataclass(slots=True)
class _Plan:
    """The requests of a flush and what they come to."""

    requests: list[Request] = field(default_factory=list)
    blame: dict[int, tuple[str, bool]] = field(default_factory=dict)
    """Which requests are for whose tab, and whether it is rather the tab than the rows."""
    keys: dict[str, tuple[bool, int | None]] = field(default_factory=dict)
    daily: list[tuple[Group, Total, int]] = field(default_factory=list)


class Composer:
    """Makes bodies for one spreadsheet."""

    def __init__(
        self, book: Book, aside: Aside, now: Callable[[], datetime], *, usage_only: bool
    ) -> None:
        """With `usage_only`, the spreadsheet has users' tabs and nothing else."""
        self._book, self._aside, self._now = book, aside, now
        self._usage_only = usage_only
        self.owner = ""
        """The gateway's mark in lines of its own."""

    def compose(
        self,
        ground: Ground,
        batch: Batch,
        unlisted: Sequence[tuple[ApiKey, bytes]],
        number: int,
    ) -> tuple[Flush, Batch, Mapping[int, tuple[str, bool]]]:
        token = secrets.token_hex(4)
        while True:
            plan = self._plan(ground, batch, unlisted, number, token)
            body = orjson.dumps({"requests": plan.requests})
            if len(body) <= LARGEST_BODY or batch.size + len(unlisted) <= 1:
                break
            share = 0.9 * LARGEST_BODY / len(body)
            batch = batch.first(max(1, int(batch.size * share)))
            unlisted = unlisted[: max(1, int(len(unlisted) * share))]
        effects = Effects(
            upto=batch.rows[-1][0] if batch.rows else batch.upto,
            rows=batch.size,
            keys=[(key_id, listed, row) for key_id, (listed, row) in plan.keys.items()],
            daily=plan.daily,
            layout=ground.print(batch),
            again=[row.id for row in batch.sent] if batch.again else (),
            aside=batch.aside,
        )
        return Flush(token, number, body, effects), batch, plan.blame

    def _plan(
        self,
        ground: Ground,
        batch: Batch,
        unlisted: Sequence[tuple[ApiKey, bytes]],
        number: int,
        token: str,
    ) -> _Plan:
        plan = _Plan()
        plan.requests += self._marks(ground.snapshot, number, token)
        for email, request in self._usage(ground, batch.sent):
            plan.blame[len(plan.requests)] = email, "appendCells" not in request
            plan.requests.append(request)
        stats_rows = daily_rows = 0
        if not self._usage_only:
            with self._book.reading() as connection:
                self._list_keys(plan, ground, unlisted)
                rows = [row for _, row in batch.rows]
                stats_rows = self._count(connection, plan, ground, [row.key_id for row in rows])
                daily_rows = self._roll_up(connection, plan, ground, rows)
        gateway = ground.snapshot.tab(layout.GATEWAY)
        assert gateway is not None
        told: tuple[Cell, ...] = (
            layout.SCHEMA_VERSION,
            number,
            serial(self._now()),
            daily_rows,
            stats_rows,
            self.owner,
        )
        lines = [
            layout.placed({0: layout.value(name), 1: layout.value(cell)})
            for name, cell in zip(layout.GATEWAY_NAMES, told, strict=True)
        ]
        plan.requests.append(layout.write(gateway.sheet_id, 1, lines, "userEnteredValue"))
        return plan

    def _marks(self, snapshot: Snapshot, number: int, token: str) -> Iterator[Request]:
        marker = snapshot.marker
        assert marker is not None
        yield layout.flush_mark(number, self.owner, token)
        yield layout.remove_range(marker.range_id)
        if marker.owner not in (self.owner, NOBODY):
            yield layout.receipt(marker)
        for mark in snapshot.marks:
            if mark.owner == self.owner and mark != marker:
                yield layout.remove_range(mark.range_id)

    def _usage(self, ground: Ground, rows: Sequence[UsageRow]) -> Iterator[tuple[str, Request]]:
        """What puts rows into their users' tabs, and whose each request is."""
        taken = set(ground.snapshot.tabs)
        tabs = list(ground.snapshot.tabs.values())
        by_user: dict[str, list[UsageRow]] = {}
        for row in rows:
            by_user.setdefault(row.email, []).append(row)
        for email, own in by_user.items():
            user = ground.users[email]
            places = {column.header: index for index, column in enumerate(USAGE_COLUMNS)}
            if user.tab is None:
                sheet_id = layout.usage_sheet_id(email, taken)
                title = layout.usage_title(email, tabs)
                taken.add(sheet_id)
                tabs.append(Tab(sheet_id, title, 2, len(USAGE_COLUMNS)))
                requests = list(layout.add_usage_tab(email, sheet_id, title))
            else:
                sheet_id = user.tab.sheet_id
                requests, places = self._mend(user.tab, user.header, places)
                if not user.tab.labels:
                    requests.append(layout.user_label(sheet_id, email))
            # As text at once: trees of so many cells would take twenty times the room.
            lines = [orjson.Fragment(orjson.dumps(usage_line(row, places))) for row in own]
            requests.append(layout.append(sheet_id, lines))
            for request in requests:
                yield email, request

    def _mend(
        self, tab: Tab, header: Sequence[object], standard: dict[str, int]
    ) -> tuple[list[Request], dict[str, int]]:
        """Where the columns of a user's tab are, and what gives it those that it has lost."""
        topic = f"tab {tab.sheet_id}"
        places = layout.first_places(header, USAGE_COLUMNS)
        if not places:
            self._book.alarms.raise_(
                topic, f"the tab {tab.title!r} had lost its header; it was written anew", HEALED
            )
            return list(layout.insert_header(tab, USAGE_COLUMNS)), standard
        lost = [column for column in USAGE_COLUMNS if column.header not in places]
        if not lost:
            return [], places
        names = ", ".join(column.header for column in lost)
        self._book.alarms.raise_(
            topic,
            f"the tab {tab.title!r} had lost the column {names}; it was added at the right end",
            HEALED,
        )
        for index, column in enumerate(lost, tab.columns):
            places[column.header] = index
        return list(layout.add_columns(tab, lost)), places

    def _list_keys(
        self,
        plan: _Plan,
        ground: Ground,
        unlisted: Sequence[tuple[ApiKey, bytes]],
    ) -> None:
        """New keys, after the last row of the tab of keys."""
        if not unlisted or ground.keys_tab is None:
            return
        try:
            places = layout.columns(ground.keys_header, layout.LISTED_COLUMNS)
        except layout.HeaderBroken as error:
            self._book.alarms.raise_(
                "new keys",
                f"new keys are not listed: in the tab {ground.keys_tab.title!r} {error}",
            )
            return
        self._book.alarms.clear("new keys")
        lines = []
        for key, digest in unlisted:
            plan.keys[key.id] = (True, None)
            if key.id not in ground.keys_there:
                lines.append(_key_line(key, digest, places, self._book.tiers))
        if lines:
            fields = f"{layout.CELL_FIELDS},dataValidation"
            plan.requests.append(layout.append(ground.keys_tab.sheet_id, lines, fields))

    def _count(
        self, connection: Connection, plan: _Plan, ground: Ground, key_ids: Iterable[str]
    ) -> int:
        """The keys' counters as they are now: absolute, in the gateway's own lines."""
        tab = ground.snapshot.tab(layout.STATS)
        assert tab is not None
        homeless = tables.homeless_keys(connection, self._book.id, MOST_KEYS)
        ids = list(dict.fromkeys((*key_ids, *homeless)))
        known, used = tables.stats_rows(connection, self._book.id, ids), ground.stats_rows
        lines: dict[int, Request] = {}
        for key in tables.counters(connection, ids):
            row = known.get(key.id)
            if row is None:
                used += 1
                row = used
            plan.keys[key.id] = (plan.keys.get(key.id, (False, None))[0], row)
            last = None if key.last_used_at is None else serial(key.last_used_at)
            cells = (key.id, last, whole(key.requests), whole(key.tokens), self.owner)
            lines[row] = _line(layout.STATS_COLUMNS, cells)
        plan.requests += _fixed(tab, lines, used)
        return used

    def _roll_up(
        self, connection: Connection, plan: _Plan, ground: Ground, rows: Iterable[UsageRow]
    ) -> int:
        """The days' sums with these rows in them: absolute, in the gateway's own lines."""
        tab = ground.snapshot.tab(DAILY)
        assert tab is not None
        book, used = self._book.id, ground.daily_rows
        totals: dict[Group, tuple[Total, int]] = {}
        for group, total in tables.homeless_groups(connection, book, MOST_KEYS):
            used += 1
            totals[group] = total, used
        days: dict[object, int] = {}
        for usage in rows:
            group = group_of(usage)
            if self._aside.uncountable(usage):
                group = group._replace(model=OTHER, provider="")
            entry = totals.get(group)
            if entry is None:
                found = tables.daily_total(connection, book, group)
                if found is None:
                    if group.day not in days:
                        days[group.day] = tables.daily_groups(connection, book, group.day)
                    if days[group.day] >= FULLEST_DAY:
                        group = group._replace(model=OTHER, provider="")
                        entry = totals.get(group)
                        found = tables.daily_total(connection, book, group)
                    days[group.day] += 1
                total, row = found or (Total(), None)
                if entry is None:
                    if row is None:
                        used += 1
                        row = used
                    entry = totals[group] = total, row
            entry[0].count(usage)
        lines = {
            row: _line(layout.ROLLUP_COLUMNS, (*daily_cells(group, total), self.owner))
            for group, (total, row) in totals.items()
        }
        plan.daily = [(group, total, row) for group, (total, row) in totals.items()]
        plan.requests += _fixed(tab, lines, used)
        return used


def _line(columns: Sequence[Column], cells: Sequence[Cell]) -> Request:
    typed = map(layout.typed, columns, cells)
    return layout.placed(dict(enumerate(typed)))


def usage_line(row: UsageRow, places: Mapping[str, int]) -> Request:
    cells = zip(USAGE_COLUMNS, usage_cells(row), strict=True)
    return layout.placed(
        {places[column.header]: layout.typed(column, cell) for column, cell in cells}
    )


def _key_line(
    key: ApiKey, digest: bytes, places: Mapping[str, int], tiers: Sequence[str]
) -> Request:
    placed: dict[int, Request] = {}
    columns = layout.LISTED_COLUMNS
    for column, cell in zip(columns, (*key_cells(key), digest.hex()), strict=True):
        formula = layout.counter(column.header, f'"{key.id}"')
        made = (
            layout.typed(column, cell)
            if formula is None
            else {
                "userEnteredValue": {"formulaValue": formula},
                "userEnteredFormat": {"numberFormat": layout.FORMATS[column.kind]},
            }
        )
        if rule := layout.validation(column.header, tiers):
            made["dataValidation"] = rule
        placed[places[column.header]] = made
    return layout.placed(placed)


def _fixed(tab: Tab, lines: Mapping[int, Request], used: int) -> Iterator[Request]:
    """Lines at their places, counted from 1 below the header; neighbours in one request."""
    short = used + 1 - tab.rows
    if short > 0:
        yield from layout.extend(tab.sheet_id, rows=short + _ROOM)
    run: list[Request] = []
    for row in sorted(lines):
        run.append(lines[row])
        if row + 1 not in lines:
            yield layout.write(tab.sheet_id, row + 1 - len(run), run)
            run = []
