"""Spreadsheet to ledger: people's edits of keys taken in, and the tab put right where it has to be.

A look at the tab costs one read. Changes are written to the ledger in one transaction with their audit
entries, and a running gateway obeys them from then on. Only where a cell has to say something else
(a pasted key above all) is the tab read once more and, right after that, written to.
"""

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime

import orjson
from sqlalchemy import Connection, and_, delete, func, insert, select
from sqlalchemy import update as change
from sqlalchemy.dialects.sqlite import insert as upsert

from keys.columns import api_key
from keys.mint import mint_id
from keys.mirror import audit, console, header, layout, schema, tables
from keys.mirror.book import Book
from keys.mirror.console import Broken, Edit, Fix, Known, Paste, Reading, Seen
from keys.mirror.google import SheetLost, SheetRefused
from keys.mirror.layout import Request, Tab
from keys.mirror.schema import mirror_keys, mirror_seen
from keys.schema import api_keys
from keys.tabs import KEYS, Cell

logger = logging.getLogger(__name__)

_ORPHANS = "orphans"
_MOST_ORPHANS = 100
_MOST_PROBLEMS = 20
_MOST_FIXES = 500
"""Rows in one write."""
_FRESH = 5
"""Looks at the cells between two looks at which tabs there are."""

Values = list[list[object]]


class Intake:
    """Looks at the tab of keys. For the mirror's one thread."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._tab: Tab | None = None
        self._age = 0
        self._raised: set[str] = set()
        self._prepared = False
        self.last_look: datetime | None = None
        """When the tab was last understood. Read by other threads."""

    def poll(self) -> None:
        """Takes over what people changed. Raises `SheetError`, `LedgerError`."""
        self._prepare()
        values = self._values()
        if values is None:
            with self._book.reading() as connection:
                had = bool(_seen(connection, self._book.id))
            gone = f"the tab {KEYS!r} is gone: keys stay as they were until it is made anew"
            self._tell([gone] if had else [])
            return
        try:
            restored = self._restore(values)
            reading = self._read(values)
            if reading.misses and self._age:
                # Rows are not there: is it still the same tab?
                self._tab = None
                self.poll()
                return
        except Broken as error:
            self._tell(
                [
                    f"the tab {self._title} cannot be understood: {error}."
                    " Keys stay as they were until its first row is as it was"
                    " (`sluice sheets reconcile --repair` can do that):"
                    f" {', '.join(_headers())}"
                ]
            )
            self._age = _FRESH
            self._write(list(console.conceal(values, self._digests())), Reading())
            return
        self._apply(reading)
        self.last_look = datetime.now(UTC)
        self._tell([*restored, *reading.problems, *filter(None, [reading.foreign])])
        if reading.fixes:
            self._mend()

    def reconcile(self, *, repair: bool) -> Generator[str, None, bool]:
        """What is wrong with the tab, and with `repair` a header that is as it was. Returns whether
        nothing is wrong now."""
        self._prepare()
        self._tab = None
        values = self._values()
        if values is None or self._tab is None:
            yield f"There is no tab {KEYS!r}: a running gateway makes it anew, with all keys."
            return False
        problems, foreign = self._wrong(values)
        for problem in (*problems, *filter(None, [foreign])):
            yield f"{self._title}: {problem}"
        if not repair:
            return not problems
        mending = header.mend(self._tab, values, self._known())
        if mending.requests:
            self._book.google.update(orjson.dumps({"requests": mending.requests}))
            self._tab = None
            problems, _ = self._wrong(self._values() or [])
        yield from mending.lines
        return not problems

    def _wrong(self, values: Values) -> tuple[Sequence[str], str]:
        try:
            reading = self._read(values)
        except Broken as error:
            return [str(error)], ""
        return reading.problems, reading.foreign

    # Looking.

    @property
    def _title(self) -> str:
        return repr(KEYS if self._tab is None else self._tab.title)

    def _prepare(self) -> None:
        if not self._prepared:
            self._book.change(schema.prepare)
            self._prepared = True

    def _values(self) -> Values | None:
        """All cells of the tab; None where there is no such tab."""
        self._age += 1
        if self._tab is not None and self._age <= _FRESH:
            try:
                return self._book.google.values([_range(self._tab)])[0]
            except SheetRefused:
                self._tab = None  # it was renamed or deleted
        snapshot = layout.read_snapshot(self._book.google.metadata(layout.FIELDS))
        self._tab, self._age = snapshot.tab(KEYS), 0
        if self._tab is None:
            return None
        return self._book.google.values([_range(self._tab)])[0]

    def _read(self, values: Values) -> Reading:
        with self._book.reading() as connection:
            known = _known(connection, self._book.id)
            seen = _seen(connection, self._book.id)
            noted = tables.state(connection, self._book.id).get(f"birth {KEYS}")
            orphans = _orphans(connection, self._book.id)
        if self._tab is not None and noted not in (
            None,
            self._tab.labels.get(layout.BIRTH_LABEL, ""),
        ):
            seen = {}  # the tab was made anew: what is not there yet was not deleted by anybody
        return console.read(values, known, seen, tiers=self._book.tiers, orphans=orphans)

    def _known(self) -> list[Known]:
        with self._book.reading() as connection:
            return _known(connection, self._book.id)

    def _digests(self) -> set[str]:
        return {item.digest for item in self._known()}

    def _tell(self, problems: Sequence[str]) -> None:
        """Raises alarms for these problems, and ends those of problems that are over."""
        shown = list(dict.fromkeys(problems))
        if len(shown) > _MOST_PROBLEMS:
            rest = len(shown) - _MOST_PROBLEMS
            shown = [*shown[:_MOST_PROBLEMS], f"and {rest} more problems in the tab {self._title}"]
        for problem in shown:
            if problem not in self._raised:
                logger.warning("spreadsheet: %s", problem)
                self._book.alarms.raise_(problem, problem)
        for problem in self._raised.difference(shown):
            self._book.alarms.clear(problem)
        self._raised = set(shown)

    # Taking in.

    def _restore(self, values: Values) -> list[str]:
        """Gives a ledger without any key those of the tab. What is wrong with rows that give none."""
        book = self._book.id
        with self._book.reading() as connection:
            if connection.execute(select(api_keys.c.id).limit(1)).first() is not None:
                return []
        found, problems = console.records(values, datetime.now(UTC))
        if not found:
            return problems

        def restore(connection: Connection) -> int:
            if connection.execute(select(api_keys.c.id).limit(1)).first() is not None:
                return 0
            now = datetime.now(UTC)
            rows = [
                {
                    "id": record.id,
                    "digest": record.digest,
                    "masked": record.masked,
                    "email": record.email,
                    "name": record.name,
                    "tier": record.tier,
                    "notes": record.notes,
                    "created_at": record.created_at,
                    "revoked_at": now if record.revoked else None,
                    "requests": 0,
                    "tokens": 0,
                    "revision": revision,
                }
                for revision, record in enumerate(found, 1)
            ]
            connection.execute(insert(api_keys), rows)
            tables.list_keys(connection, book, [record.id for record in found])
            audit.write(
                connection,
                [
                    audit.Entry(now, audit.SHEET, record.id, "key", "", record.masked, "restored")
                    for record in found
                ],
            )
            return len(found)

        count = self._book.change(restore)
        logger.warning("%d keys were restored from the spreadsheet", count)
        return problems

    def _apply(self, reading: Reading) -> None:
        """All changes in one transaction; none costs none."""
        book = self._book.id
        with self._book.reading() as connection:
            seen, orphans = _seen(connection, book), _orphans(connection, book)
        waiting = {**orphans, **reading.orphans}
        for paste in reading.pasted:
            waiting.pop(paste.masked, None)
        waiting = dict(list(waiting.items())[-_MOST_ORPHANS:])
        if not (reading.edits or reading.pasted or seen != reading.seen or waiting != orphans):
            return

        def apply(connection: Connection) -> list[audit.Entry]:
            now = datetime.now(UTC)
            entries = [
                *(entry for edit in reading.edits if (entry := _edit(connection, edit, now))),
                *(
                    entry
                    for paste in reading.pasted
                    if (entry := _take_in(connection, book, paste, now))
                ),
            ]
            audit.write(connection, entries)
            _see(connection, book, seen, reading.seen)
            if waiting != orphans:
                tables.set_state(connection, book, {_ORPHANS: orjson.dumps(waiting).decode()})
            return entries

        for entry in self._book.change(apply):
            logger.info("spreadsheet: %s of key %s was changed", entry.field, entry.key_id)

    # Writing back.

    def _mend(self) -> None:
        """Reads once more, so that rows are where they are, and writes at once."""
        values = self._values()
        if values is None:
            return
        try:
            reading = self._read(values)
        except Broken:
            return
        self._write(reading.fixes, reading)

    def _write(self, fixes: Sequence[Fix], reading: Reading) -> None:
        topic = "keys tab"
        if not fixes or self._tab is None:
            self._book.alarms.clear(topic)
            return
        requests = [
            request
            for fix in fixes[:_MOST_FIXES]
            for request in _fix(self._tab.sheet_id, fix, reading.columns, self._book.tiers)
        ]
        try:
            self._book.google.update(orjson.dumps({"requests": requests}))
        except (SheetRefused, SheetLost) as error:
            # What people changed counts all the same; the rest is tried at the next look.
            self._tab = None
            self._book.alarms.raise_(topic, f"the tab of keys cannot be written to: {error}")
        else:
            self._book.alarms.clear(topic)


def _range(tab: Tab) -> str:
    """All cells, however many columns there are by now."""
    return layout.quoted(tab.title, "").removesuffix("!")


def _headers() -> Iterator[str]:
    """The first row of the tab of keys."""
    return (column.header for column in layout.LISTED_COLUMNS)


def _known(connection: Connection, book: str) -> list[Known]:
    listed = mirror_keys
    found = select(api_keys, listed.c.listed).outerjoin(
        listed, and_(listed.c.key_id == api_keys.c.id, listed.c.book == book)
    )
    return [
        Known(api_key(record), record.digest.hex(), bool(record.listed))
        for record in connection.execute(found)
    ]


def _seen(connection: Connection, book: str) -> dict[str, Seen]:
    columns = [mirror_seen.c[each.name] for each in fields(Seen)]
    found = select(mirror_seen.c.key_id, *columns).where(mirror_seen.c.book == book)
    return {key_id: Seen(*told) for key_id, *told in connection.execute(found)}


def _orphans(connection: Connection, book: str) -> dict[str, str]:
    stored = tables.state(connection, book).get(_ORPHANS, "{}")
    return {str(shown): str(known) for shown, known in orjson.loads(stored).items()}


def _see(
    connection: Connection, book: str, before: Mapping[str, Seen], after: Mapping[str, Seen]
) -> None:
    for key_id in before.keys() - after.keys():
        connection.execute(
            delete(mirror_seen).where(mirror_seen.c.book == book, mirror_seen.c.key_id == key_id)
        )
    for key_id, seen in after.items():
        if before.get(key_id) == seen:
            continue
        values = asdict(seen)
        connection.execute(
            upsert(mirror_seen)
            .values(book=book, key_id=key_id, **values)
            .on_conflict_do_update(index_elements=["book", "key_id"], set_=values)
        )


def _edit(connection: Connection, edit: Edit, now: datetime) -> audit.Entry | None:
    """Makes a change, unless it was made meanwhile."""
    record = connection.execute(select(api_keys).where(api_keys.c.id == edit.key_id)).one_or_none()
    if record is None:
        return None
    key = api_key(record)
    match edit.field:
        case "revoked":
            revoked = edit.new == "yes"
            if key.revoked == revoked:
                return None
            values: dict[str, object] = {"revoked_at": now if revoked else None}
            old = "yes" if key.revoked else "no"
        case "name" | "tier" | "notes":
            old = str(getattr(key, edit.field))
            if old == edit.new:
                return None
            values = {edit.field: edit.new}
        case _:
            raise ValueError(f"keys have no field {edit.field!r} that people may change")
    connection.execute(
        change(api_keys)
        .where(api_keys.c.id == edit.key_id)
        .values(**values, revision=_next_revision(connection))
    )
    return audit.Entry(now, audit.SHEET, edit.key_id, edit.field, old, edit.new, edit.why)


def _take_in(connection: Connection, book: str, paste: Paste, now: datetime) -> audit.Entry | None:
    """Makes a key of a pasted one, unless it is one already."""
    known = select(api_keys.c.id).where(api_keys.c.digest == bytes.fromhex(paste.digest))
    if connection.execute(known).first() is not None:
        return None
    key_id = mint_id()
    connection.execute(
        insert(api_keys),
        {
            "id": key_id,
            "digest": bytes.fromhex(paste.digest),
            "masked": paste.masked,
            "email": paste.email,
            "name": paste.name,
            "tier": paste.tier,
            "notes": paste.notes,
            "created_at": now,
            "revoked_at": now if paste.revoked else None,
            "requests": 0,
            "tokens": 0,
            "revision": _next_revision(connection),
        },
    )
    tables.list_keys(connection, book, [key_id])  # it has a row: the one that it was pasted into
    told = f"{paste.masked} for {paste.email}"
    why = "pasted into the spreadsheet, whose version history still shows it"
    return audit.Entry(now, audit.SHEET, key_id, "key", "", told, why)


def _next_revision(connection: Connection) -> int:
    last = connection.execute(select(func.max(api_keys.c.revision))).scalar()
    return (last or 0) + 1


# Requests.

_COLUMNS = {column.header: column for column in layout.LISTED_COLUMNS}


def _fix(
    sheet_id: int, fix: Fix, columns: Mapping[str, int], tiers: Sequence[str]
) -> Iterator[Request]:
    headers = {index: name for name, index in columns.items()}
    cells = {index: _cell(headers.get(index, ""), cell) for index, cell in fix.cells.items()}
    if fix.counters_of:
        for name in console.COUNTERS:
            formula = layout.counter(name, f'"{fix.counters_of}"')
            if name in columns and formula is not None:
                cells[columns[name]] = {"userEnteredValue": {"formulaValue": formula}}
    for index, cell in sorted(cells.items()):
        fields = layout.CELL_FIELDS if "userEnteredFormat" in cell else "userEnteredValue"
        rule = layout.validation(headers.get(index, ""), tiers)
        if fix.counters_of and rule is not None:
            cell, fields = {**cell, "dataValidation": rule}, f"{fields},dataValidation"
        yield layout.write(sheet_id, fix.row, [{"values": [cell]}], fields, column=index)


def _cell(name: str, cell: Cell) -> Request:
    column = _COLUMNS.get(name)
    return layout.value(cell) if column is None else layout.typed(column, cell)
