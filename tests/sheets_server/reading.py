"""`spreadsheets.get`, with cells where they are asked for."""

from collections.abc import Mapping
from typing import Any

from tests.sheets_server import formats, formulas, masks
from tests.sheets_server.a1 import Area
from tests.sheets_server.book import Book, Json, Tab, has_value


def spreadsheet(book: Book, query: Mapping[str, Any], mask: masks.Tree | None) -> Json:
    """The whole answer; the mask only decides whether cells are needed."""
    answer = book.resource()
    wanted: dict[int, list[Area]] = {}
    for text in query.get("ranges", []):
        tab, area, _ = book.resolve(text)
        book.check_grid(tab, area)
        wanted.setdefault(tab.id, []).append(area.within(tab.row_count, tab.column_count))
    if mask is None or masks.everything(mask):
        cells = bool(query.get("includeGridData"))
    else:
        sheets = mask.get("sheets")
        cells = sheets is not None and (
            (masks.everything(sheets) and bool(query.get("includeGridData"))) or "data" in sheets
        )
    sheets_answer = []
    for tab, resource in zip(book.tabs, answer["sheets"], strict=True):
        if wanted and tab.id not in wanted:
            continue
        if cells:
            whole = Area().within(tab.row_count, tab.column_count)
            areas = wanted.get(tab.id, [whole])
            resource = {**resource, "data": [_data(book, tab, area) for area in areas]}
        sheets_answer.append(resource)
    return {**answer, "sheets": sheets_answer}


def _data(book: Book, tab: Tab, area: Area) -> Json:
    rows, columns = range(area.top, area.bottom or 0), range(area.left, area.right or 0)
    data: Json = {}
    if area.top:
        data["startRow"] = area.top
    if area.left:
        data["startColumn"] = area.left
    row_data: list[Json] = []
    for row in rows:
        cells = [_cell(book, tab, row, column) for column in columns] if row < len(tab.rows) else []
        while cells and not cells[-1]:
            cells.pop()
        row_data.append({"values": cells} if cells else {})
    while row_data and not row_data[-1]:
        row_data.pop()
    if row_data:
        data["rowData"] = row_data
    data["rowMetadata"] = [{"pixelSize": 21, **tab.row_properties.get(row, {})} for row in rows]
    data["columnMetadata"] = [
        {"pixelSize": 100, **tab.column_properties.get(column, {})} for column in columns
    ]
    return data


def _cell(book: Book, tab: Tab, row: int, column: int) -> Json:
    cell = tab.rows[row].get(column)
    if cell is None:
        return {}
    answer = dict(cell)
    if "userEnteredFormat" in cell:
        answer["effectiveFormat"] = cell["userEnteredFormat"]
    if has_value(cell):
        value = book.calculator().cell(tab.id, row, column)
        answer["effectiveValue"] = _effective(value)
        number_format = cell.get("userEnteredFormat", {}).get("numberFormat")
        answer["formattedValue"] = formats.of(formulas.shown(value), number_format)
    return answer


def _effective(value: formulas.Scalar) -> Json:
    match value:
        case formulas.Failure():
            return {"errorValue": {"type": value.type, "message": value.message}}
        case bool():
            return {"boolValue": value}
        case float() | int():
            return {"numberValue": formulas.shown(value)}
        case _:
            return {"stringValue": value or ""}
