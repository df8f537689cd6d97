"""An .xlsx file being written: tabs of typed columns, in memory that does not grow with their rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeAlias

from xlsxwriter import Workbook  # type: ignore[import-untyped]  # it carries no marker of its types
from xlsxwriter.exceptions import FileCreateError  # type: ignore[import-untyped]  # as above

from keys.tabs import Cell, Column, Kind, continued, like_formula

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart  # type: ignore[import-untyped]  # as above
    from xlsxwriter.format import Format  # type: ignore[import-untyped]  # as above
    from xlsxwriter.worksheet import Worksheet  # type: ignore[import-untyped]  # as above

Look: TypeAlias = Mapping[str, object]
"""Properties of a cell's format, in XlsxWriter's words."""

LONGEST_TAB = 31
ROWS = 1_048_576
"""Of a tab, the header included: Excel's limit."""
FONT = "Arial"
INK, PALE, BLUE, RED = "#1F2937", "#6B7280", "#2563EB", "#B91C1C"

_LOOKS: dict[Kind, Look] = {
    Kind.TEXT: {"num_format": "@", "align": "left"},
    Kind.MOMENT: {"num_format": "yyyy-mm-dd hh:mm:ss", "align": "left"},
    Kind.DAY: {"num_format": "yyyy-mm-dd", "align": "left"},
    Kind.COUNT: {"num_format": "#,##0"},
    Kind.MONEY: {"num_format": "0.000000"},
    Kind.SECONDS: {"num_format": "0.000"},
    Kind.FLAG: {"align": "center"},
}
_HEADER: Look = {"bold": True, "font_color": "#FFFFFF", "bg_color": INK}
_WIDEST = 60
_LINKS = 65_000
"""Of a tab; Excel takes a few more."""


class Book:
    """Everything that is written goes through `put`, so that text stays text."""

    def __init__(self, workbook: Workbook) -> None:
        self._workbook = workbook
        self._formats: dict[tuple[tuple[str, object], ...], Format] = {}

    def format(self, look: Look) -> "Format":
        """The same object for the same look: a file has each only once."""
        key = tuple(sorted(look.items()))
        if key not in self._formats:
            self._formats[key] = self._workbook.add_format({"valign": "vcenter", **look})
        return self._formats[key]

    def sheet(self, name: str) -> "Worksheet":
        return self._workbook.add_worksheet(name)

    def chart(self, kind: str, subtype: str | None = None) -> "Chart":
        return self._workbook.add_chart({"type": kind, **({"subtype": subtype} if subtype else {})})

    def put(
        self,
        sheet: "Worksheet",
        row: int,
        column: int,
        cell: Cell,
        look: Look | None = None,
        link: str | None = None,
    ) -> None:
        """A cell in its place, in the look of its column if in none of its own. Rows come in order.
        `link` is the name of a tab."""
        style = None if look is None else self.format(look)
        match cell:
            case None | "":
                if style is not None:
                    sheet.write_blank(row, column, None, style)
            case bool():
                sheet.write_boolean(row, column, cell, style)
            case str():
                self._put_text(sheet, row, column, cell, look, link)
            case _:
                sheet.write_number(row, column, cell, style)

    def _put_text(
        self,
        sheet: "Worksheet",
        row: int,
        column: int,
        text: str,
        look: Look | None,
        link: str | None,
    ) -> None:
        if text.startswith("<r>") and text.endswith("</r>"):
            text += " "  # XlsxWriter would take it for markup of its own and put it into the XML as it is
        if link is not None:
            look = {**(look or {}), "font_color": BLUE}
        if like_formula(text):
            # Excel's own apostrophe: editing or copying the cell makes no formula of it either.
            look = {"num_format": "@", **(look or {}), "quote_prefix": True}
        style = None if look is None else self.format(look)
        if link is None:
            sheet.write_string(row, column, text, style)
        else:
            sheet.write_url(row, column, f"internal:'{link}'!A1", style, text)

    def table(self, name: str, columns: Sequence[Column], *, hidden: bool = False) -> "Table":
        return Table(self, name, columns, hidden=hidden)


class Table:
    """Rows under a frozen header with a filter; goes on in `name (2)` where Excel's tabs end."""

    def __init__(
        self, book: Book, name: str, columns: Sequence[Column], *, hidden: bool = False
    ) -> None:
        self.name = name
        self.columns = columns
        self._book = book
        self._hidden = hidden
        self._rows = 0
        self.parts: list[tuple[str, int]] = []
        """The tabs, with the number of rows under the header of each."""
        self._sheet = self._begin()

    def append(self, cells: Sequence[Cell], link: tuple[int, str] | None = None) -> None:
        """`link` is a column with the tab that it leads to."""
        if self._rows + 1 >= ROWS:
            self._finish_part()
            self._sheet = self._begin()
        self._rows += 1
        for column, cell in enumerate(cells):
            if type(cell) is str and len(cell) > self._widths[column]:
                self._widths[column] = min(len(cell), _WIDEST)
            here = link is not None and link[0] == column and self._rows <= _LINKS
            target = link[1] if link is not None and here else None
            self._book.put(self._sheet, self._rows, column, cell, link=target)

    def mark(self, header: str) -> None:
        """Red for the rows of this tab in which the flag of this column is set."""
        if not self._rows:
            return
        column = next(n for n, known in enumerate(self.columns) if known.header == header)
        self._sheet.conditional_format(
            1,
            0,
            self._rows,
            len(self.columns) - 1,
            {
                "type": "formula",
                "criteria": f"=${chr(ord('A') + column)}2=TRUE",
                "format": self._book.format({"font_color": RED, "bg_color": "#FEE2E2"}),
            },
        )

    def finish(self) -> None:
        self._finish_part()

    def _begin(self) -> "Worksheet":
        name = continued(self.name, len(self.parts) + 1, LONGEST_TAB)
        sheet = self._book.sheet(name)
        if self._hidden:
            sheet.hide()
        self._widths = [column.width for column in self.columns]
        # Now for the looks of the cells that come, and once more at the end for the widths.
        self._set_columns(sheet)
        sheet.freeze_panes(1, 0)
        sheet.set_landscape()
        sheet.set_paper(9)
        sheet.fit_to_pages(1, 0)
        sheet.repeat_rows(0)
        sheet.set_footer("&L&A&R&P / &N")
        for index, column in enumerate(self.columns):
            self._book.put(
                sheet,
                0,
                index,
                column.header,
                {**_HEADER, "align": _LOOKS[column.kind].get("align", "right")},
            )
        self._rows = 0
        self.parts.append((name, 0))
        return sheet

    def _set_columns(self, sheet: "Worksheet") -> None:
        for index, (column, width) in enumerate(zip(self.columns, self._widths, strict=True)):
            look = self._book.format(_LOOKS[column.kind])
            sheet.set_column(index, index, width + 1, look)

    def _finish_part(self) -> None:
        self.parts[-1] = (self.parts[-1][0], self._rows)
        self._sheet.autofilter(0, 0, max(self._rows, 1), len(self.columns) - 1)
        self._set_columns(self._sheet)
        # Otherwise each tab keeps a file open to the end, and a process may have 1,024 of them.
        self._sheet._opt_close()


@contextmanager
def writing(path: Path) -> Iterator[Book]:
    """A book that is in the file when the block ends. Raises `OSError` where it cannot be written."""
    # Beside the file rather than in /tmp, which is memory on many machines.
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        workbook = Workbook(
            str(path),
            {
                "constant_memory": True,
                "tmpdir": folder,
                "strings_to_formulas": False,
                "strings_to_urls": False,
                "strings_to_numbers": False,
                # The width of its digits is the measure of all columns: a font that has a twin of the
                # same widths on every system.
                "default_format_properties": {"font_name": FONT, "font_size": 10},
            },
        )
        workbook.use_zip64()
        try:
            yield Book(workbook)
            workbook.close()
        except FileCreateError as error:
            raise error.args[0] from None
        finally:
            workbook.fileclosed = True  # otherwise its destructor would write half a file
            for sheet in workbook.worksheets():
                sheet._opt_close()
