"""A spreadsheet in memory: what requests change and tests look at.

Cells, rows' contents and all JSON inside are never changed in place but replaced, so that a draft of
a spreadsheet shares with the original what it does not touch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.sheets_server import a1, formulas
from tests.sheets_server.a1 import Area
from tests.sheets_server.refusals import invalid

CELL_LIMIT = 10_000_000
OWNER = "owner@example.com"

Json = dict[str, Any]
Cell = Mapping[str, Any]
Row = dict[int, Cell]


@dataclass
class Tab:
    """A sheet. One that was asked of `Book.tab` stays as it was when asked: ask again to see changes."""

    book: "Book"
    properties: Json
    rows: list[Row] = field(default_factory=list)
    row_properties: dict[int, Json] = field(default_factory=dict)
    column_properties: dict[int, Json] = field(default_factory=dict)
    charts: list[Json] = field(default_factory=list)
    conditional_formats: list[Json] = field(default_factory=list)
    filter_views: list[Json] = field(default_factory=list)
    banded_ranges: list[Json] = field(default_factory=list)
    protected_ranges: list[Json] = field(default_factory=list)
    tables: list[Json] = field(default_factory=list)
    merges: list[Json] = field(default_factory=list)
    basic_filter: Json | None = None

    @property
    def id(self) -> int:
        return int(self.properties["sheetId"])

    @property
    def title(self) -> str:
        return str(self.properties["title"])

    @property
    def hidden(self) -> bool:
        return bool(self.properties.get("hidden"))

    @property
    def row_count(self) -> int:
        return int(self.properties["gridProperties"]["rowCount"])

    @property
    def column_count(self) -> int:
        return int(self.properties["gridProperties"]["columnCount"])

    @property
    def hidden_rows(self) -> list[int]:
        return _hidden(self.row_properties)

    @property
    def hidden_columns(self) -> list[int]:
        return _hidden(self.column_properties)

    @property
    def metadata(self) -> list[Json]:
        """Developer metadata of the sheet itself, of its rows and of its columns."""
        return [
            item for item in self.book.metadata if sheet_of(item.get("location", {})) == self.id
        ]

    @property
    def header(self) -> list[str]:
        columns = max(_filled(self.rows[0]), default=-1) + 1 if self.rows else 0
        texts = (self.value((0, column)) for column in range(columns))
        return ["" if text is None else str(text) for text in texts]

    def cell(self, at: str | tuple[int, int]) -> Cell:
        """The cell's data as stored: `cell("B2")["userEnteredValue"]`."""
        row, column = a1.cell(at) if isinstance(at, str) else at
        return self.rows[row].get(column, {}) if row < len(self.rows) else {}

    def value(self, at: str | tuple[int, int]) -> object:
        """What a reader of the spreadsheet sees there; formulas evaluated; None if blank."""
        row, column = a1.cell(at) if isinstance(at, str) else at
        return formulas.shown(self.book.calculator().cell(self.id, row, column))

    def values(self) -> list[list[object]]:
        """All rows up to the last that has data, each cut after its last value; "" for a blank."""
        return [
            [
                "" if value is None else value
                for value in (
                    self.value((index, column))
                    for column in range(max(_filled(row), default=-1) + 1)
                )
            ]
            for index, row in enumerate(self.rows[: self.last_row()])
        ]

    def records(self) -> list[dict[str, object]]:
        """The rows below the header by its names; rows without any value are left out."""
        header, *rows = self.values() or [[]]
        names = [str(name) for name in header]
        return [
            {name: row[index] if index < len(row) else "" for index, name in enumerate(names)}
            for row in rows
            if any(value != "" for value in row)
        ]

    def last_row(self) -> int:
        """One past the last row that holds a value: where `appendCells` writes."""
        for index in range(len(self.rows) - 1, -1, -1):
            if any(True for _ in _filled(self.rows[index])):
                return index + 1
        return 0

    def put(self, row: int, column: int, cell: Cell) -> None:
        """Set one cell; only in a draft."""
        while len(self.rows) <= row:
            self.rows.append({})
        changed = dict(self.rows[row])
        if cell:
            changed[column] = cell
        else:
            changed.pop(column, None)
        self.rows[row] = changed

    def ranges(self) -> Iterator[tuple[list[Json], int, str]]:
        """Everything that has a range: (list it is in, index, name of the field)."""
        for objects in (
            self.filter_views,
            self.banded_ranges,
            self.protected_ranges,
            self.tables,
        ):
            yield from ((objects, index, "range") for index in range(len(objects)))

    def copy(self, book: "Book") -> "Tab":
        return replace(
            self,
            book=book,
            rows=list(self.rows),
            row_properties=dict(self.row_properties),
            column_properties=dict(self.column_properties),
            charts=list(self.charts),
            conditional_formats=list(self.conditional_formats),
            filter_views=list(self.filter_views),
            banded_ranges=list(self.banded_ranges),
            protected_ranges=list(self.protected_ranges),
            tables=list(self.tables),
            merges=list(self.merges),
        )

    def resource(self, index: int) -> Json:
        """The sheet as `spreadsheets.get` answers it, without its cells."""
        grid = {name: value for name, value in self.properties["gridProperties"].items() if value}
        properties = {
            **{name: value for name, value in self.properties.items() if name != "gridProperties"},
            "index": index,
            "sheetType": "GRID",
            "gridProperties": grid,
        }
        answer: Json = {
            "properties": {name: value for name, value in properties.items() if value is not False}
        }
        for name, value in (
            ("merges", self.merges),
            ("conditionalFormats", self.conditional_formats),
            ("filterViews", self.filter_views),
            ("protectedRanges", self.protected_ranges),
            ("basicFilter", self.basic_filter),
            ("charts", self.charts),
            ("bandedRanges", self.banded_ranges),
            ("tables", self.tables),
            (
                "developerMetadata",
                [item for item in self.metadata if item["location"]["locationType"] == "SHEET"],
            ),
        ):
            if value:
                answer[name] = value
        return answer


@dataclass
class Book:
    """A spreadsheet."""

    id: str
    properties: Json
    now: formulas.Now
    tabs: list[Tab] = field(default_factory=list)
    named_ranges: list[Json] = field(default_factory=list)
    lost_ranges: list[Json] = field(default_factory=list)  # their cells are gone; see `batch`
    metadata: list[Json] = field(default_factory=list)
    shares: dict[str, str] = field(default_factory=dict)  # address: writer or reader
    account: str = ""  # of whom ranges are protected from
    version: int = 0
    past: "Book | None" = None  # before the last change, for reads that lag behind
    _calculator: formulas.Calculator | None = None
    _edited: set[int] | None = None  # in a draft: the tabs it owns

    @property
    def titles(self) -> list[str]:
        return [tab.title for tab in self.tabs]

    @property
    def cells_used(self) -> int:
        """Blank cells of the grids included, as Google counts."""
        return sum(tab.row_count * tab.column_count for tab in self.tabs)

    def find(self, tab: str | int) -> Tab | None:
        """By title (an int is a sheetId)."""
        for candidate in self.tabs:
            if tab == (candidate.id if isinstance(tab, int) else candidate.title):
                return candidate
        return None

    def tab(self, tab: str | int) -> Tab:
        found = self.find(tab)
        if found is None:
            raise LookupError(f"no tab {tab!r} among {self.titles}")
        return found

    def named_range(self, name: str) -> Json | None:
        for item in self.named_ranges:
            if item["name"].lower() == name.lower():
                return item
        return None

    def text(self) -> str:
        """Every word stored anywhere in it, to search for what must not be there."""
        return repr([self.properties, self.named_ranges, self.metadata]) + "".join(
            repr([tab.resource(0), tab.rows, tab.row_properties, tab.column_properties])
            for tab in self.tabs
        )

    def calculator(self) -> formulas.Calculator:
        if self._calculator is None:
            self._calculator = formulas.Calculator(self, self.now)
        return self._calculator

    def draft(self) -> "Book":
        """A copy to change; `adopt` makes the change real at once."""
        return replace(
            self,
            tabs=list(self.tabs),
            named_ranges=list(self.named_ranges),
            lost_ranges=list(self.lost_ranges),
            metadata=list(self.metadata),
            shares=dict(self.shares),
            version=self.version + 1,
            past=None,
            _calculator=None,
            _edited=set(),
        )

    def edit(self, sheet: int) -> Tab | None:
        """A tab of this draft, safe to change."""
        if self._edited is None:
            raise RuntimeError("only a draft is edited")
        self._calculator = None
        for index, tab in enumerate(self.tabs):
            if tab.id == sheet:
                if sheet not in self._edited:
                    self._edited.add(sheet)
                    self.tabs[index] = tab.copy(self)
                return self.tabs[index]
        return None

    def add(self, tab: Tab, index: int | None = None) -> None:
        if self._edited is not None:
            self._edited.add(tab.id)
        self.tabs.insert(len(self.tabs) if index is None else index, tab)

    def adopt(self, draft: "Book") -> None:
        past = replace(self, past=None, _calculator=None)
        past.tabs = [replace(tab, book=past) for tab in self.tabs]
        self.past = past
        for tab in draft.tabs:
            tab.book = self
        for name in (
            "properties",
            "tabs",
            "named_ranges",
            "lost_ranges",
            "metadata",
            "shares",
            "version",
        ):
            setattr(self, name, getattr(draft, name))
        self._calculator = None

    def resource(self) -> Json:
        """The spreadsheet as `spreadsheets.get` answers it, without its cells."""
        answer: Json = {
            "spreadsheetId": self.id,
            "properties": self.properties,
            "sheets": [tab.resource(index) for index, tab in enumerate(self.tabs)],
            "spreadsheetUrl": f"https://docs.google.com/spreadsheets/d/{self.id}/edit",
        }
        if self.named_ranges:
            answer["namedRanges"] = self.named_ranges
        own = [item for item in self.metadata if item["location"].get("spreadsheet")]
        if own:
            answer["developerMetadata"] = own
        return answer

    def resolve(self, text: str) -> tuple[Tab, Area, bool]:
        """A range of the `values` methods: its tab, its area, and whether it was a whole tab."""
        title, rest = a1.split(text)
        area = a1.area(rest) if rest else None
        if title is None and area is not None:
            return self.tabs[0], area, False
        tab = self.find(text if title is None else title)
        if tab is None and title is not None:
            tab = next((tab for tab in self.tabs if tab.title.lower() == title.lower()), None)
        if tab is not None and (title is None or not rest):
            return tab, Area(), True
        if tab is not None and area is not None:
            return tab, area, False
        named = self.named_range(text) if title is None else None
        if named is not None:
            tab = self.find(int(named["range"].get("sheetId", 0)))
            if tab is not None:
                return tab, area_of(named["range"]), False
        raise invalid(f"Unable to parse range: {text}")

    def check_grid(self, tab: Tab, area: Area, *, whole: bool = False) -> None:
        """`whole`: its end has to lie within the grid as well as its start."""
        bottom = area.bottom if whole and area.bottom is not None else area.top + 1
        right = area.right if whole and area.right is not None else area.left + 1
        if bottom > tab.row_count or right > tab.column_count:
            end = Area(
                area.top,
                area.left,
                tab.row_count if area.bottom is None else area.bottom,
                tab.column_count if area.right is None else area.right,
            )
            raise invalid(
                f"Range ({a1.quoted(tab.title)}!{a1.spell(end)}) exceeds grid limits. "
                f"Max rows: {tab.row_count}, max columns: {tab.column_count}"
            )


def sheet_of(location: Mapping[str, Any]) -> int | None:
    """The sheet that developer metadata lies on."""
    if location.get("locationType") == "SHEET":
        return int(location.get("sheetId", 0))
    dimension = location.get("dimensionRange")
    return None if dimension is None else int(dimension.get("sheetId", 0))


def area_of(range: Mapping[str, Any]) -> Area:
    """A GridRange's area."""
    return Area(
        int(range.get("startRowIndex", 0)),
        int(range.get("startColumnIndex", 0)),
        range.get("endRowIndex"),
        range.get("endColumnIndex"),
    )


def has_value(cell: Cell) -> bool:
    return "userEnteredValue" in cell


def _filled(row: Row) -> Iterator[int]:
    return (column for column, cell in row.items() if has_value(cell))


def _hidden(properties: Mapping[int, Json]) -> list[int]:
    return sorted(
        index
        for index, item in properties.items()
        if item.get("hiddenByUser") or item.get("hiddenByFilter")
    )
