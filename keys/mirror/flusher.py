"""Ledger to spreadsheet: usage rows, counters, the roll-up and new keys, each exactly once.

A flush is one `spreadsheets.batchUpdate`, applied whole or not at all. It carries a marker: a named
range with the flush's number as its id, and it removes the marker of the flush before. Either fails
when a flush of that number was applied already, so that the same body can be sent any number of times.
Whether it was applied is never guessed from an answer but read: the marker's name has the body's token.
The body is kept in the ledger before it is sent. docs/sheets.md tells what follows from that.
"""

import logging
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection

from gateway.records import ApiKey, UsageRow
from keys import account
from keys.mirror import aside, layout, schema, strays, tables
from keys.mirror.aside import Aside
from keys.mirror.body import MOST_KEYS, NOBODY, Batch, Composer, Ground, Row, UserTab
from keys.mirror.book import HEALED, Book
from keys.mirror.google import BudgetSpent, Google, SheetLost, SheetRefused, SheetUnreachable
from keys.mirror.layout import Request, Snapshot
from keys.mirror.tables import Flush
from keys.tabs import DAILY, KEYS, USAGE_COLUMNS

logger = logging.getLogger(__name__)

MOST_ROWS = 2_500
"""Of a flush: about as many as fit into a body."""
_MOST_USERS = 500
_ROTATED = "rotated"
"""In the state of a spreadsheet: the revision after which usage rows go to the next one."""
_NOTICED = "noticed"
"""In the state of a spreadsheet: the write of ours that this ledger did not know."""
_DOUBTFUL = "doubtful"
"""In the state of a spreadsheet: up to this revision, rows may be there without this ledger knowing."""
_LONGEST_QUERY = 6_000
_ATTEMPTS = 3
_IDLE = 60.0
"""Seconds between looks at the spreadsheet while there is nothing to write."""
_PATIENCE = 10.0
"""Seconds for an answer to what is asked all the time: people's edits of keys wait for their turn. A
flush whose answer was late is found by its marker."""
_SEEN_AGAIN = 30.0
"""Seconds after which the headers of tabs are looked at once more that rows were written to."""
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
        self._composer = Composer(book, self._aside, now, usage_only=follows is not None)
        self._looked_after = now()
        self._written: dict[str, tuple[Sequence[object], list[str]]] = {}
        """By user, the header for which rows were last written, and which: until it was seen once more."""
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

        self._owner = self._composer.owner = self.book.change(prepare)

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
        if self._written and (self._now() - self._looked_after).total_seconds() >= _SEEN_AGAIN:
            self._look_after()
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
            batch = Batch((), upto, again, again=True)
        else:
            doubtful = upto < int(state.get(_DOUBTFUL, "0"))
            there = self._present(snapshot, [row for _, row in rows]) if doubtful else set()
            batch = self._batch(rows, upto, there, usage=_ROTATED not in state)
        return self._flush(snapshot, stored, batch, unlisted)

    def _batch(self, rows: Sequence[Row], upto: int, there: set[str], *, usage: bool) -> Batch:
        """`there` are ids of rows that the spreadsheet has already."""
        if not usage:
            return Batch(rows, upto, ())
        left_out = [
            (row.id, row.email, reason)
            for _, row in rows
            if row.id not in there and (reason := self._aside.reason(row))
        ]
        ids = there | {each[0] for each in left_out}
        return Batch(rows, upto, [row for _, row in rows if row.id not in ids], left_out)

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
        batch: Batch,
        unlisted: Sequence[tuple[ApiKey, bytes]],
    ) -> bool:
        marker = snapshot.marker
        assert marker is not None
        ground = self._survey(snapshot, batch.sent, bool(unlisted), marker.number)
        if self._put_right(ground.users.values()):
            raise _Moved
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
            flush, batch, blame = self._composer.compose(ground, batch, unlisted, number)
            self.book.change(lambda connection: tables.store_flush(connection, self.book.id, flush))
        for row in batch.sent:
            header = ground.users[row.email].header or [each.header for each in USAGE_COLUMNS]
            self._written.setdefault(row.email, (header, []))[1].append(row.id)
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
        self, error: SheetRefused, batch: Batch, blame: Mapping[int, tuple[str, bool]]
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
    ) -> Ground:
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
        return Ground(
            snapshot=snapshot,
            users={
                email: UserTab(email, there.get(email), found.get(email, [])) for email in emails
            },
            keys_tab=keys_tab,
            keys_header=keys_header,
            keys_there=_ids(keys_header, listed[1:]),
            daily_rows=daily_rows,
            stats_rows=stats_rows,
        )

    def _look_after(self) -> None:
        """Sees to the rows that were written last, of users who have no more."""
        self._looked_after = self._now()
        snapshot = self._look()
        there = [
            UserTab(email, tab, ()) for email in self._written if (tab := snapshot.user_tab(email))
        ]
        tops = [layout.quoted(each.tab.title, "1:1") for each in there if each.tab]
        headers = self._read(tops, self._hasty) if tops else []
        self._put_right(
            replace(each, header=lines[0] if lines else ())
            for each, lines in zip(there, headers, strict=True)
        )
        self._written.clear()

    def _put_right(self, users: Iterable[UserTab]) -> bool:
        """Whether rows were found under wrong headers. Raises `SheetError`."""
        found = False
        for user in users:
            header, ids = self._written.get(user.email, ((), []))
            if user.tab is not None and ids and list(user.header) != list(header):
                last = layout.letters(max(0, user.tab.columns - 1))
                values = self._read([layout.quoted(user.tab.title, f"A:{last}")])[0]
                with self.book.reading() as connection:
                    rows = tables.usage_of(connection, ids)
                if requests := list(strays.put_right(user.tab.sheet_id, values, rows)):
                    try:
                        self._hasty.update(orjson.dumps({"requests": requests}))
                    except SheetRefused as error:
                        raise _Moved from error
                    self.book.alarms.raise_(
                        f"strays {user.tab.sheet_id}",
                        f"columns of the tab {user.tab.title!r} were moved while rows were written there:"
                        " those rows were put right",
                        HEALED,
                    )
                    found = True
            self._written.pop(user.email, None)
        return found

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
                    f"tab {name}", f"the tab {name!r} was lost; it was made anew", HEALED
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


def _few_users(rows: list[Row]) -> list[Row]:
    """The first rows, of no more users than whose tabs are looked at before a flush."""
    emails: set[str] = set()
    for index, (_, row) in enumerate(rows):
        emails.add(row.email)
        if len(emails) > _MOST_USERS:
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
