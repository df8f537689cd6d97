"""`spreadsheets.values`: ranges read and written by A1 text."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.sheets_server import a1, formats, formulas, shifts
from tests.sheets_server.a1 import Area
from tests.sheets_server.batch import CHARACTER_LIMIT, TOO_LONG, TOO_MANY_CELLS, protected
from tests.sheets_server.book import CELL_LIMIT, Book, Cell, Json, Tab, has_value
from tests.sheets_server.refusals import PROTECTED, invalid


def read(book: Book, text: str, query: Mapping[str, Any]) -> Json:
    """A ValueRange, trailing blanks cut as Google cuts them."""
    tab, area, _ = book.resolve(text)
    book.check_grid(tab, area)
    closed = area.within(tab.row_count, tab.column_count)
    bottom = min(closed.bottom or 0, len(tab.rows))
    render = query.get("valueRenderOption", "FORMATTED_VALUE")
    dates = query.get("dateTimeRenderOption", "SERIAL_NUMBER")
    grid = [
        [
            shown(book, tab, row, column, render, dates)
            for column in range(closed.left, closed.right or 0)
        ]
        for row in range(closed.top, bottom)
    ]
    columns = query.get("majorDimension") == "COLUMNS"
    if columns:
        grid = [list(column) for column in zip(*grid, strict=True)]
    trimmed = _trimmed(grid)
    answer: Json = {
        "range": f"{a1.quoted(tab.title)}!{a1.spell(closed)}",
        "majorDimension": "COLUMNS" if columns else "ROWS",
    }
    if trimmed:
        answer["values"] = trimmed
    return answer


def _trimmed(grid: Iterable[list[object]]) -> list[list[object]]:
    rows = []
    for row in grid:
        end = len(row)
        while end and row[end - 1] is None:
            end -= 1
        rows.append(["" if value is None else value for value in row[:end]])
    while rows and not rows[-1]:
        rows.pop()
    return rows


def shown(book: Book, tab: Tab, row: int, column: int, render: str, dates: str) -> object:
    """One cell under a `valueRenderOption`; None for a blank."""
    cell = tab.rows[row].get(column)
    if cell is None or not has_value(cell):
        return None
    entered = cell["userEnteredValue"]
    if render == "FORMULA" and "formulaValue" in entered:
        return entered["formulaValue"]
    value = formulas.shown(book.calculator().cell(tab.id, row, column))
    number_format = cell.get("userEnteredFormat", {}).get("numberFormat")
    if render == "FORMATTED_VALUE":
        return formats.of(value, number_format)
    kind = (number_format or {}).get("type", "")
    if dates == "FORMATTED_STRING" and kind in ("DATE", "TIME", "DATE_TIME"):
        return formats.of(value, number_format)
    return value


def write(
    book: Book,
    tab_area: tuple[Tab, Area],
    values: Sequence[object],
    *,
    option: str,
    account: str,
    columns: bool = False,
    named: str = "values",
) -> Json:
    """Rows of scalars into a draft, null leaving a cell as it is. The UpdateValuesResponse."""
    tab, area = tab_area
    book.check_grid(tab, area)
    grid = _grid(values, named, columns)
    height, width = len(grid), max(map(len, grid), default=0)
    closed = area.within(tab.row_count, tab.column_count)
    start = f"{a1.quoted(tab.title)}!{a1.spell(closed)}"
    single = area.bottom == area.top + 1 and area.right == area.left + 1
    bottom = (tab.row_count if single else closed.bottom) or 0
    right = (tab.column_count if single else closed.right) or 0
    if area.top + height > bottom:
        if single or area.bottom is None:
            book.check_grid(tab, Area(area.top + height - 1, area.left))
        raise invalid(
            f"Requested writing within range [{start}], but tried writing to row [{bottom + 1}]"
        )
    if area.left + width > right:
        if single or area.right is None:
            book.check_grid(tab, Area(area.top, area.left + width - 1))
        raise invalid(
            f"Requested writing within range [{start}], but tried writing to column "
            f"[{a1.letters(right)}]"
        )
    written = Area(area.top, area.left, area.top + max(height, 1), area.left + max(width, 1))
    if protected(book, tab, written, account):
        raise invalid(PROTECTED)
    edited = book.edit(tab.id)
    assert edited is not None
    count = 0
    for row, items in enumerate(grid):
        for column, value in enumerate(items):
            if value is not None:
                put(edited, area.top + row, area.left + column, value, option)
                count += 1
    return {
        "spreadsheetId": book.id,
        "updatedRange": f"{a1.quoted(tab.title)}!{a1.spell(written)}",
        "updatedRows": height,
        "updatedColumns": width,
        "updatedCells": count,
    }


def _grid(values: Sequence[object], named: str, columns: bool) -> list[list[object]]:
    grid: list[list[object]] = []
    for index, row in enumerate(values):
        if not isinstance(row, list):
            raise TypeError("discovery has checked that these are lists")
        for column, value in enumerate(row):
            if isinstance(value, list | dict):
                kind = "list_value" if isinstance(value, list) else "struct_value"
                raise invalid(f"Invalid {named}[{index}][{column}]: {kind} {json.dumps(value)}")
        grid.append(row)
    if not columns:
        return grid
    height = max(map(len, grid), default=0)
    return [[line[row] if row < len(line) else None for line in grid] for row in range(height)]


def put(tab: Tab, row: int, column: int, value: object, option: str) -> None:
    """One value as typed (`USER_ENTERED`) or as it is (`RAW`); the format stays."""
    if isinstance(value, str) and len(value) > CHARACTER_LIMIT:
        raise invalid(TOO_LONG)
    cell = {
        name: item for name, item in tab.cell((row, column)).items() if name != "userEnteredValue"
    }
    entered, number_format = (
        _typed(value)
        if option == "USER_ENTERED" and isinstance(value, str)
        else (_raw(value), None)
    )
    if entered is not None:
        cell["userEnteredValue"] = entered
    if number_format is not None and "numberFormat" not in cell.get("userEnteredFormat", {}):
        cell["userEnteredFormat"] = {
            **cell.get("userEnteredFormat", {}),
            "numberFormat": number_format,
        }
    tab.put(row, column, cell)


def _raw(value: object) -> Json | None:
    match value:
        case bool():
            return {"boolValue": value}
        case int() | float():
            return {"numberValue": value}
        case str() if value:
            return {"stringValue": value}
        case _:
            return None


def _typed(text: str) -> tuple[Json | None, Json | None]:
    """Roughly what an English spreadsheet makes of typed text: (value, number format)."""
    if text.startswith("'"):
        return _raw(text[1:]), None
    if text.startswith("="):
        return {"formulaValue": text}, None
    if text.startswith("+") and re.search(r"\d", text):
        return {"formulaValue": "=" + text}, None
    bare = text.strip()
    if bare.upper() in ("TRUE", "FALSE"):
        return {"boolValue": bare.upper() == "TRUE"}, None
    if re.fullmatch(r"-?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?([eE][+-]?\d{1,3})?", bare) and re.search(
        r"^-?[\d.]*\d", bare
    ):
        return {"numberValue": float(bare.replace(",", ""))}, None
    if match := re.fullmatch(r"(-?[\d,]*\.?\d+)%", bare):
        number = float(match[1].replace(",", "")) / 100
        return {"numberValue": number}, {"type": "PERCENT", "pattern": "0.00%"}
    if match := re.fullmatch(r"\$(-?[\d,]*\.?\d+)", bare):
        return {"numberValue": float(match[1].replace(",", ""))}, {"type": "CURRENCY"}
    return _typed_date(bare) or (_raw(text), None)


def _typed_date(text: str) -> tuple[Json, Json] | None:
    date = {"type": "DATE"}
    both = {"type": "DATE_TIME", "pattern": "yyyy-mm-dd h:mm:ss"}
    for pattern, format in (
        ("%Y-%m-%d", {"type": "DATE", "pattern": "yyyy-mm-dd"}),
        ("%m/%d/%Y", date),
        ("%m-%d-%Y", date),
        ("%Y-%m-%d %H:%M:%S", both),
        ("%Y-%m-%d %H:%M", both),
    ):
        try:
            moment = datetime.strptime(text, pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
        return {"numberValue": formulas.serial(moment)}, format
    if match := re.fullmatch(r"(\d{1,2})[-/](\d{1,2})", text):
        try:
            moment = datetime(datetime.now(UTC).year, int(match[1]), int(match[2]), tzinfo=UTC)
        except ValueError:
            return None
        return {"numberValue": formulas.serial(moment)}, date
    return None


def clear(book: Book, text: str, account: str) -> str:
    """Values go, formats stay. The cleared range."""
    found, area, _ = book.resolve(text)
    book.check_grid(found, area)
    tab = book.edit(found.id)
    assert tab is not None
    closed = area.within(tab.row_count, tab.column_count)
    if protected(book, tab, closed, account):
        raise invalid(PROTECTED)
    for row in range(closed.top, min(closed.bottom or 0, len(tab.rows))):
        for column in [c for c in tab.rows[row] if closed.left <= c < (closed.right or 0)]:
            tab.put(row, column, without_value(tab.cell((row, column))))
    return f"{a1.quoted(tab.title)}!{a1.spell(closed)}"


def without_value(cell: Cell) -> Json:
    return {name: item for name, item in cell.items() if name != "userEnteredValue"}


def append(
    book: Book, text: str, body: Mapping[str, Any], query: Mapping[str, Any], account: str
) -> Json:
    """After the table found in the range, traps included: OVERWRITE overwrites what comes below."""
    found, area, whole = book.resolve(text)
    tab = book.edit(found.id)
    assert tab is not None
    table = _table(tab, area, whole)
    values = body.get("values", [])
    height, width = (
        len(values),
        max((len(row) for row in values if isinstance(row, list)), default=0),
    )
    if table is None:
        top, left = (0, 0) if whole else (area.top, area.left)
    else:
        top, left = table.bottom or 0, table.left
    if query.get("insertDataOption") == "INSERT_ROWS" and height and top < tab.row_count:
        shifts.shift(book, tab, rows=True, start=top, count=height)
    if top + height > tab.row_count:
        shifts.resize(book, tab, rows=True, size=top + height)
    if left + width > tab.column_count:
        shifts.resize(book, tab, rows=False, size=left + width)
    if book.cells_used > CELL_LIMIT:
        raise invalid(TOO_MANY_CELLS)
    target = Area(top, left, top + max(height, 1), left + max(width, 1))
    updates = write(
        book,
        (tab, target),
        values,
        option=query.get("valueInputOption", ""),
        account=account,
        columns=body.get("majorDimension") == "COLUMNS",
    )
    answer: Json = {"spreadsheetId": book.id, "updates": updates}
    if table is not None:
        answer["tableRange"] = f"{a1.quoted(tab.title)}!{a1.spell(table)}"
    return answer


def _table(tab: Tab, area: Area, whole: bool) -> Area | None:
    """The block of touching filled cells that the range lies in; of a whole tab, the last one."""
    filled = {
        (row, column)
        for row, cells in enumerate(tab.rows)
        for column, cell in cells.items()
        if has_value(cell)
    }
    closed = area.within(tab.row_count, tab.column_count)
    blocks: list[Area] = []
    left_over = set(filled)
    while left_over:
        box = _grown(left_over, filled)
        blocks.append(box)
        left_over = {
            (row, column)
            for row, column in left_over
            if not (box.top <= row < (box.bottom or 0) and box.left <= column < (box.right or 0))
        }
    touching = [
        box
        for box in blocks
        if box.top < (closed.bottom or 0)
        and closed.top < (box.bottom or 0)
        and box.left < (closed.right or 0)
        and closed.left < (box.right or 0)
    ]
    if not touching:
        return None
    return max(touching, key=lambda box: (box.bottom or 0, box.left))


def _grown(seeds: set[tuple[int, int]], filled: set[tuple[int, int]]) -> Area:
    start = min(seeds)
    seen, edge = {start}, [start]
    while edge:
        row, column = edge.pop()
        for near in ((row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)):
            if near in filled and near not in seen:
                seen.add(near)
                edge.append(near)
    rows, columns = [row for row, _ in seen], [column for _, column in seen]
    return Area(min(rows), min(columns), max(rows) + 1, max(columns) + 1)
