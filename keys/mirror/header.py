"""The header of the tab of keys, put right on request. Pure: which column is which tells what is in it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from keys.mirror import console, layout
from keys.mirror.console import Known, text
from keys.mirror.layout import Request, Tab
from keys.tabs import Cell, key_cells, plain

_ALIKE = 0.8
"""The share of rows in which a column has to say what the ledger does, to be taken for its column."""

_HEADERS = tuple(column.header for column in layout.LISTED_COLUMNS)


@dataclass(slots=True)
class Mending:
    """What was found out, in lines for people, and the requests that put it right."""

    lines: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


def mend(tab: Tab, values: Sequence[Sequence[object]], known: Sequence[Known]) -> Mending:
    """`values` are all cells of the tab, read right before. What is as it should be is left alone."""
    return _Bench(tab, values, known).mend()


class _Bench:
    def __init__(
        self, tab: Tab, values: Sequence[Sequence[object]], known: Sequence[Known]
    ) -> None:
        self.tab, self.values = tab, values
        self.result = Mending()
        try:
            self.row: int | None = console.find_header(values)[0]
        except console.Broken:
            self.row = None
        self.names = [] if self.row is None else [text(cell) for cell in values[self.row]]
        marks = {item.key.id: item for item in known} | {item.digest: item for item in known}
        self.owners: dict[int, Known] = {}
        """Whose row it is, by the row's place."""
        for index, line in enumerate(values):
            owner = next((marks[cell] for cell in map(text, line) if cell in marks), None)
            if owner is not None and index != self.row:
                self.owners[index] = owner
        self.width = max([tab.columns, *(len(line) for line in values)])
        self.down = 0
        """Rows that are put above those that were read."""

    def mend(self) -> Mending:
        counts = Counter(self.names)
        lost = [header for header in _HEADERS if counts[header] != 1]
        if not lost:
            return self.result
        if self.row is None:
            if not self.owners:
                self.result.lines.append(
                    f"the tab {self.tab.title!r} has neither a header nor keys: delete it,"
                    " and it is made anew"
                )
                return self.result
            self._make_row()
        places = self._recognise(lost)
        for header, column in places.items():
            self._write(header, column)
            self.result.lines.append(
                f"{self.tab.title}: column {layout.letters(column)} is {header!r} again"
            )
        for column, name in enumerate(self.names):
            if name in places and column not in places.values():
                self._write(f"{name} (2)", column)
        self._add([header for header in lost if header not in places])
        return self.result

    def _make_row(self) -> None:
        """A first row for the header: the one that is there, unless it has a key in it."""
        self.row = 0
        if 0 not in self.owners:
            return
        self.down = 1
        span = {"sheetId": self.tab.sheet_id, "dimension": "ROWS", "startIndex": 0, "endIndex": 1}
        self.result.requests.append(
            {"insertDimension": {"range": span, "inheritFromBefore": False}}
        )

    def _recognise(self, lost: Sequence[str]) -> dict[str, int]:
        counts = Counter(self.names)
        free = [
            column
            for column in range(self.width)
            if column >= len(self.names)
            or self.names[column] not in _HEADERS
            or counts[self.names[column]] > 1
        ]
        places: dict[str, int] = {}
        for header in lost:
            scores = {column: self._score(header, column) for column in free}
            best = max(free, key=lambda column: scores[column], default=None)
            if best is not None and scores[best] >= _ALIKE:
                places[header] = best
                free.remove(best)
        if (
            not self.names
        ):  # the whole row is lost: columns that say nothing are where they were made
            for column, header in enumerate(_HEADERS):
                if header in lost and header not in places and column in free:
                    places[header] = column
                    free.remove(column)
        return places

    def _score(self, header: str, column: int) -> float:
        """How much a column says what the ledger does."""
        told = [
            (expected, text(self.values[row][column]) if column < len(self.values[row]) else "")
            for row, owner in self.owners.items()
            if (expected := _expected(owner)[header])
        ]
        if not told:
            return 0.0
        return sum(expected == cell for expected, cell in told) / len(told)

    def _write(self, header: str, column: int) -> None:
        assert self.row is not None
        cells: list[Request] = [layout.value(header)]
        self.result.requests.append(
            layout.write(
                self.tab.sheet_id, self.row, [{"values": cells}], "userEnteredValue", column=column
            )
        )

    def _add(self, headers: Sequence[str]) -> None:
        """Columns at the right end, with what the ledger says."""
        if not headers:
            return
        self.result.requests += layout.extend(self.tab.sheet_id, columns=len(headers))
        for column, header in enumerate(headers, self.tab.columns):
            self._write(header, column)
            for row, owner in self.owners.items():
                cell = _cell(header, owner)
                if cell:
                    self.result.requests.append(
                        layout.write(
                            self.tab.sheet_id,
                            row + self.down,
                            [{"values": [cell]}],
                            column=column,
                        )
                    )
        self.result.lines.append(
            f"{self.tab.title}: added {', '.join(headers)} at the right end, with what the ledger says"
        )


def _told(item: Known) -> Mapping[str, Cell]:
    headers = (column.header for column in layout.LISTED_COLUMNS)
    return dict(zip(headers, (*key_cells(item.key), item.digest), strict=True))


def _expected(item: Known) -> dict[str, str]:
    """As text; empty for what other columns say as well, or what changes by itself."""
    told = _told(item)
    unsure = {*console.COUNTERS, console.CREATED}
    return {header: "" if header in unsure else text(cell) for header, cell in told.items()}


def _cell(header: str, item: Known) -> Request:
    column = next(column for column in layout.LISTED_COLUMNS if column.header == header)
    formula = layout.counter(header, f'"{plain(item.key.id)}"')
    if formula is None:
        return layout.typed(column, _told(item)[header])
    return {"userEnteredValue": {"formulaValue": formula}}
