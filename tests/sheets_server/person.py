"""A person at the spreadsheet, who owns it and may do anything at any time."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.sheets_server import a1, batch, formulas, shifts, values
from tests.sheets_server.a1 import Area
from tests.sheets_server.book import OWNER, Book, Tab, has_value

Typed = str | int | float | bool | None
Where = int | Mapping[str, object]  # a row's number from 1, or what it holds under some headers


class Person:
    """Rows are numbered from 1 as people see them; columns are named by their header."""

    def __init__(self, book: Book, lock: AbstractContextManager[Any]) -> None:
        self._book = book
        self._lock = lock
        self._chance = random.Random(1)

    # ------------------------------------------------------------ rows

    def sort(self, tab: str, by: str, *, descending: bool = False) -> None:
        """All rows below the header."""
        with self._editing(tab) as (book, sheet):
            column = self._column(sheet, by)
            area = Area(1, 0, sheet.row_count, sheet.column_count)
            order = "DESCENDING" if descending else "ASCENDING"
            spec = {"dimensionIndex": column, "sortOrder": order}
            batch.sort(book, sheet, area, [spec])

    def shuffle(self, tab: str) -> None:
        """All rows below the header in any order, as by sorting on something."""
        with self._editing(tab) as (_, sheet):
            below = sheet.rows[1 : sheet.last_row()]
            self._chance.shuffle(below)
            sheet.rows[1 : sheet.last_row()] = below

    def insert_rows(self, tab: str, before: int, count: int = 1) -> None:
        with self._editing(tab) as (book, sheet):
            shifts.shift(book, sheet, rows=True, start=before - 1, count=count)

    def delete_rows(self, tab: str, first: int, count: int = 1) -> None:
        with self._editing(tab) as (book, sheet):
            shifts.shift(book, sheet, rows=True, start=first - 1, count=-count)

    def delete_row(self, tab: str, where: Where) -> None:
        with self._editing(tab) as (book, sheet):
            shifts.shift(book, sheet, rows=True, start=self._row(sheet, where), count=-1)

    def clear_row(self, tab: str, where: Where) -> None:
        """The row is marked and emptied; a check box in it becomes FALSE, as they do."""
        with self._editing(tab) as (_, sheet):
            row = self._row(sheet, where)
            for column in list(sheet.rows[row]):
                cell = values.without_value(sheet.cell((row, column)))
                if cell.get("dataValidation", {}).get("condition", {}).get("type") == "BOOLEAN":
                    cell["userEnteredValue"] = {"boolValue": False}
                sheet.put(row, column, cell)

    def copy_row(self, tab: str, where: Where) -> None:
        """The row is copied below the last one, with everything in it."""
        with self._editing(tab) as (book, sheet):
            row, target = self._row(sheet, where), sheet.last_row()
            self._make_room(book, sheet, target)
            for column, cell in sheet.rows[row].items():
                formula = cell.get("userEnteredValue", {}).get("formulaValue")
                if formula is not None:
                    cell = shifts.with_formula(cell, formulas.moved(formula, target - row))
                sheet.put(target, column, cell)

    def add_row(self, tab: str, typed: Mapping[str, Typed]) -> None:
        """Typed below the last row."""
        with self._editing(tab) as (book, sheet):
            row = sheet.last_row()
            self._make_room(book, sheet, row)
            for name, value in typed.items():
                values.put(sheet, row, self._column(sheet, name), value, "USER_ENTERED")

    def hide_rows(self, tab: str, first: int, count: int = 1) -> None:
        with self._editing(tab) as (_, sheet):
            for row in range(first - 1, first - 1 + count):
                sheet.row_properties[row] = {
                    **sheet.row_properties.get(row, {}),
                    "hiddenByUser": True,
                }

    # ------------------------------------------------------------ cells

    def set(self, tab: str, where: Where, typed: Mapping[str, Typed]) -> None:
        """Type into a row's cells: `set("Keys", {"Key ID": "k1"}, {"Revoked": True})`; None empties."""
        with self._editing(tab) as (_, sheet):
            row = self._row(sheet, where)
            for name, value in typed.items():
                values.put(sheet, row, self._column(sheet, name), value, "USER_ENTERED")

    def set_cell(self, tab: str, at: str, value: Typed) -> None:
        with self._editing(tab) as (book, sheet):
            row, column = a1.cell(at)
            book.check_grid(sheet, Area(row, column))
            values.put(sheet, row, column, value, "USER_ENTERED")

    # ------------------------------------------------------------ columns and headers

    def rename_header(self, tab: str, old: str, new: str) -> None:
        """With "" as the new name the header cell is emptied."""
        with self._editing(tab) as (_, sheet):
            values.put(sheet, 0, self._column(sheet, old), new, "USER_ENTERED")

    def double_header(self, tab: str, header: str, over: str) -> None:
        """The header's text is put over another header as well."""
        self.rename_header(tab, over, header)

    def insert_column(self, tab: str, before: str, header: str = "") -> None:
        with self._editing(tab) as (book, sheet):
            column = self._column(sheet, before)
            shifts.shift(book, sheet, rows=False, start=column, count=1)
            values.put(sheet, 0, column, header, "USER_ENTERED")

    def delete_column(self, tab: str, header: str) -> None:
        with self._editing(tab) as (book, sheet):
            column = self._column(sheet, header)
            shifts.shift(book, sheet, rows=False, start=column, count=-1)

    def move_column(self, tab: str, header: str, before: str) -> None:
        """Drag a column; formulas follow. Ranges of other objects over several columns stay put."""
        with self._editing(tab) as (book, sheet):
            order = list(range(sheet.column_count))
            target, moving = self._column(sheet, before), self._column(sheet, header)
            order.remove(moving)
            order.insert(order.index(target), moving)
            new = {old: place for place, old in enumerate(order)}
            sheet.rows[:] = [
                {new[column]: cell for column, cell in row.items()} for row in sheet.rows
            ]
            moved = {new[column]: item for column, item in sheet.column_properties.items()}
            sheet.column_properties = moved
            shifts.change_formulas(book, _moved_columns(sheet.title, new))

    # ------------------------------------------------------------ tabs

    def rename_tab(self, tab: str, title: str) -> None:
        self._apply(
            tab, "updateSheetProperties", {"properties": {"title": title}, "fields": "title"}
        )

    def delete_tab(self, tab: str) -> None:
        self._apply(tab, "deleteSheet", {})

    def add_tab(self, title: str) -> None:
        self._request({"addSheet": {"properties": {"title": title}}})

    def hide_tab(self, tab: str, hidden: bool = True) -> None:
        self._apply(
            tab, "updateSheetProperties", {"properties": {"hidden": hidden}, "fields": "hidden"}
        )

    def add_filter(self, tab: str) -> None:
        """A basic filter over all of it."""
        with self._editing(tab) as (_, sheet):
            sheet.basic_filter = {
                "range": {
                    "sheetId": sheet.id,
                    "startRowIndex": 0,
                    "endRowIndex": sheet.row_count,
                    "startColumnIndex": 0,
                    "endColumnIndex": sheet.column_count,
                }
            }

    def delete_charts(self, tab: str) -> None:
        with self._editing(tab) as (_, sheet):
            sheet.charts.clear()

    def protect(self, tab: str) -> None:
        """The whole tab, for the owner alone."""
        self._apply(tab, "addProtectedRange", {"protectedRange": {"range": {}}})

    def unprotect(self, tab: str) -> None:
        """Whatever protects it goes."""
        with self._editing(tab) as (_, sheet):
            sheet.protected_ranges.clear()

    # ------------------------------------------------------------ the file

    def share(self, address: str, role: str | None) -> None:
        """`writer`, `reader`, or None to share no longer."""
        with self._lock:
            if role is None:
                self._book.shares.pop(address, None)
            else:
                self._book.shares[address] = role

    # ------------------------------------------------------------ how

    @contextmanager
    def _editing(self, tab: str) -> Iterator[tuple[Book, Tab]]:
        with self._lock:
            draft = self._book.draft()
            sheet = draft.edit(draft.tab(tab).id)
            if sheet is None:
                raise LookupError(tab)
            yield draft, sheet
            self._book.adopt(draft)

    def _apply(self, tab: str, kind: str, body: dict[str, Any]) -> None:
        id = self._book.tab(tab).id
        for name in ("properties", "protectedRange"):
            if name in body:
                inner = dict(body[name])
                if name == "properties":
                    inner["sheetId"] = id
                else:
                    inner["range"] = {"sheetId": id}
                body = {**body, name: inner}
        if kind == "deleteSheet":
            body = {"sheetId": id}
        self._request({kind: body})

    def _request(self, request: Mapping[str, Any]) -> None:
        with self._lock:
            draft = self._book.draft()
            batch.apply(draft, [request], OWNER, self._chance)
            self._book.adopt(draft)

    def _column(self, sheet: Tab, header: str) -> int:
        places = [index for index, name in enumerate(sheet.header) if name == header]
        if not places:
            raise LookupError(f"no header {header!r} in {sheet.title!r}: {sheet.header}")
        return places[0]

    def _row(self, sheet: Tab, where: Where) -> int:
        if isinstance(where, int):
            return where - 1
        columns = {self._column(sheet, name): value for name, value in where.items()}
        for row in range(1, sheet.last_row()):
            if all(
                (sheet.value((row, column)) or "") == value for column, value in columns.items()
            ):
                return row
        raise LookupError(f"no row of {sheet.title!r} has {dict(where)}")

    def _make_room(self, book: Book, sheet: Tab, row: int) -> None:
        if row >= sheet.row_count:
            shifts.resize(book, sheet, rows=True, size=row + 1)


def _moved_columns(
    title: str, new: Mapping[int, int]
) -> Callable[[Tab, str | None, str], str | None]:
    """References to one column follow it; those to several stay."""

    def change(home: Tab, named: str | None, reference: str) -> str | None:
        if (home.title if named is None else named).lower() != title.lower():
            return None
        columns = {a1.number(column) for column in re.findall("[A-Za-z]+", reference)}
        if len(columns) != 1:
            return None
        (column,) = columns
        moved = a1.letters(new.get(column, column))
        return formulas.prefix(named) + re.sub("[A-Za-z]+", moved, reference)

    return change


def blank_rows(sheet: Tab) -> Sequence[int]:
    """Numbers of rows without any value above the last that has one."""
    return [
        index + 1
        for index, row in enumerate(sheet.rows[: sheet.last_row()])
        if not any(map(has_value, row.values()))
    ]
