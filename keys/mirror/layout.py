"""The tabs of the spreadsheet: how they are found, how they are made. Pure: requests in, requests out."""

import hashlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from keys.tabs import (
    DAILY,
    DAILY_COLUMNS,
    DASHBOARD,
    KEY_COLUMNS,
    KEY_ID,
    KEYS,
    USAGE_COLUMNS,
    Cell,
    Column,
    Kind,
    tab_name,
)

Request = dict[str, object]

SCHEMA_VERSION = 1
CELL_LIMIT = 10_000_000
"""Of a spreadsheet, blank ones included."""

STATS, GATEWAY = "_key_stats", "_gateway"
HASH = Column("Key Hash", Kind.TEXT, 20)
LISTED_COLUMNS = (*KEY_COLUMNS, HASH)
"""Of the tab of keys, as it is made."""
OWNER = Column("Gateway", Kind.TEXT, 12)
"""Whose line it is: each gateway on a spreadsheet has lines of its own, and formulas add them up."""
STATS_COLUMNS = (
    KEY_ID,
    Column("Last Used", Kind.MOMENT, 20),
    Column("Requests", Kind.COUNT, 11),
    Column("Tokens", Kind.COUNT, 14),
    OWNER,
)
ROLLUP_COLUMNS = (*DAILY_COLUMNS, OWNER)
GATEWAY_COLUMNS = (Column("Name", Kind.TEXT, 24), Column("Value", Kind.TEXT, 24))
GATEWAY_NAMES = (
    "Schema version",
    "Last flush",
    "Heartbeat",
    "Rows of _daily",
    "Rows of _key_stats",
    "Gateway",
)
"""The lines of `_gateway`, from its second on."""

TAB_LABEL, USER_LABEL, BIRTH_LABEL = "sluice_tab", "sluice_user", "sluice_birth"
"""Developer metadata of a tab: which one of ours it is, or whose, and a word made with it, by which
everybody sees that it is not the tab it was. Stays when people rename the tab."""

FIELDS = (
    "properties(locale,timeZone),namedRanges(namedRangeId,name),"
    "sheets(properties(sheetId,title,hidden,gridProperties(rowCount,columnCount)),"
    "developerMetadata(metadataKey,metadataValue))"
)
"""What a `Snapshot` is made of."""


@dataclass(frozen=True, slots=True)
class Spec:
    """A tab that every spreadsheet of ours has."""

    title: str
    sheet_id: int
    columns: Sequence[Column]
    machine: bool = False
    """Hidden and protected: only the gateway writes there."""


TABS = {
    DASHBOARD: Spec(DASHBOARD, 71_000_002, ()),
    KEYS: Spec(KEYS, 71_000_001, LISTED_COLUMNS),
    DAILY: Spec(DAILY, 71_000_003, ROLLUP_COLUMNS, machine=True),
    STATS: Spec(STATS, 71_000_004, STATS_COLUMNS, machine=True),
    GATEWAY: Spec(GATEWAY, 71_000_005, GATEWAY_COLUMNS, machine=True),
}


@dataclass(frozen=True, slots=True)
class Tab:
    sheet_id: int
    title: str
    rows: int
    columns: int
    hidden: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Mark:
    """A named range that says which flush was applied, and whose it was."""

    range_id: str
    number: int
    owner: str
    token: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a read of the spreadsheet's metadata says."""

    tabs: Mapping[int, Tab]
    marker: Mark | None
    """The last flush."""
    marks: Sequence[Mark]
    """All there are: those, too, that another gateway's flush has left when it followed one."""
    locale: str = ""
    time_zone: str = ""

    @property
    def cells(self) -> int:
        return sum(tab.rows * tab.columns for tab in self.tabs.values())

    def tab(self, name: str) -> Tab | None:
        """One of `TABS`: by its label, else by the id that it was made with, else by its title."""
        spec = TABS[name]
        found = [tab for tab in self.tabs.values() if tab.labels.get(TAB_LABEL) == name]
        for tab in found:
            if tab.sheet_id == spec.sheet_id:
                return tab
        if found:
            return found[0]
        if spec.sheet_id in self.tabs:
            return self.tabs[spec.sheet_id]
        return self._titled(spec.title)

    def user_tab(self, email: str) -> Tab | None:
        """The tab of a user: by its label, else by the id that it was made with, else by its title.

        Of copies that a person made, the one that the gateway made.
        """
        made = self.tabs.get(usage_sheet_id(email, ()))
        if made is not None and made.labels.get(USER_LABEL, email) == email:
            return made
        for tab in self.tabs.values():
            if tab.labels.get(USER_LABEL) == email:
                return tab
        return self._titled(tab_name(email, ()))

    def _titled(self, title: str) -> Tab | None:
        for tab in self.tabs.values():
            if tab.title.casefold() == title.casefold() and not tab.labels:
                return tab
        return None


_MARK = re.compile(r"(flush|receipt)_(\d+)_([0-9a-f]{8})_([0-9a-f]{8})")


def read_snapshot(metadata: Mapping[str, object]) -> Snapshot:
    """From the answer to a read of `FIELDS`."""
    properties = _mapping(metadata.get("properties"))
    marks: dict[str, list[Mark]] = {"flush": [], "receipt": []}
    for item in _items(metadata.get("namedRanges")):
        if match := _MARK.fullmatch(str(item.get("name"))):
            kind, number, owner, token = match.groups()
            marks[kind].append(Mark(str(item["namedRangeId"]), int(number), owner, token))
    return Snapshot(
        tabs={tab.sheet_id: tab for tab in map(_tab, _items(metadata.get("sheets")))},
        marker=max(marks["flush"], key=lambda mark: mark.number, default=None),
        marks=[*marks["flush"], *marks["receipt"]],
        locale=str(properties.get("locale", "")),
        time_zone=str(properties.get("timeZone", "")),
    )


def _tab(sheet: Mapping[str, object]) -> Tab:
    properties = _mapping(sheet.get("properties"))
    grid = _mapping(properties.get("gridProperties"))
    return Tab(
        sheet_id=_whole(properties.get("sheetId")),  # left out where it is 0
        title=str(properties.get("title", "")),
        rows=_whole(grid.get("rowCount")),
        columns=_whole(grid.get("columnCount")),
        hidden=bool(properties.get("hidden", False)),
        labels={
            str(item.get("metadataKey")): str(item.get("metadataValue", ""))
            for item in _items(sheet.get("developerMetadata"))
        },
    )


class HeaderBroken(Exception):
    """A required header is missing or there twice. One line."""


def columns(header: Sequence[object], required: Iterable[Column]) -> dict[str, int]:
    """Where each column is. Raises `HeaderBroken`."""
    names = [str(name).strip() for name in header]
    places = {}
    for column in required:
        found = [index for index, name in enumerate(names) if name == column.header]
        if len(found) != 1:
            state = "is missing" if not found else "is there twice"
            raise HeaderBroken(f"the column {column.header!r} {state}")
        places[column.header] = found[0]
    return places


def first_places(header: Sequence[object], wanted: Iterable[Column]) -> dict[str, int]:
    """Where those columns are that there are; the first where one is there twice."""
    names = [str(name).strip() for name in header]
    headers = [column.header for column in wanted]
    return {name: names.index(name) for name in headers if name in names}


def quoted(title: str, cells: str) -> str:
    """A range by its tab's title. Quoted always: without, `D3` or `tab01` would be cells."""
    return "'" + title.replace("'", "''") + "'!" + cells


def letters(index: int) -> str:
    """The name of a column, from 0 for A."""
    name = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        name = chr(65 + digit) + name
    return name


# Cells.

FORMATS = {
    Kind.MOMENT: {"type": "DATE_TIME", "pattern": "yyyy-mm-dd hh:mm:ss"},
    Kind.DAY: {"type": "DATE", "pattern": "yyyy-mm-dd"},
    Kind.COUNT: {"type": "NUMBER", "pattern": "#,##0"},
    Kind.MONEY: {"type": "CURRENCY", "pattern": '"$"#,##0.000000'},
    Kind.SECONDS: {"type": "NUMBER", "pattern": "0.000"},
    Kind.TEXT: {"type": "TEXT"},
}
_FORMATTED = {Kind.MOMENT, Kind.MONEY, Kind.DAY}
"""Where a cell carries its format along; the others have that of their column."""

CELL_FIELDS = "userEnteredValue,userEnteredFormat.numberFormat"


def value(cell: Cell) -> Request:
    """A typed cell: text is never computed, whatever it begins with."""
    match cell:
        case None:
            return {}
        case bool():
            return {"userEnteredValue": {"boolValue": cell}}
        case str():
            return {"userEnteredValue": {"stringValue": cell}} if cell else {}
        case _:
            return {"userEnteredValue": {"numberValue": cell}}


def typed(column: Column, cell: Cell) -> Request:
    made = value(cell)
    if made and column.kind in _FORMATTED:
        made["userEnteredFormat"] = {"numberFormat": FORMATS[column.kind]}
    return made


def placed(cells: Mapping[int, Request]) -> Request:
    """A row of cells at their columns, with nothing in between."""
    return {"values": [cells.get(index, {}) for index in range(max(cells, default=-1) + 1)]}


def append(sheet_id: int, rows: Sequence[object], fields: str = CELL_FIELDS) -> Request:
    return {"appendCells": {"sheetId": sheet_id, "rows": rows, "fields": fields}}


def write(
    sheet_id: int, row: int, rows: Sequence[Request], fields: str = CELL_FIELDS, column: int = 0
) -> Request:
    """Cells at a fixed place; `row` and `column` count from 0."""
    start = {"sheetId": sheet_id, "rowIndex": row, "columnIndex": column}
    return {"updateCells": {"start": start, "rows": rows, "fields": fields}}


def extend(sheet_id: int, rows: int = 0, columns: int = 0) -> Iterator[Request]:
    for dimension, length in (("ROWS", rows), ("COLUMNS", columns)):
        if length:
            yield {
                "appendDimension": {"sheetId": sheet_id, "dimension": dimension, "length": length}
            }


# Marks.


def flush_mark(number: int, owner: str, token: str) -> Request:
    """Fails if the flush of this number was applied before: it is an error to add a range whose id
    exists."""
    return _add_range(str(number), f"flush_{number}_{owner}_{token}")


def receipt(mark: Mark) -> Request:
    """What another gateway's flush leaves behind when it is followed, for it to see."""
    return _add_range(f"8{mark.number:010d}", f"receipt_{mark.number}_{mark.owner}_{mark.token}")


def remove_range(range_id: str) -> Request:
    return {"deleteNamedRange": {"namedRangeId": range_id}}


def _add_range(range_id: str, name: str) -> Request:
    place = {
        "sheetId": TABS[GATEWAY].sheet_id,
        "startRowIndex": 0,
        "endRowIndex": 1,
        "startColumnIndex": 0,
        "endColumnIndex": 1,
    }
    return {
        "addNamedRange": {"namedRange": {"namedRangeId": range_id, "name": name, "range": place}}
    }


# Making tabs.


def usage_sheet_id(email: str, taken: Iterable[int]) -> int:
    """The id of a user's tab: the same on every gateway."""
    used = set(taken)
    digest = hashlib.sha256(email.encode("utf-8", "replace")).digest()
    number = int.from_bytes(digest[:4]) >> 2
    while number in used or number < 100_000_000:
        number = (number + 100_000_007) & 0x3FFFFFFF
    return number


def usage_title(email: str, tabs: Iterable[Tab]) -> str:
    return tab_name(email, [tab.title for tab in tabs])


def add_usage_tab(email: str, sheet_id: int, title: str) -> Iterator[Request]:
    """A user's tab. People see it; what is in it is the gateway's."""
    yield from _add_tab(sheet_id, title, USAGE_COLUMNS)
    yield user_label(sheet_id, email)
    yield from _decorate_columns(sheet_id, USAGE_COLUMNS)
    yield _protect(
        sheet_id, "The header: columns may be moved, their names may not change", header=True
    )
    places = columns([column.header for column in USAGE_COLUMNS], USAGE_COLUMNS)
    yield _filter_view(
        sheet_id,
        "Newest first",
        len(USAGE_COLUMNS),
        sortSpecs=[{"dimensionIndex": places["Timestamp"], "sortOrder": "DESCENDING"}],
    )
    yield _filter_view(sheet_id, "Not ok", len(USAGE_COLUMNS), **_hiding(places["Status"], ["ok"]))


def user_label(sheet_id: int, email: str) -> Request:
    return _label(sheet_id, USER_LABEL, email)


def settings(snapshot: Snapshot) -> list[Request]:
    """What makes numbers and times mean the same to everybody."""
    if (snapshot.locale, snapshot.time_zone) == ("en_US", "Etc/UTC"):
        return []
    properties = {"locale": "en_US", "timeZone": "Etc/UTC"}
    return [
        {"updateSpreadsheetProperties": {"properties": properties, "fields": "locale,timeZone"}}
    ]


def missing_tabs(snapshot: Snapshot) -> list[str]:
    """Names of `TABS` that are not there, or not set up."""
    missing = []
    for name in TABS:
        tab = snapshot.tab(name)
        if tab is None or TAB_LABEL not in tab.labels:
            missing.append(name)
    return missing


def make_tab(
    name: str, snapshot: Snapshot, header: Sequence[object], tiers: Sequence[str]
) -> Iterator[Request]:
    """Makes one of `TABS`, or sets up one that a person made, which has this first row."""
    spec, tab = TABS[name], snapshot.tab(name)
    sheet_id = spec.sheet_id if tab is None else tab.sheet_id
    if tab is None:
        title = _free_title(spec.title, snapshot)
        yield from _add_tab(sheet_id, title, spec.columns, spec.machine, index=_INDEX.get(name))
        names = [column.header for column in spec.columns]
    else:
        names = [str(text).strip() for text in header]
        added = [column for column in spec.columns if column.header not in names]
        yield from _write_header(sheet_id, tab.columns, len(names), added)
        names += [column.header for column in added]
    yield _label(sheet_id, TAB_LABEL, name)
    yield _label(sheet_id, BIRTH_LABEL, secrets.token_hex(4))
    if tab is None:
        yield from _decorate_columns(sheet_id, spec.columns)
    if spec.machine:
        yield _protect(sheet_id, "Written by the gateway; changes here are overwritten")
    if name == KEYS:
        yield from _decorate_keys(sheet_id, names, tiers)
    if name == GATEWAY:
        # Without the other machine's tabs nothing was ever written; else they have to be counted.
        unknown = None if snapshot.tab(DAILY) or snapshot.tab(STATS) else 0
        rows = [
            placed({0: value(label), 1: value(SCHEMA_VERSION if index == 0 else unknown)})
            for index, label in enumerate(GATEWAY_NAMES)
        ]
        if tab is None:
            yield from extend(sheet_id, rows=len(rows))
        yield write(sheet_id, 1, rows, "userEnteredValue")


def add_columns(tab: Tab, added: Sequence[Column]) -> Iterator[Request]:
    """Gives a tab columns whose headers it has lost, at its right end."""
    yield from extend(tab.sheet_id, columns=len(added))
    yield write(tab.sheet_id, 0, [_header(added)], "userEnteredValue", column=tab.columns)


def insert_header(tab: Tab, required: Sequence[Column]) -> Iterator[Request]:
    """Puts a header above a tab that has none."""
    span = {"sheetId": tab.sheet_id, "dimension": "ROWS", "startIndex": 0, "endIndex": 1}
    yield {"insertDimension": {"range": span, "inheritFromBefore": False}}
    yield from extend(tab.sheet_id, columns=max(0, len(required) - tab.columns))
    yield write(tab.sheet_id, 0, [_header(required)], "userEnteredValue")


def counter(name: str, key: str) -> str | None:
    """The formula that adds up a key's counters. `key` is its id in quotes, so that no sorting can
    hurt it, or the cell that has it."""
    ids, used, requests, tokens = (f"'{STATS}'!${letter}:${letter}" for letter in "ABCD")
    own = f"{ids},{key}"
    match name:
        case "Last Used":
            return f'=IF(COUNTIFS({own},{used},">0")=0,"",MAXIFS({used},{own}))'
        case "Requests":
            return f"=SUMIFS({requests},{own})"
        case "Tokens":
            return f"=SUMIFS({tokens},{own})"
        case _:
            return None


def restore_counters(sheet_id: int, header: Sequence[object], rows: int) -> Iterator[Request]:
    """Formulas for all lines of the tab of keys, which has that many rows. Each points to the key in
    its own line: right even if the lines were sorted since they were read."""
    places = first_places(header, LISTED_COLUMNS)
    if KEY_ID.header not in places:
        return
    cell = f"${letters(places[KEY_ID.header])}2"
    for name, index in places.items():
        if formula := counter(name, cell):
            yield {
                "repeatCell": {
                    "range": _column(sheet_id, index) | {"endRowIndex": rows},
                    "cell": {"userEnteredValue": {"formulaValue": formula}},
                    "fields": "userEnteredValue",
                }
            }


def validation(name: str, tiers: Sequence[str]) -> Request | None:
    """The help that a cell of the tab of keys gives to people."""
    match name:
        case "Revoked":
            return {"condition": {"type": "BOOLEAN"}, "showCustomUi": True}
        case "Tier":
            options = [{"userEnteredValue": tier} for tier in tiers]
            condition = {"type": "ONE_OF_LIST", "values": options}
            return {"condition": condition, "showCustomUi": True, "strict": False}
        case _:
            return None


_INDEX = {DASHBOARD: 0, KEYS: 1}


def _free_title(title: str, snapshot: Snapshot) -> str:
    taken = {tab.title.casefold() for tab in snapshot.tabs.values()}
    wanted, number = title, 2
    while wanted.casefold() in taken:
        wanted, number = f"{title} {number}", number + 1
    return wanted


def _add_tab(
    sheet_id: int,
    title: str,
    required: Sequence[Column],
    machine: bool = False,
    index: int | None = None,
) -> Iterator[Request]:
    # Small at birth: a tab of the usual size has 26,000 cells, and 384 of them fill the file.
    grid: Request = {"rowCount": 2, "columnCount": max(1, len(required))}
    if required:
        grid["frozenRowCount"] = 1
    else:
        grid = {"rowCount": 80, "columnCount": 14, "hideGridlines": True}
    properties: Request = {"sheetId": sheet_id, "title": title, "gridProperties": grid}
    if machine:
        properties["hidden"] = True
    if index is not None:
        properties["index"] = index
    yield {"addSheet": {"properties": properties}}
    if required:
        yield write(sheet_id, 0, [_header(required)], "userEnteredValue,userEnteredFormat")


def _header(required: Sequence[Column]) -> Request:
    return {
        "values": [
            {
                "userEnteredValue": {"stringValue": column.header},
                "userEnteredFormat": {
                    "textFormat": {"bold": True},
                    "backgroundColor": {"red": 0.93, "green": 0.94, "blue": 0.96},
                },
            }
            for column in required
        ]
    }


def _write_header(
    sheet_id: int, grid: int, used: int, added: Sequence[Column]
) -> Iterator[Request]:
    if added:
        yield from extend(sheet_id, columns=max(0, used + len(added) - grid))
        fields = "userEnteredValue,userEnteredFormat"
        yield write(sheet_id, 0, [_header(added)], fields, column=used)
    frozen = {"sheetId": sheet_id, "gridProperties": {"frozenRowCount": 1}}
    yield {
        "updateSheetProperties": {"properties": frozen, "fields": "gridProperties.frozenRowCount"}
    }


def _decorate_columns(sheet_id: int, required: Sequence[Column]) -> Iterator[Request]:
    """Formats of whole columns below the header, rows to come included, and widths."""
    for index, column in enumerate(required):
        if column.kind in FORMATS and column.kind != Kind.TEXT:
            cell = {"userEnteredFormat": {"numberFormat": FORMATS[column.kind]}}
            yield {
                "repeatCell": {
                    "range": _column(sheet_id, index),
                    "cell": cell,
                    "fields": "userEnteredFormat.numberFormat",
                }
            }
        yield {
            "updateDimensionProperties": {
                "range": _dimension(sheet_id, index),
                "properties": {"pixelSize": 7 * column.width + 10},
                "fields": "pixelSize",
            }
        }


def _decorate_keys(sheet_id: int, names: Sequence[str], tiers: Sequence[str]) -> Iterator[Request]:
    places = {name: index for index, name in reversed(list(enumerate(names)))}
    yield {
        "setDataValidation": {
            "range": _column(sheet_id, places["Tier"]),
            "rule": validation("Tier", tiers),
        }
    }
    yield {
        "updateDimensionProperties": {
            "range": _dimension(sheet_id, places[HASH.header]),
            "properties": {"hiddenByUser": True},
            "fields": "hiddenByUser",
        }
    }
    # Whoever may edit the spreadsheet is warned, not locked out: a lock would forbid sorting, too.
    yield _protect(
        sheet_id, "The header: columns may be moved, their names may not change", header=True
    )
    for name in ("Created At", "Last Used", "Requests", "Tokens", KEY_ID.header, HASH.header):
        yield _protect(sheet_id, f"{name}: written by the gateway", column=places[name])
    revoked = f"${letters(places['Revoked'])}2"
    no = "".join(f',LOWER(TO_TEXT({revoked}))<>"{word}"' for word in ("false", "no", "0"))
    yield {
        "addConditionalFormatRule": {
            "index": 0,
            "rule": {
                "ranges": [{"sheetId": sheet_id, "startRowIndex": 1}],
                "booleanRule": {
                    "condition": {
                        "type": "CUSTOM_FORMULA",
                        "values": [{"userEnteredValue": f'=AND(TO_TEXT({revoked})<>""{no})'}],
                    },
                    "format": {
                        "backgroundColor": {"red": 0.99, "green": 0.88, "blue": 0.87},
                        "textFormat": {"foregroundColor": {"red": 0.7, "green": 0.1, "blue": 0.1}},
                    },
                },
            },
        }
    }
    width = len(names)
    yield _filter_view(sheet_id, "Active keys", width, **_hiding(places["Revoked"], ["TRUE"]))
    yield _filter_view(sheet_id, "Revoked keys", width, **_hiding(places["Revoked"], ["FALSE", ""]))


def _label(sheet_id: int, name: str, text: str) -> Request:
    return {
        "createDeveloperMetadata": {
            "developerMetadata": {
                "metadataKey": name,
                "metadataValue": text,
                "location": {"sheetId": sheet_id},
                "visibility": "DOCUMENT",
            }
        }
    }


def _protect(
    sheet_id: int, why: str, *, header: bool = False, column: int | None = None
) -> Request:
    span: Request = {"sheetId": sheet_id}
    if header:
        span |= {"startRowIndex": 0, "endRowIndex": 1}
    if column is not None:
        span = _column(sheet_id, column)
    protected: Request = {"range": span, "description": why}
    if header or column is not None:
        protected["warningOnly"] = True
    return {"addProtectedRange": {"protectedRange": protected}}


def _filter_view(sheet_id: int, title: str, width: int, **parts: object) -> Request:
    span = {
        "sheetId": sheet_id,
        "startRowIndex": 0,
        "startColumnIndex": 0,
        "endColumnIndex": width,
    }
    return {"addFilterView": {"filter": {"title": title, "range": span, **parts}}}


def _hiding(column: int, hidden: Sequence[str]) -> Request:
    criteria = {"hiddenValues": list(hidden)}
    return {"filterSpecs": [{"columnIndex": column, "filterCriteria": criteria}]}


def _column(sheet_id: int, index: int) -> Request:
    return {
        "sheetId": sheet_id,
        "startRowIndex": 1,
        "startColumnIndex": index,
        "endColumnIndex": index + 1,
    }


def _dimension(sheet_id: int, index: int) -> Request:
    return {
        "sheetId": sheet_id,
        "dimension": "COLUMNS",
        "startIndex": index,
        "endIndex": index + 1,
    }


# Narrowing JSON.


def _mapping(tree: object) -> Mapping[str, object]:
    return tree if isinstance(tree, dict) else {}


def _items(tree: object) -> list[Mapping[str, object]]:
    return [item for item in tree if isinstance(item, dict)] if isinstance(tree, list) else []


def _whole(number: object) -> int:
    return number if isinstance(number, int) else 0
