"""What follows when rows or columns come and go, or tabs are renamed and deleted."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tests.sheets_server import formulas
from tests.sheets_server.book import Book, Cell, Json, Tab

_LOST = object()
_ENDS = {"startRowIndex", "endRowIndex", "startColumnIndex", "endColumnIndex"}


def shift(book: Book, tab: Tab, *, rows: bool, start: int, count: int) -> None:
    """`count` rows or columns come at `start`, or go from there if it is negative."""
    _shift_cells(tab, rows, start, count)
    for properties in (tab.row_properties if rows else tab.column_properties,):
        moved = _shifted_keys(properties, start, count)
        properties.clear()
        properties.update(moved)
    grid = tab.properties["gridProperties"]
    size = "rowCount" if rows else "columnCount"
    tab.properties = {
        **tab.properties,
        "gridProperties": {**grid, size: grid[size] + count},
    }
    walk = _walker(tab.id, rows, start, count)
    _walk_objects(book, walk)
    _walk_names(book, walk)
    _shift_metadata(book, tab, rows, start, count)

    def change(home: Tab, title: str | None, reference: str) -> str | None:
        if (home.title if title is None else title).lower() != tab.title.lower():
            return None
        new = formulas.shifted(reference, rows, start, count)
        return "#REF!" if new is None else formulas.prefix(title) + new

    change_formulas(book, change)


def resize(book: Book, tab: Tab, *, rows: bool, size: int) -> None:
    """The grid made `size` rows or columns; what lies beyond goes."""
    count = size - (tab.row_count if rows else tab.column_count)
    if count < 0:
        shift(book, tab, rows=rows, start=size, count=count)
    elif count > 0:
        name = "rowCount" if rows else "columnCount"
        tab.properties = {
            **tab.properties,
            "gridProperties": {**tab.properties["gridProperties"], name: size},
        }


def rename(book: Book, old: str, new: str) -> None:
    """Formulas follow a tab's new title."""

    def change(home: Tab, title: str | None, reference: str) -> str | None:
        if title is None or title.lower() != old.lower():
            return None
        return formulas.prefix(new) + reference

    change_formulas(book, change)


def forget(book: Book, tab: Tab) -> None:
    """The tab is deleted: formulas on it fail, its metadata goes, its named ranges are lost."""
    book.tabs = [other for other in book.tabs if other.id != tab.id]
    for item in [i for i in book.named_ranges if i["range"].get("sheetId", 0) == tab.id]:
        book.named_ranges.remove(item)
        book.lost_ranges.append(item)
    gone = {item["metadataId"] for item in tab.metadata}
    book.metadata = [item for item in book.metadata if item["metadataId"] not in gone]

    def change(home: Tab, title: str | None, reference: str) -> str | None:
        return "#REF!" if title is not None and title.lower() == tab.title.lower() else None

    change_formulas(book, change)


def change_formulas(book: Book, change: Callable[[Tab, str | None, str], str | None]) -> None:
    """`change(tab the formula is on, title or None, reference)`: the new reference or None."""
    for tab in list(book.tabs):
        for index, row in enumerate(tab.rows):
            for column, cell in row.items():
                formula = cell.get("userEnteredValue", {}).get("formulaValue")
                if formula is None:
                    continue
                new = formulas.rewrite(formula, partial(change, tab))
                if new != formula:
                    edited = book.edit(tab.id)
                    if edited is not None:
                        edited.put(index, column, with_formula(cell, new))


def with_formula(cell: Cell, formula: str) -> Json:
    return {**cell, "userEnteredValue": {"formulaValue": formula}}


def _shift_cells(tab: Tab, rows: bool, start: int, count: int) -> None:
    if rows and count > 0:
        if start < len(tab.rows):
            tab.rows[start:start] = [{} for _ in range(count)]
    elif rows:
        del tab.rows[start : start - count]
    else:
        tab.rows[:] = [
            _shifted_keys(row, start, count) if any(key >= start for key in row) else row
            for row in tab.rows
        ]


def _shifted_keys(items: Mapping[int, Any], start: int, count: int) -> dict[int, Any]:
    return {
        key if key < start else key + count: value
        for key, value in items.items()
        if count > 0 or not start <= key < start - count
    }


def _walker(sheet: int, rows: bool, start: int, count: int) -> Callable[[Any], Any]:
    """Any JSON with the ranges in it moved; `_LOST` for a range of which nothing is left."""
    first, last = (
        ("startRowIndex", "endRowIndex") if rows else ("startColumnIndex", "endColumnIndex")
    )
    point = "rowIndex" if rows else "columnIndex"

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [item for item in map(walk, value) if item is not _LOST]
        if not isinstance(value, dict):
            return value
        if value.keys() & _ENDS:
            if value.get("sheetId", 0) != sheet or not value.keys() & {first, last}:
                return value
            span = formulas.span(value.get(first, 0), value.get(last), start, count)
            if span is None:
                return _LOST
            ends = {first: span[0]} if span[1] is None else {first: span[0], last: span[1]}
            return {**value, **ends}
        if value.get("sheetId", 0) == sheet and value.get(point, -1) >= start:
            return {**value, point: max(start, value[point] + count)}
        read = {key: walk(item) for key, item in value.items()}
        if read.get("range") is _LOST:
            return _LOST
        return {key: item for key, item in read.items() if item is not _LOST}

    return walk


def _walk_objects(book: Book, walk: Callable[[Any], Any]) -> None:
    for tab in list(book.tabs):
        for name in (
            "charts",
            "conditional_formats",
            "filter_views",
            "banded_ranges",
            "protected_ranges",
            "tables",
            "merges",
        ):
            old = getattr(tab, name)
            if old and (new := walk(old)) != old:
                if name == "conditional_formats":
                    new = [rule for rule in new if rule.get("ranges")]
                setattr(book.edit(tab.id), name, new)
        if tab.basic_filter is not None:
            new_filter = walk(tab.basic_filter)
            if new_filter != tab.basic_filter and (edited := book.edit(tab.id)) is not None:
                edited.basic_filter = None if new_filter is _LOST else new_filter


def _walk_names(book: Book, walk: Callable[[Any], Any]) -> None:
    kept = []
    for item in book.named_ranges:
        moved = walk(item)
        if moved is _LOST:
            book.lost_ranges.append(item)
        else:
            kept.append(moved)
    book.named_ranges = kept


def _shift_metadata(book: Book, tab: Tab, rows: bool, start: int, count: int) -> None:
    kept = []
    for item in book.metadata:
        range = item["location"].get("dimensionRange")
        dimension = "ROWS" if rows else "COLUMNS"
        if range and range.get("sheetId", 0) == tab.id and range["dimension"] == dimension:
            span = formulas.span(range.get("startIndex", 0), range.get("endIndex"), start, count)
            if span is None:
                continue
            moved = {**range, "startIndex": span[0], "endIndex": span[1]}
            item = {**item, "location": {**item["location"], "dimensionRange": moved}}
        kept.append(item)
    book.metadata = kept
