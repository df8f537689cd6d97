"""What people wrote into the tab of keys, as changes of keys. Pure: values in, decisions out.

A cell counts as edited when it differs from what it said at the last read, so that a change made with
`sluice keys` is not undone by a tab that does not show it yet. Rows are known by their Key ID, else by
their Key Hash, else by the masked key: sorting, moving and inserting mean nothing. Where something is
unclear a key is rather refused than served, and where much is unclear at once nothing is believed but
that a key is revoked. docs/sheets.md tells people what they may do.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from gateway.records import ApiKey
from keys import register
from keys.digest import digest
from keys.mint import mask, usable, well_formed
from keys.tabs import Cell, plain, serial

API_KEY, EMAIL, NAME, TIER = "API Key", "User Email", "Key Name", "Tier"
CREATED, REVOKED, NOTES, KEY_ID, HASH = "Created At", "Revoked", "Notes", "Key ID", "Key Hash"
REQUIRED = (API_KEY, EMAIL, NAME, TIER, REVOKED, NOTES, KEY_ID)
COUNTERS = ("Last Used", "Requests", "Tokens")

_FEW = 3
_SHARE = 0.2
"""More rows than both of these is many: an accident, and not what somebody meant."""
_HEADER_ROWS = 10
"""Rows in which the header is looked for: people put rows above it."""
_LONGEST_NOTES = 5_000
_WITHIN = re.compile(r"sk-[0-9A-Za-z_-]{17,}")
_FAULT = re.compile(
    r"#(?:REF!|NAME\?|VALUE!|N/A|DIV/0!|ERROR!|NUM!|NULL!|SPILL!|CALC!)|Loading\.\.\."
)
"""What a formula shows that cannot be computed."""
_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)


class Broken(Exception):
    """The tab cannot be understood as it is, in a line for people."""


class Mark(Enum):
    """What a cell under Revoked says."""

    BLANK = "blank"
    ACTIVE = "active"
    REVOKED = "revoked"
    UNCLEAR = "unclear"
    """Something else; it means revoked."""


_ACTIVE = {"false", "no", "0"}
_PLAINLY_REVOKED = {"true", "yes", "y", "x", "1", "revoked"}


def revoked_mark(cell: object) -> Mark:
    """Anything but an empty cell, FALSE, no and 0 means revoked."""
    word = text(cell).casefold()
    if not word:
        return Mark.BLANK
    if word in _ACTIVE:
        return Mark.ACTIVE
    return Mark.REVOKED if word in _PLAINLY_REVOKED else Mark.UNCLEAR


@dataclass(frozen=True, slots=True)
class Known:
    """A key as the ledger has it."""

    key: ApiKey
    digest: str
    """In hexadecimal digits, as under Key Hash."""
    listed: bool = True
    """Whether its row was written to the tab."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the row of a key said when it was last read."""

    name: str
    tier: str
    notes: str
    revoked: bool
    missing: bool = False
    """The row was not there at the last read; once more, and it is taken for deleted."""
    unticked: bool = False
    """Revoked was taken away at the last read; once more, and it is believed."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of a key that a person made. `field` is name, tier, notes or revoked."""

    key_id: str
    field: str
    old: str
    new: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Paste:
    """A key that somebody brought along. The secret itself is forgotten by now."""

    digest: str
    masked: str
    email: str
    name: str
    tier: str
    notes: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class Fix:
    """What the cells of a row should say. `row` counts from 0, and holds for these values only."""

    row: int
    cells: Mapping[int, Cell]
    """By column."""
    counters_of: str = ""
    """A key whose counters the row lacks."""


@dataclass(slots=True)
class Reading:
    """What a look at the tab comes to."""

    columns: Mapping[str, int] = field(default_factory=dict)
    header_row: int = 0
    edits: list[Edit] = field(default_factory=list)
    pasted: list[Paste] = field(default_factory=list)
    orphans: dict[str, str] = field(default_factory=dict)
    """Digests of masked keys that wait for an e-mail address in their row, by masked form."""
    fixes: list[Fix] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    foreign: str = ""
    """That there are rows of keys that are not ours."""
    held: bool = False
    """Nothing but revocations was believed."""
    misses: bool = False
    """Rows of keys are not there that were."""


def text(cell: object) -> str:
    """A cell's value as a person reads it there."""
    match cell:
        case bool():
            return "TRUE" if cell else "FALSE"
        case float() if cell.is_integer():
            return str(int(cell))
        case None:
            return ""
        case _:
            return plain(str(cell)).strip()


def masked(secret: str) -> str:
    """A secret's masked form; of a short one even less is shown."""
    if len(secret) >= 40:
        return mask(secret)
    return f"{secret[:5]}…{secret[-2:]}"


def redacted(cell: str, digests: Container[str]) -> str:
    """Text without keys of ours; `digests` are those of keys that people brought along, too."""

    def hide(match: re.Match[str]) -> str:
        found = match[0]
        ours = well_formed(found) or digest(found).hex() in digests
        return masked(found) if ours else found

    return _WITHIN.sub(hide, cell)


def _hide(match: re.Match[str]) -> str:
    return masked(match[0])


def _concealed(
    line: Sequence[object], digests: Container[str], key_column: int | None = None
) -> Iterator[tuple[int, Cell]]:
    """By column, what cells that hold a secret should say instead. In the column of keys anything
    that looks like one is a secret."""
    for column, cell in enumerate(line):
        if not isinstance(cell, str) or "sk-" not in cell:
            continue
        if column == key_column and usable(cell.strip()):
            yield column, masked(cell.strip())
        elif (hidden := redacted(cell, digests)) != cell:
            yield column, plain(hidden)


def _pasted(values: Sequence[Sequence[object]], key_column: int | None) -> Iterator[str]:
    """Digests of the secrets in the column of keys."""
    for line in values:
        if key_column is not None and key_column < len(line):
            cell = text(line[key_column])
            if usable(cell):
                yield digest(cell).hex()


def conceal(values: Sequence[Sequence[object]], digests: Container[str]) -> Iterator[Fix]:
    """What takes keys of ours out of any cells, wherever they stand."""
    for index, line in enumerate(values):
        if cells := dict(_concealed(line, digests)):
            yield Fix(index, cells)


def many(count: int, of: int) -> bool:
    return count > max(_FEW, _SHARE * of)


def find_header(values: Sequence[Sequence[object]]) -> tuple[int, dict[str, int], list[str]]:
    """The header's row, the columns that are there once, and what is wrong. Raises `Broken`."""
    best, found = 0, 0
    for index, line in enumerate(values[:_HEADER_ROWS]):
        names = {text(cell) for cell in line}
        count = sum(name in names for name in REQUIRED)
        if count > found:
            best, found = index, count
    if found < len(REQUIRED) / 2:
        raise Broken("its header is gone")
    counts = Counter(text(cell) for cell in values[best])
    columns = {
        text(cell): index
        for index, cell in enumerate(values[best])
        if text(cell) and counts[text(cell)] == 1
    }
    problems = [
        f"the column {name!r} {'is missing' if not counts[name] else 'is there twice'}"
        for name in (*REQUIRED, HASH)
        if counts[name] != 1
    ]
    if KEY_ID not in columns and HASH not in columns:
        raise Broken("its columns 'Key ID' and 'Key Hash' are both missing or there twice")
    return best, columns, problems


@dataclass(frozen=True, slots=True)
class _Line:
    """A row below the header."""

    index: int
    cells: Mapping[str, object]
    """By header, of the columns that are there once."""
    concealed: dict[int, Cell]
    """By column, what cells that hold a secret should say instead."""
    pasted: bool
    """Whether a secret stands under API Key."""

    def text(self, header: str) -> str:
        return text(self.cells.get(header))

    def has(self, header: str) -> bool:
        return header in self.cells

    @property
    def place(self) -> str:
        email = self.text(EMAIL)
        return f"row {self.index + 1}" + (f" ({email[:80]})" if "@" in email else "")


class _Desk:
    """One look at the tab: who is who, and what to make of it."""

    def __init__(
        self,
        values: Sequence[Sequence[object]],
        known: Iterable[Known],
        seen: Mapping[str, Seen],
        tiers: Sequence[str],
        orphans: Mapping[str, str],
    ) -> None:
        self.known = {item.key.id: item for item in known}
        self.by_digest = {item.digest: item for item in self.known.values()}
        masks = Counter(item.key.masked for item in self.known.values())
        self.by_mask = {
            item.key.masked: item for item in self.known.values() if masks[item.key.masked] == 1
        }
        self.seen, self.tiers, self.orphans = seen, tiers, orphans
        header_row, columns, self.header_problems = find_header(values)
        self.reading = Reading(columns=columns, header_row=header_row)
        self.reading.problems += [
            f"{problem}; what it says stays as it was until it is back"
            for problem in self.header_problems
        ]
        self.secrets = {*self.by_digest, *_pasted(values[header_row + 1 :], columns.get(API_KEY))}
        """Digests of keys that may not be shown: ours, and those that become ours by this look."""
        self.reading.fixes += conceal(values[: header_row + 1], self.secrets)
        self.lines = [
            self._line(index, line)
            for index, line in enumerate(values[header_row + 1 :], header_row + 1)
        ]
        self.rows: dict[str, list[_Line]] = {}
        self.damaged: set[int] = set()
        self.foreign: list[str] = []

    def read(self) -> Reading:
        strangers = self._sort()
        if suspicion := self._suspicion():
            self.reading.problems.append(suspicion)
            self.reading.held = True
        vanished = self._vanished()
        for key_id, lines in self.rows.items():
            self._read_key(self.known[key_id], lines)
        self._miss(vanished)
        for line in strangers:
            self._read_stranger(line)
        if self.foreign:
            shown = ", ".join(self.foreign[:_FEW]) + (", …" if len(self.foreign) > _FEW else "")
            self.reading.foreign = (
                f"{len(self.foreign)} rows are of keys that this gateway does not have ({shown}):"
                " another gateway's, or lost with a ledger; nothing of them is taken"
            )
            self.reading.foreign = _WITHIN.sub(_hide, self.reading.foreign)
        # Problems quote cells, and are shown and logged.
        self.reading.problems = [_WITHIN.sub(_hide, text) for text in self.reading.problems]
        return self.reading

    # Who is who.

    def _line(self, index: int, line: Sequence[object]) -> _Line:
        cells = {
            header: line[column] if column < len(line) else None
            for header, column in self.reading.columns.items()
        }
        concealed = dict(_concealed(line, self.secrets, self.reading.columns.get(API_KEY)))
        pasted = usable(text(cells.get(API_KEY)))
        return _Line(index, cells, concealed, pasted)

    def _sort(self) -> list[_Line]:
        """Lines to their keys; those that are left over are returned."""
        strangers = []
        for line in self.lines:
            item = self._owner(line)
            if item is None:
                strangers.append(line)
            else:
                self.rows.setdefault(item.key.id, []).append(line)
        return strangers

    def _owner(self, line: _Line) -> Known | None:
        named = self.known.get(line.text(KEY_ID))
        hashed = self.by_digest.get(line.text(HASH).lower())
        if named is not None and hashed is not None and named is not hashed:
            # Nobody sees the hash, so nobody changed it: the id was pasted, or written amiss.
            self.damaged.add(line.index)
            self.reading.problems.append(
                f"{line.place}: the Key ID was changed; the row belongs to {hashed.key.id}"
            )
            return hashed
        if named is not None or hashed is not None:
            return named or hashed
        if line.text(KEY_ID) or line.text(HASH):
            return None
        cell = line.text(API_KEY)
        return self.by_digest.get(digest(cell).hex()) or self.by_mask.get(cell)

    # What is too much to be meant.

    def _suspicion(self) -> str:
        """Why this cannot be what people meant: most likely two headers changed places."""
        odd: Counter[str] = Counter()
        for key_id, lines in self.rows.items():
            key, line, seen = self.known[key_id].key, lines[0], self.seen.get(key_id)
            odd[EMAIL] += line.has(EMAIL) and line.text(EMAIL).lower() != plain(key.email)
            odd[TIER] += self._tier(line, key) is None
            odd[API_KEY] += line.has(API_KEY) and not (
                line.pasted or line.text(API_KEY) == key.masked
            )
            odd[REVOKED] += not (seen and seen.revoked) and self._strayed(line, key, seen)
            if seen is not None:
                odd[NAME] += bool(seen.name) and line.has(NAME) and not line.text(NAME)
                odd[NOTES] += bool(seen.notes) and line.has(NOTES) and not line.text(NOTES)
        for header, count in odd.items():
            if many(count, len(self.rows)):
                return (
                    f"{count} of {len(self.rows)} rows say something else under {header!r} at once:"
                    " keys stay as they were until that is put right"
                )
        return ""

    def _strayed(self, line: _Line, key: ApiKey, seen: Seen | None) -> bool:
        """Whether a cell under Revoked says what another column did. Only that is a doubt: whatever
        people write there themselves means revoked, in however many rows."""
        cell = line.cells.get(REVOKED)
        if revoked_mark(cell) is not Mark.UNCLEAR:
            return False
        if isinstance(cell, int | float):
            return True
        told = {key.masked, plain(key.email), key.id, key.name, key.tier, key.notes}
        if seen is not None:
            told |= {seen.name, seen.tier, seen.notes}
        return text(cell) in told or len(text(cell)) == 64

    def _vanished(self) -> list[str]:
        """Keys whose rows are gone. None if many are gone at once, or the header is damaged."""
        had = [
            key_id
            for key_id in self.seen
            if key_id in self.known
            and self.known[key_id].listed
            and not self.known[key_id].key.revoked
        ]
        gone = [key_id for key_id in had if key_id not in self.rows]
        self.reading.misses = bool(gone)
        if many(len(gone), len(had)):
            self.reading.problems.append(
                f"{len(gone)} of {len(had)} rows are gone at once: their keys go on working;"
                " put the rows back, or revoke the keys with `sluice keys revoke`"
            )
            self.reading.held = True
        elif not self.header_problems and not self.reading.held:
            return gone
        for key_id in gone:
            self.reading.seen[key_id] = self.seen[key_id]
        return []

    def _miss(self, vanished: Iterable[str]) -> None:
        for key_id in vanished:
            seen = self.seen[key_id]
            if not seen.missing:
                self.reading.seen[key_id] = _with(seen, missing=True)
                continue
            self.reading.edits.append(
                Edit(key_id, "revoked", "no", "yes", "its row was deleted in the spreadsheet")
            )

    # What rows say.

    def _read_key(self, item: Known, lines: Sequence[_Line]) -> None:
        key, line = item.key, lines[0]
        if len(lines) > 1:
            places = ", ".join(str(other.index + 1) for other in lines)
            self.reading.problems.append(
                f"{key.id} ({key.email}) has the rows {places}: delete all but one."
                " It is revoked if any of them says so"
            )
        same = all(_editable(other) == _editable(line) for other in lines)
        before = self.seen.get(key.id)
        trusted = not self.reading.held and same and line.index not in self.damaged
        name, tier, notes = (
            self._labels(line, item, before)
            if trusted
            else (
                (before.name, before.tier, before.notes)
                if before
                else (plain(key.name), key.tier, plain(key.notes))
            )
        )
        revoked, unticked = self._read_revoked(item, lines, before)
        self.reading.seen[key.id] = Seen(name, tier, notes, revoked, unticked=unticked)
        if not self.reading.held:
            for other in lines:
                self._mend(item, other, revoked)

    def _labels(self, line: _Line, item: Known, before: Seen | None) -> tuple[str, str, str]:
        key = item.key
        name = self._label(line, NAME, key.name)
        notes = self._label(line, NOTES, key.notes)
        tier = self._tier(line, key)
        if tier is None:
            self.reading.problems.append(
                f"{line.place}: there is no tier {line.text(TIER)[:60]!r}"
                f" (there are {', '.join(self.tiers)}); it stays {key.tier!r}"
            )
        told = {"name": name, "tier": tier, "notes": notes}
        now = {"name": key.name, "tier": key.tier, "notes": key.notes}
        said = {}
        for what, new in told.items():
            last = None if before is None else str(getattr(before, what))
            if new is None:
                said[what] = plain(now[what]) if last is None else last
                continue
            said[what] = new
            if new != last and new != plain(now[what]).strip():
                self.reading.edits.append(Edit(key.id, what, now[what], new))
        return said["name"], said["tier"], said["notes"]

    def _redacted(self, cell: str) -> str:
        return redacted(cell, self.secrets)

    def _label(self, line: _Line, header: str, current: str) -> str | None:
        """A name or notes; None where the cell says nothing that can be taken."""
        if not line.has(header):
            return None
        new = self._redacted(line.text(header))
        if new == plain(current).strip():
            return new
        try:
            if _FAULT.fullmatch(new):
                raise ValueError(f"{header} shows an error of a formula")
            if header == NAME:
                return register.checked_label("the name", new)
            if len(new) > _LONGEST_NOTES:
                raise ValueError(f"the notes are longer than {_LONGEST_NOTES} characters")
        except ValueError as error:
            self.reading.problems.append(f"{line.place}: {error}; it stays as it was")
            return None
        return new

    def _tier(self, line: _Line, key: ApiKey | None) -> str | None:
        """The tier that a row names; None for one that there is not."""
        current = "default" if key is None else key.tier
        named = line.text(TIER)
        if not named or named == plain(current):
            return current
        for tier in self.tiers:
            if tier.casefold() == named.casefold():
                return tier
        return None

    def _read_revoked(
        self, item: Known, lines: Sequence[_Line], before: Seen | None
    ) -> tuple[bool, bool]:
        """What the rows say of it, the strictest one; and whether they take a revocation back."""
        key = item.key
        last = before is not None and before.revoked
        if REVOKED not in self.reading.columns:
            return last, False
        marks = {
            Mark.BLANK if line.index in self.damaged else revoked_mark(line.cells[REVOKED])
            for line in lines
        }
        if Mark.REVOKED in marks or (Mark.UNCLEAR in marks and not self.reading.held):
            if not key.revoked:
                unclear = "" if Mark.REVOKED in marks else "what the cell says is not clear"
                self.reading.edits.append(Edit(key.id, "revoked", "no", "yes", unclear))
            return True, False
        if Mark.UNCLEAR in marks:
            return last, False
        # An empty cell means active, but does not bring a key back: a lost column is empty, too.
        back = key.revoked and last and marks == {Mark.ACTIVE} and not self.reading.held
        if back and before is not None and before.unticked:
            self.reading.edits.append(Edit(key.id, "revoked", "yes", "no"))
            return False, False
        return (True, True) if back else (key.revoked and last, False)

    # What the gateway writes back.

    def _mend(self, item: Known, line: _Line, revoked: bool) -> None:
        """Cells of the gateway's own that say something else, and secrets anywhere."""
        key = item.key
        wanted: dict[str, Cell] = {
            API_KEY: key.masked,
            EMAIL: plain(key.email),
            KEY_ID: key.id,
            HASH: item.digest,
        }
        if line.text(CREATED) == "":
            wanted[CREATED] = serial(key.created_at)
        if line.text(TIER) == "":
            wanted[TIER] = plain(key.tier)
        cells: dict[str, Cell] = {
            header: cell
            for header, cell in wanted.items()
            if line.has(header) and line.text(header) != text(cell)
        }
        if line.text(EMAIL).lower() == plain(key.email):
            cells.pop(EMAIL, None)
        elif EMAIL in cells and line.text(EMAIL):
            self.reading.problems.append(
                f"{line.place}: the address of {key.id} cannot be changed here; it is {key.email}"
            )
        mark = revoked_mark(line.cells.get(REVOKED))
        if line.has(REVOKED) and line.index in self.damaged:
            cells[REVOKED] = key.revoked
        elif line.has(REVOKED) and (key.revoked and mark is Mark.BLANK):
            cells[REVOKED] = True
        elif line.has(REVOKED) and (key.revoked and mark is Mark.ACTIVE and not revoked):
            # `revoked`: a person has just taken it away, and is believed at the next look.
            cells[REVOKED] = True
        fresh = HASH in cells and line.text(HASH) == ""
        if fresh and line.has(REVOKED) and mark is Mark.BLANK:
            cells[REVOKED] = key.revoked
        placed = line.concealed | {self.reading.columns[name]: cell for name, cell in cells.items()}
        if placed and line.has(KEY_ID):
            # Whose row it is goes along: a write that hits another row is found, and undone.
            placed[self.reading.columns[KEY_ID]] = key.id
        if placed:
            self.reading.fixes.append(Fix(line.index, placed, key.id if fresh else ""))

    # Rows of no key.

    def _read_stranger(self, line: _Line) -> None:
        named = line.text(KEY_ID)
        cell = text(line.cells.get(API_KEY))
        if line.concealed:
            self.reading.fixes.append(Fix(line.index, line.concealed))
        if named or line.text(HASH):
            self.foreign.append(named[:40])
        elif line.pasted:
            self._take_in(line, digest(cell).hex(), masked(cell))
        elif cell in self.orphans:
            self._take_in(line, self.orphans[cell], cell)
        elif line.text(EMAIL) and (line.text(NAME) or cell):
            self.reading.problems.append(
                f"{line.place}: there is no key in this row;"
                " `sluice keys create EMAIL` makes one, or paste one under 'API Key'"
            )

    def _take_in(self, line: _Line, secret_digest: str, shown: str) -> None:
        """A key that somebody pasted, once its row says whose it is."""
        if self.reading.held:
            self.reading.orphans[shown] = secret_digest
            return
        if any(paste.digest == secret_digest for paste in self.reading.pasted):
            return
        try:
            email = register.checked_email(self._redacted(line.text(EMAIL)))
            name = register.checked_label("the name", self._redacted(line.text(NAME)))
        except ValueError as error:
            self.reading.orphans[shown] = secret_digest
            self.reading.problems.append(
                f"{line.place}: the key {shown} was pasted, but does not work yet: {error}"
            )
            return
        tier = self._tier(line, None)
        if tier is None:
            self.reading.problems.append(
                f"{line.place}: there is no tier {line.text(TIER)[:60]!r}"
                f" (there are {', '.join(self.tiers)}); it is 'default'"
            )
        revoked = revoked_mark(line.cells.get(REVOKED)) in (Mark.REVOKED, Mark.UNCLEAR)
        notes = self._redacted(line.text(NOTES))[:_LONGEST_NOTES]
        self.reading.pasted.append(
            Paste(secret_digest, shown, email, name, tier or "default", notes, revoked)
        )


def read(
    values: Sequence[Sequence[object]],
    known: Iterable[Known],
    seen: Mapping[str, Seen],
    *,
    tiers: Sequence[str] = ("default",),
    orphans: Mapping[str, str] | None = None,
) -> Reading:
    """What the tab says now, beside what the ledger has and what the tab said before.

    `values` are all cells of the tab. Raises `Broken` where it cannot be understood at all: then
    everything stays as it was.
    """
    return _Desk(values, known, seen, tiers, orphans or {}).read()


@dataclass(frozen=True, slots=True)
class Record:
    """A key as the tab has it, for a ledger that has none."""

    id: str
    digest: bytes
    masked: str
    email: str
    name: str
    tier: str
    notes: str
    created_at: datetime
    revoked: bool


_ID: Final = re.compile(r"key_[0-9a-z]{16}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")


def records(values: Sequence[Sequence[object]], now: datetime) -> tuple[list[Record], list[str]]:
    """All keys of the tab, and what is wrong with rows that give none. Raises `Broken`."""
    header_row, columns, problems = find_header(values)
    if problems or HASH not in columns:
        raise Broken("; ".join(problems) or "the column 'Key Hash' is missing")
    found: dict[str, Record] = {}
    digests: set[bytes] = set()
    for index, line in enumerate(values[header_row + 1 :], header_row + 2):
        cells = {
            header: line[column] if column < len(line) else None
            for header, column in columns.items()
        }
        if not text(cells[KEY_ID]) and not text(cells[HASH]):
            continue
        try:
            record = _record(cells, now)
        except ValueError as error:
            problems.append(f"row {index}: {error}; no key is taken from it")
            continue
        twin = found.get(record.id)
        if twin is not None and twin.digest == record.digest:
            found[record.id] = twin if twin.revoked else record
        elif twin is not None or record.digest in digests:
            problems.append(f"row {index}: {record.id} is there twice, with another hash")
        else:
            found[record.id] = record
            digests.add(record.digest)
    return list(found.values()), problems


def _record(cells: Mapping[str, object], now: datetime) -> Record:
    """Raises `ValueError` with what is wrong."""
    key_id, key_hash = text(cells[KEY_ID]), text(cells[HASH]).lower()
    if not _ID.fullmatch(key_id):
        raise ValueError(f"{key_id[:40]!r} is no Key ID")
    if not _HEX.fullmatch(key_hash):
        raise ValueError(f"the Key Hash of {key_id} is damaged")
    try:
        name = register.checked_label("the name", text(cells[NAME]))
        tier = register.checked_label("the tier", text(cells[TIER])) or "default"
    except ValueError:
        name, tier = "", "default"
    return Record(
        id=key_id,
        digest=bytes.fromhex(key_hash),
        masked=_shown(text(cells[API_KEY])),
        email=register.checked_email(text(cells[EMAIL])),
        name=name,
        tier=tier,
        notes=text(cells[NOTES])[:_LONGEST_NOTES],
        created_at=_moment(cells.get(CREATED), now),
        revoked=revoked_mark(cells[REVOKED]) in (Mark.REVOKED, Mark.UNCLEAR),
    )


def _shown(cell: str) -> str:
    """The masked form under API Key, whatever stands there."""
    if usable(cell):
        return masked(cell)
    return cell if "…" in cell and len(cell) <= 20 else "sk-…"


def _moment(cell: object, now: datetime) -> datetime:
    if isinstance(cell, int | float) and not isinstance(cell, bool) and 1 < cell < 1_000_000:
        return _EPOCH + timedelta(seconds=round(cell * 86_400, 3))
    return now


def _editable(line: _Line) -> tuple[str, ...]:
    return tuple(line.text(header) for header in (NAME, TIER, NOTES))


def _with(seen: Seen, *, missing: bool) -> Seen:
    return Seen(seen.name, seen.tier, seen.notes, seen.revoked, missing, seen.unticked)
