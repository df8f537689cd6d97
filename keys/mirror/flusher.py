"""Ledger to spreadsheet: usage rows, counters, the roll-up and new keys, each exactly once.

A flush is one `spreadsheets.batchUpdate`, applied whole or not at all. It carries a marker: a named
range with the flush's number as its id, and it removes the marker of the flush before. Either fails
when a flush of that number was applied already, so that the same body can be sent any number of times.
Whether it was applied is never guessed from an answer but read: the marker's name has the body's token.
The body is kept in the ledger before it is sent. docs/sheets.md tells what follows from that.
"""

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection

from gateway.records import ApiKey, UsageRow
from keys import account
from keys.columns import whole
from keys.mirror import aside, layout, schema, tables
from keys.mirror.aside import Aside
from keys.mirror.book import Book
from keys.mirror.google import BudgetSpent, Google, SheetLost, SheetRefused, SheetUnreachable
from keys.mirror.layout import Request, Snapshot, Tab
from keys.mirror.tables import Effects, Flush
from keys.rollup import FULLEST_DAY, OTHER, Group, Total, daily_cells, group_of
from keys.tabs import (
    DAILY,
    KEYS,
    USAGE_COLUMNS,
    Cell,
    Column,
    key_cells,
    serial,
    usage_cells,
)

logger = logging.getLogger(__name__)

LARGEST_BODY = 2_000_000
MOST_ROWS = 2_500
"""Of a flush: about as many as fit into a body."""
MOST_KEYS = MOST_USERS = 500
_ROTATED = "rotated"
"""In the state of a spreadsheet: the revision after which usage rows go to the next one."""
_NOTICED = "noticed"
"""In the state of a spreadsheet: the write of ours that this ledger did not know."""
_DOUBTFUL = "doubtful"
"""In the state of a spreadsheet: up to this revision, rows may be there without this ledger knowing."""
NOBODY = "0" * 8
"""Who owns the first marker."""
_LONGEST_QUERY = 6_000
_ROOM = 100
"""Rows that a machine's tab grows by."""
_ATTEMPTS = 3
_IDLE = 60.0
"""Seconds between looks at the spreadsheet while there is nothing to write."""
_TOLD = 300.0
"""Seconds that is told what was mended: what is over is no problem."""
_PATIENCE = 10.0
"""Seconds for an answer to what is asked all the time: people's edits of keys wait for their turn. A
flush whose answer was late is found by its marker."""
_KEPT_READS = 10
"""A minute, for looks at the tab of keys."""
_DOUBT = 60.0
"""Seconds that a read may lag behind, and say that something was not applied which was."""
_STREAK = 5
"""Rows in a row that may be found bad before it is rather something else that is wrong."""


class _Moved(Exception):
    """The spreadsheet is not what the body was made for: look again."""


@dataclass(slots=True)
class Figures:
    """What is told of the flusher. Read by other threads."""

    last_flush: datetime | None = None
    backlog: int = 0
    quarantined: int = 0
    cells: int = 0
    waiting_since: datetime | None = None

    def lag(self, now: datetime) -> float:
        """Seconds that the oldest row waits which is not in the spreadsheet."""
        since = self.waiting_since
        return 0.0 if since is None else round(max(0.0, (now - since).total_seconds()), 1)


@dataclass(frozen=True, slots=True)
class _UserTab:
    email: str
    tab: Tab | None
    header: Sequence[object]


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a body is built upon, beside the rows."""

    snapshot: Snapshot
    users: Mapping[str, _UserTab]
    keys_tab: Tab | None
    keys_header: Sequence[object]
    keys_there: frozenset[str]
    daily_rows: int
    stats_rows: int

    def print(self, batch: "_Batch") -> str:
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
class _Batch:
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

    def first(self, size: int) -> "_Batch":
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


class Flusher:
    """Writes what the spreadsheet does not have yet. For one thread."""

    def __init__(
        self,
        book: Book,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        follows: "Flusher | None" = None,
        full: float = 0.8,
    ) -> None:
        """With `follows`, `book` gets the usage rows that the spreadsheet before it has no room for,
        and nothing else. `full` is the share of all cells at which that begins."""
        self.book, self._now = book, now
        self._hasty = book.google.within(_PATIENCE)
        self._follows, self._full = follows, full
        self._followed = False
        if follows is not None:
            follows._followed = True
        self.figures = Figures()
        self._owner = ""
        self._most = MOST_ROWS
        self._refused = 0
        """Times that the latest body was refused without a word that says why."""
        self._refused_at = now()
        self._streak = 0
        self._learnt = False
        """Whether a refusal told what the next body has to be like."""
        self._aside = Aside(book.id, now)
        self._torn = 0
        self._looked_at: datetime | None = None

    def step(self) -> bool:
        """At most one flush. Whether there is more to write. Raises `SheetError`, `LedgerError`."""
        self._prepare()
        if delay := self.book.google.delay(reads=2 + _KEPT_READS, writes=1):
            raise BudgetSpent(delay)
        self._learnt = False
        for _ in range(_ATTEMPTS):
            try:
                return self._attempt()
            except _Moved:
                continue
        if self._learnt:
            return True
        raise SheetUnreachable("the spreadsheet keeps changing under the gateway", refused=True)

    def _prepare(self) -> None:
        if self._owner:
            return

        def prepare(connection: Connection) -> str:
            schema.prepare(connection)
            owner = tables.state(connection, self.book.id).get("owner") or secrets.token_hex(4)
            tables.set_state(connection, self.book.id, {"owner": owner})
            return owner

        self._owner = self.book.change(prepare)

    def _attempt(self) -> bool:
        book = self.book
        with book.reading() as connection:
            state = tables.state(connection, book.id)
            stored = tables.flushes(connection, book.id)
            if self._follows is not None and "upto" not in state:
                before = tables.state(connection, self._follows.book.id)
                if _ROTATED not in before:
                    return False
                state["upto"] = before[_ROTATED]
            upto = int(state.get("upto", "0"))
            rows: list[Row] = []
            if self._follows is None or _ROTATED not in state:
                rows = _few_users(tables.usage_after(connection, upto, self._most))
            unlisted, homeless = self._more(connection)
            self._tell_copy(state)
            self.figures.backlog = tables.backlog(connection, upto) if rows else 0
            self._count_aside(connection)
            again: Sequence[UsageRow] = ()
            if not self._learnt and (not stored or stored[-1].effects.again):
                again = self._aside.due(connection)
        self.figures.waiting_since = rows[0][1].started_at if rows else None
        if not (stored or rows or again or unlisted or homeless or self._curious()):
            return False
        snapshot = self._look()
        if flush := _applied(snapshot, stored):
            return self._confirm(flush)
        if snapshot.marker is None or self.missing(snapshot, init=False):
            self._repair(snapshot, stored, rows, int(state.get("number", "0")))
            return True
        self._notice_births(snapshot, state)
        self._notice_copy(snapshot, state)
        if stored and stored[-1].effects.upto > upto:
            rows = [row for row in rows if row[0] <= stored[-1].effects.upto]
        elif not (stored or rows or again or unlisted or homeless):
            return False
        if again:
            batch = _Batch((), upto, again, again=True)
        else:
            doubtful = upto < int(state.get(_DOUBTFUL, "0"))
            there = self._present(snapshot, [row for _, row in rows]) if doubtful else set()
            batch = self._batch(rows, upto, there, usage=_ROTATED not in state)
        return self._flush(snapshot, stored, batch, unlisted)

    def _batch(self, rows: Sequence[Row], upto: int, there: set[str], *, usage: bool) -> _Batch:
        """`there` are ids of rows that the spreadsheet has already."""
        if not usage:
            return _Batch(rows, upto, ())
        left_out = [
            (row.id, row.email, reason)
            for _, row in rows
            if row.id not in there and (reason := self._aside.reason(row))
        ]
        ids = there | {each[0] for each in left_out}
        return _Batch(rows, upto, [row for _, row in rows if row.id not in ids], left_out)

    def _more(self, connection: Connection) -> tuple[list[tuple[ApiKey, bytes]], bool]:
        """Keys that are not listed, and whether something has lost its line in a machine's tab."""
        if self._follows is not None:
            return [], False
        book = self.book.id
        homeless = tables.homeless_keys(connection, book, 1) or tables.homeless_groups(
            connection, book, 1
        )
        return tables.unlisted_keys(connection, book, MOST_KEYS), bool(homeless)

    def _curious(self) -> bool:
        looked = self._looked_at
        return looked is None or (self._now() - looked).total_seconds() >= _IDLE

    def _look(self) -> Snapshot:
        snapshot = layout.read_snapshot(self._hasty.metadata(layout.FIELDS))
        self._looked_at = self._now()
        self.figures.cells = snapshot.cells
        self._watch(snapshot.cells)
        return snapshot

    def _watch(self, cells: int) -> None:
        topic = f"full {self.book.id}"
        if self._is_full and not self._followed:
            self.book.alarms.raise_(
                topic,
                f"the spreadsheet {self.book.id} has {cells:,} of {layout.CELL_LIMIT:,} cells: name"
                " one more in SLUICE_SHEET_ID, after a comma, and usage rows go on there",
            )
        else:
            self.book.alarms.clear(topic)

    @property
    def _is_full(self) -> bool:
        return self.figures.cells >= self._full * layout.CELL_LIMIT

    def _flush(
        self,
        snapshot: Snapshot,
        stored: Sequence[Flush],
        batch: _Batch,
        unlisted: Sequence[tuple[ApiKey, bytes]],
    ) -> bool:
        marker = snapshot.marker
        assert marker is not None
        ground = self._survey(snapshot, batch.sent, bool(unlisted), marker.number)
        number = marker.number + 1
        latest = stored[-1] if stored else None
        blame: Mapping[int, tuple[str, bool]] = {}
        if (
            latest is not None
            and latest.number == number
            and latest.effects.layout == ground.print(batch)
            and latest.effects.rows == batch.size
            and not self._refused
        ):
            flush = latest
        else:
            flush, batch, blame = self._build(ground, batch, unlisted, number)
            self.book.change(lambda connection: tables.store_flush(connection, self.book.id, flush))
        try:
            self._hasty.update(flush.body)
        except SheetRefused as error:
            self._answer_refusal(error, batch, blame)
            raise _Moved from error
        return self._confirm(flush)

    def _confirm(self, flush: Flush) -> bool:
        now = self._now()

        def confirm(connection: Connection) -> None:
            tables.confirm_flush(connection, self.book.id, flush, now)
            if self._followed and self._is_full:
                tables.keep_state(connection, self.book.id, _ROTATED, str(flush.effects.upto))

        self.book.change(confirm)
        self._refused = self._streak = self._torn = 0
        self._most = min(MOST_ROWS, self._most * 2)
        self.figures.last_flush = now
        with self.book.reading() as connection:
            self.figures.backlog = tables.backlog(connection, flush.effects.upto)
            self._aside.settle(each[0] for each in flush.effects.aside)
            for row in tables.usage_of(connection, flush.effects.again[:1]):
                self._aside.take_back(connection, row.email)
            self._count_aside(connection)
        if not self.figures.backlog:
            self.figures.waiting_since = None
        return self.figures.backlog > 0

    # A body that Google says is wrong.

    def _answer_refusal(
        self, error: SheetRefused, batch: _Batch, blame: Mapping[int, tuple[str, bool]]
    ) -> None:
        """Makes the next body another one, if this one is to blame. Raises if nothing helps."""
        message = error.what
        if re.search(r"requests\[\d+\]\.(add|delete)Named", message, re.IGNORECASE):
            return  # the marker: it was applied, or another gateway was faster
        named = re.search(r"requests\[(\d+)\]", message)
        blamed = blame.get(int(named[1])) if named else None
        if batch.again:
            tab = named is not None and (blamed is None or blamed[1])
            self.book.change(lambda connection: self._aside.refuse(connection, batch.sent, tab=tab))
            self._learnt = True
            return
        if "limit of 10000000 cells" in message:
            raise SheetLost(
                "the spreadsheet is full: 10,000,000 cells", "see docs/sheets.md, Rotation"
            ) from error
        if not self._refused:
            self._refused_at = self._now()
        self._refused += 1
        if self._refused == 1:
            return  # a tab or column has gone meanwhile, or the marker in other words: look again
        self._learnt = True
        if blamed is not None:
            emails = {blamed[0]}
            if self._refused > 2 and blamed[1]:
                # One new tab after the other: it is not for any one of them.
                emails = {email for email, tab in blame.values() if tab}
            for email in emails:
                logger.error("rows of %s are left out of the spreadsheet: %s", email, message)
                self._aside.leave_out(email, message)
            return  # and what the next body is refused for was looked at right now
        if len(batch.rows) > 1:
            self._most = (len(batch.rows) + 1) // 2
            return
        certain = named is not None and int(named[1]) > 1  # the marker itself was found in order
        waited = (self._now() - self._refused_at).total_seconds()
        if not batch.rows or self._streak >= _STREAK or not (certain or waited >= _DOUBT):
            raise error
        row = batch.rows[0][1]
        logger.error("usage row %s is left out of the spreadsheet: %s", row.id, message)
        self._aside.leave_out_row(row.id, message)
        self._streak += 1
        self._refused = 0

    def _count_aside(self, connection: Connection) -> None:
        topic, book = f"aside {self.book.id}", self.book.id
        self.figures.quarantined = count = aside.count(connection, book)
        found = aside.example(connection, book) if count else None
        if found is None:
            self.book.alarms.clear(topic)
            return
        row_id, reason = found
        which = (
            f"usage row {row_id}" if count == 1 else f"{count:,} usage rows, {row_id} among them"
        )
        self.book.alarms.raise_(
            topic,
            f"{which}, could not be written ({reason}); they are set aside and tried again by"
            " themselves, and the others go on",
        )

    # What the spreadsheet looks like.

    def _survey(
        self, snapshot: Snapshot, rows: Sequence[UsageRow], with_keys: bool, number: int
    ) -> _Ground:
        """Reads the headers of all tabs that will be written, right before that."""
        emails = dict.fromkeys(row.email for row in rows)
        there = {email: tab for email in emails if (tab := snapshot.user_tab(email))}
        keys_tab, gateway = snapshot.tab(KEYS), snapshot.tab(layout.GATEWAY)
        assert gateway is not None
        ranges = [layout.quoted(gateway.title, f"A2:B{len(layout.GATEWAY_NAMES) + 1}")]
        ranges += [layout.quoted(tab.title, "1:1") for tab in there.values()]
        if with_keys and keys_tab is not None:
            last = layout.letters(max(0, keys_tab.columns - 1))
            ranges.append(layout.quoted(keys_tab.title, f"A:{last}"))
        values = self._read(ranges, self._hasty)
        listed = values.pop() if with_keys else []
        counters = {str(line[0]): line[1] for line in values[0] if len(line) > 1}
        headers = [block[0] if block else [] for block in values[1:]]
        daily_rows, stats_rows = self._counters(snapshot, counters, number)
        found = dict(zip(there, headers, strict=True))
        keys_header = listed[0] if listed else []
        return _Ground(
            snapshot=snapshot,
            users={
                email: _UserTab(email, there.get(email), found.get(email, [])) for email in emails
            },
            keys_tab=keys_tab,
            keys_header=keys_header,
            keys_there=_ids(keys_header, listed[1:]),
            daily_rows=daily_rows,
            stats_rows=stats_rows,
        )

    def _read(
        self, ranges: Sequence[str], google: Google | None = None
    ) -> list[list[list[object]]]:
        google = google or self.book.google
        values: list[list[list[object]]] = []
        part: list[str] = []
        try:
            for item in ranges:
                if sum(len(known) + 24 for known in part) + len(item) > _LONGEST_QUERY:
                    values += google.values(part)
                    part = []
                part.append(item)
            return values + google.values(part)
        except SheetRefused as error:
            raise _Moved from error  # a tab was renamed since its name was read

    def _counters(
        self, snapshot: Snapshot, counters: Mapping[str, object], number: int
    ) -> tuple[int, int]:
        """How many lines the machine's tabs have. What `_gateway` says, if it is as new as the marker."""
        daily, stats = counters.get("Rows of _daily"), counters.get("Rows of _key_stats")
        if self._follows is not None:
            return 0, 0  # it has no such tabs
        last = counters.get("Last flush")
        if last == number:
            self._torn = 0
            if isinstance(daily, int | float) and isinstance(stats, int | float):
                return int(daily), int(stats)
        elif isinstance(last, int | float) and self._torn < _ATTEMPTS:
            self._torn += 1
            raise _Moved
        # Somebody changed `_gateway`. The tabs themselves know.
        tabs = [snapshot.tab(DAILY), snapshot.tab(layout.STATS)]
        ranges = [layout.quoted(tab.title, "A:A") for tab in tabs if tab is not None]
        first, second = (max(0, len(lines) - 1) for lines in self._read(ranges))
        return first, second

    def missing(self, snapshot: Snapshot, *, init: bool) -> list[str]:
        """Tabs to make: for `init` those as well that the flusher can do without."""
        needed = {layout.GATEWAY}
        if self._follows is None:
            needed = set(layout.TABS) if init else {KEYS, DAILY, layout.STATS, layout.GATEWAY}
        return [name for name in layout.missing_tabs(snapshot) if name in needed]

    def _repair(
        self, snapshot: Snapshot, stored: Sequence[Flush], rows: Sequence[Row], number: int
    ) -> None:
        """Makes the machine's tabs, the tab of keys and the marker anew. Two gateways cannot both."""
        if stored and snapshot.marker is None and self._landed(snapshot, stored[-1], rows):
            self._confirm(stored[-1])
        requests = list(self.foundation(snapshot, number, init=False))
        if not requests:
            return
        try:
            self.book.google.update(orjson.dumps({"requests": requests}))
        except SheetRefused as error:
            raise _Moved from error

    def _notice_births(self, snapshot: Snapshot, state: Mapping[str, str]) -> None:
        """A tab that was deleted and made anew, by whichever gateway, has nothing of ours in it."""
        if self._follows is not None:
            return
        forget = {
            DAILY: tables.forget_daily,
            layout.STATS: tables.forget_stats,
            KEYS: tables.forget_keys,
        }
        for name, forgetting in forget.items():
            tab = snapshot.tab(name)
            birth = "" if tab is None else tab.labels.get(layout.BIRTH_LABEL, "")
            known = state.get(f"birth {name}")
            if known == birth:
                continue

            def note(
                connection: Connection,
                name: str = name,
                birth: str = birth,
                known: str | None = known,
                forgetting: Callable[[Connection, str], None] = forgetting,
            ) -> None:
                if known is not None:
                    forgetting(connection, self.book.id)
                tables.set_state(connection, self.book.id, {f"birth {name}": birth})

            self.book.change(note)
            if known is not None:
                self.book.alarms.raise_(
                    f"tab {name}", f"the tab {name!r} was lost; it was made anew", _TOLD
                )
                raise _Moved

    def _notice_copy(self, snapshot: Snapshot, state: Mapping[str, str]) -> None:
        """A write of ours that we do not know was made by the ledger that this one is a copy of."""
        known = int(state.get("number", "0"))
        ours = [mark.number for mark in snapshot.marks if mark.owner == self._owner]
        if max(ours, default=0) > known and state.get(_NOTICED) != str(max(ours)):
            text = (
                f"the spreadsheet {self.book.id} has write {max(ours)} of this very ledger, which knows"
                f" none after {known}: it was restored from an older copy, or another gateway runs"
                " with a copy of it. What was made meanwhile is in the spreadsheet only;"
                " `sluice sheets reconcile` names it, and ends this notice"
            )
            logger.error("%s", text)

            def note(connection: Connection) -> None:
                doubtful = str(account.last_revision(connection))
                told = {tables.RESTORED: text, _DOUBTFUL: doubtful, _NOTICED: str(max(ours))}
                tables.set_state(connection, self.book.id, told)

            self.book.change(note)
            raise _Moved

    def _tell_copy(self, state: Mapping[str, str]) -> None:
        """For as long as nobody has reconciled."""
        topic = f"copy {self.book.id}"
        if text := state.get(tables.RESTORED, ""):
            self.book.alarms.raise_(topic, text)
        else:
            self.book.alarms.clear(topic)

    def foundation(
        self, snapshot: Snapshot, number: int = 0, *, init: bool = True
    ) -> Iterator[Request]:
        """What every spreadsheet of ours has and this one lacks."""
        for name in self.missing(snapshot, init=init):
            tab = snapshot.tab(name)
            header: Sequence[object] = ()
            if tab is not None:
                lines = self._read([layout.quoted(tab.title, "1:1")])[0]
                header = lines[0] if lines else []
            yield from layout.make_tab(name, snapshot, header, self.book.tiers)
        gateway = snapshot.tab(layout.GATEWAY)
        machines = (DAILY, layout.STATS) if self._follows is None else ()
        if machines and snapshot.tab(layout.STATS) is None:
            yield from self._formulas(snapshot)
        for name in machines:
            if snapshot.tab(name) is None and gateway is not None:
                line = 1 + layout.GATEWAY_NAMES.index(f"Rows of {name}")
                empty = [layout.placed({0: layout.value(0)})]
                yield layout.write(gateway.sheet_id, line, empty, "userEnteredValue", column=1)
        if snapshot.marker is None:
            # Ids of ranges whose cells were deleted may be taken, and are not told.
            leap = secrets.randbelow(1_000_000) if number else 0
            yield layout.flush_mark(number + leap, NOBODY, secrets.token_hex(4))

    def _formulas(self, snapshot: Snapshot) -> Iterator[Request]:
        """The counters of the tab of keys, whose formulas lost what they pointed to."""
        tab = snapshot.tab(KEYS)
        if tab is None:
            return
        last = layout.letters(max(0, tab.columns - 1))
        lines = self._read([layout.quoted(tab.title, f"A:{last}")])[0]
        if len(lines) > 1:
            yield from layout.restore_counters(tab.sheet_id, lines[0], len(lines))

    def _landed(self, snapshot: Snapshot, flush: Flush, rows: Sequence[Row]) -> bool:
        """Whether the rows of a flush are in the spreadsheet, where no marker tells it any more."""
        if again := flush.effects.again:
            with self.book.reading() as connection:
                sent = tables.usage_of(connection, again)
        else:
            sent = [row for revision, row in rows if revision <= flush.effects.upto]
        return bool(self._present(snapshot, sent))

    def _present(self, snapshot: Snapshot, rows: Sequence[UsageRow]) -> set[str]:
        """Ids of those rows that are in the tabs of their users, wherever there."""
        wanted: dict[str, set[str]] = {}
        for row in rows:
            wanted.setdefault(row.email, set()).add(row.id)
        found: set[str] = set()
        for email, ids in wanted.items():
            tab = snapshot.user_tab(email)
            if tab is None:
                continue
            last = layout.letters(max(0, tab.columns - 1))
            block = self._read([layout.quoted(tab.title, f"A:{last}")])[0]
            found |= ids.intersection(str(cell) for line in block for cell in line)
        return found

    # Building a body.

    def _build(
        self,
        ground: _Ground,
        batch: _Batch,
        unlisted: Sequence[tuple[ApiKey, bytes]],
        number: int,
    ) -> tuple[Flush, _Batch, Mapping[int, tuple[str, bool]]]:
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
        ground: _Ground,
        batch: _Batch,
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
        if self._follows is None:
            with self.book.reading() as connection:
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
            self._owner,
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
        yield layout.flush_mark(number, self._owner, token)
        yield layout.remove_range(marker.range_id)
        if marker.owner not in (self._owner, NOBODY):
            yield layout.receipt(marker)
        for mark in snapshot.marks:
            if mark.owner == self._owner and mark != marker:
                yield layout.remove_range(mark.range_id)

    def _usage(self, ground: _Ground, rows: Sequence[UsageRow]) -> Iterator[tuple[str, Request]]:
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
            lines = [orjson.Fragment(orjson.dumps(_usage_line(row, places))) for row in own]
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
            self.book.alarms.raise_(
                topic, f"the tab {tab.title!r} had lost its header; it was written anew", _TOLD
            )
            return list(layout.insert_header(tab, USAGE_COLUMNS)), standard
        lost = [column for column in USAGE_COLUMNS if column.header not in places]
        if not lost:
            return [], places
        names = ", ".join(column.header for column in lost)
        self.book.alarms.raise_(
            topic,
            f"the tab {tab.title!r} had lost the column {names}; it was added at the right end",
            _TOLD,
        )
        for index, column in enumerate(lost, tab.columns):
            places[column.header] = index
        return list(layout.add_columns(tab, lost)), places

    def _list_keys(
        self,
        plan: _Plan,
        ground: _Ground,
        unlisted: Sequence[tuple[ApiKey, bytes]],
    ) -> None:
        """New keys, after the last row of the tab of keys."""
        if not unlisted or ground.keys_tab is None:
            return
        try:
            places = layout.columns(ground.keys_header, layout.LISTED_COLUMNS)
        except layout.HeaderBroken as error:
            self.book.alarms.raise_(
                "new keys",
                f"new keys are not listed: in the tab {ground.keys_tab.title!r} {error}",
            )
            return
        self.book.alarms.clear("new keys")
        lines = []
        for key, digest in unlisted:
            plan.keys[key.id] = (True, None)
            if key.id not in ground.keys_there:
                lines.append(_key_line(key, digest, places, self.book.tiers))
        if lines:
            fields = f"{layout.CELL_FIELDS},dataValidation"
            plan.requests.append(layout.append(ground.keys_tab.sheet_id, lines, fields))

    def _count(
        self, connection: Connection, plan: _Plan, ground: _Ground, key_ids: Iterable[str]
    ) -> int:
        """The keys' counters as they are now: absolute, in the gateway's own lines."""
        tab = ground.snapshot.tab(layout.STATS)
        assert tab is not None
        homeless = tables.homeless_keys(connection, self.book.id, MOST_KEYS)
        ids = list(dict.fromkeys((*key_ids, *homeless)))
        known, used = tables.stats_rows(connection, self.book.id, ids), ground.stats_rows
        lines: dict[int, Request] = {}
        for key in tables.counters(connection, ids):
            row = known.get(key.id)
            if row is None:
                used += 1
                row = used
            plan.keys[key.id] = (plan.keys.get(key.id, (False, None))[0], row)
            last = None if key.last_used_at is None else serial(key.last_used_at)
            cells = (key.id, last, whole(key.requests), whole(key.tokens), self._owner)
            lines[row] = _line(layout.STATS_COLUMNS, cells)
        plan.requests += _fixed(tab, lines, used)
        return used

    def _roll_up(
        self, connection: Connection, plan: _Plan, ground: _Ground, rows: Iterable[UsageRow]
    ) -> int:
        """The days' sums with these rows in them: absolute, in the gateway's own lines."""
        tab = ground.snapshot.tab(DAILY)
        assert tab is not None
        book, used = self.book.id, ground.daily_rows
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
            row: _line(layout.ROLLUP_COLUMNS, (*daily_cells(group, total), self._owner))
            for group, (total, row) in totals.items()
        }
        plan.daily = [(group, total, row) for group, (total, row) in totals.items()]
        plan.requests += _fixed(tab, lines, used)
        return used


def _few_users(rows: list[Row]) -> list[Row]:
    """The first rows, of no more users than whose tabs are looked at before a flush."""
    emails: set[str] = set()
    for index, (_, row) in enumerate(rows):
        emails.add(row.email)
        if len(emails) > MOST_USERS:
            return rows[:index]
    return rows


def _applied(snapshot: Snapshot, stored: Sequence[Flush]) -> Flush | None:
    tokens = {mark.token for mark in snapshot.marks}
    return next((flush for flush in stored if flush.token in tokens), None)


def _ids(header: Sequence[object], lines: Iterable[Sequence[object]]) -> frozenset[str]:
    """The keys that the tab of keys has."""
    place = layout.first_places(header, layout.LISTED_COLUMNS).get("Key ID")
    if place is None:
        return frozenset()
    return frozenset(str(line[place]) for line in lines if len(line) > place and line[place])


def _line(columns: Sequence[Column], cells: Sequence[Cell]) -> Request:
    typed = map(layout.typed, columns, cells)
    return layout.placed(dict(enumerate(typed)))


def _usage_line(row: UsageRow, places: Mapping[str, int]) -> Request:
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
