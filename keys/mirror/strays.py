"""Usage rows that were written while somebody moved the columns, brought to where they belong.

Google writes cells by their place, and headers are read a moment before. Where they are others at the next
look, the rows written in between may stand under the wrong ones: they are found by their ids, wherever
those stand, and written once more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

from gateway.records import UsageRow
from keys.mirror import layout
from keys.mirror.layout import Request
from keys.tabs import USAGE_COLUMNS, Cell, usage_cells


def put_right(
    sheet_id: int, values: Sequence[Sequence[object]], rows: Sequence[UsageRow]
) -> Iterator[Request]:
    """`values` are all cells of the tab, read right before, and `rows` those that may stand wrong."""
    places = layout.first_places(values[0] if values else (), USAGE_COLUMNS)
    wanted = {row.id: dict(_cells(row, places)) for row in rows}
    for index, line in enumerate(values[1:], 1):
        own = next(
            (wanted[cell] for cell in line if isinstance(cell, str) and cell in wanted), None
        )
        if not own or all(
            _same(line[place] if place < len(line) else "", cell)
            for place, (_, cell) in own.items()
        ):
            continue
        made: dict[int, Request] = {
            place: Request() for place, cell in enumerate(line) if cell not in ("", None)
        }
        made |= {place: request for place, (request, _) in own.items()}
        yield layout.write(sheet_id, index, [layout.placed(made)])


def _cells(row: UsageRow, places: Mapping[str, int]) -> Iterator[tuple[int, tuple[Request, Cell]]]:
    for column, cell in zip(USAGE_COLUMNS, usage_cells(row), strict=True):
        if column.header in places:
            yield places[column.header], (layout.typed(column, cell), cell)


def _same(found: object, cell: Cell) -> bool:
    match cell:
        case None | "":
            return found in ("", None)
        case int() | float():
            return isinstance(found, int | float) and math.isclose(found, cell, abs_tol=1e-9)
        case _:
            return str(found) == cell
