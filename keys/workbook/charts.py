"""The looks of the dashboard's charts: titles, axes with units, no more ink than needed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keys.workbook.book import FONT, INK, PALE, Book

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart  # type: ignore[import-untyped]  # no marker of its types

WIDTH, HEIGHT = 498, 300
_LINE = "#E5E7EB"
_WEEK = 7


@dataclass(frozen=True, slots=True)
class Series:
    """A column of numbers on a tab, from row to row."""

    sheet: str
    column: int
    first: int
    last: int
    name_row: int
    colour: str

    def reference(self, column: int) -> list[object]:
        return [self.sheet, self.first, column, self.last, column]


def per_day(
    book: Book, kind: str, title: str, unit: str, days: int, series: Sequence[Series], look: str
) -> "Chart":
    """Lines or stacked columns over days, which are the numbers in column `days`."""
    chart = book.chart(kind, "stacked" if kind == "column" else None)
    for one in series:
        chart.add_series(
            {
                "name": [one.sheet, one.name_row, one.column],
                "categories": one.reference(days),
                "values": one.reference(one.column),
                **_paint(kind, one.colour),
            }
        )
    chart.set_x_axis(
        {
            **_axis("Day (UTC)"),
            "date_axis": True,
            "num_format": "d mmm",
            "major_unit": _WEEK,
            "major_unit_type": "days",
            "major_tick_mark": "outside",
            "line": {"color": PALE},
        }
    )
    chart.set_y_axis({**_axis(unit), **_scale(look), "major_gridlines": _GRID})
    return _finished(chart, title, legend=len(series) > 1)


def per_name(
    book: Book, title: str, unit: str, names: int, series: Sequence[Series], look: str
) -> "Chart":
    """Bars from the top down, of names in column `names`."""
    chart = book.chart("bar")
    for one in series:
        chart.add_series(
            {
                "name": [one.sheet, one.name_row, one.column],
                "categories": one.reference(names),
                "values": one.reference(one.column),
                "gap": 50,
                "overlap": -10 if len(series) > 1 else 0,
                "data_labels": {"value": True, "num_format": look, "font": _font(8)},
                **_paint("bar", one.colour),
            }
        )
    chart.set_y_axis(
        {
            "reverse": True,
            "num_font": _font(9),
            "major_tick_mark": "none",
            "line": {"color": PALE},
            "crossing": "max",
        }
    )
    chart.set_x_axis({**_axis(unit), **_scale(look), "major_gridlines": _GRID})
    return _finished(chart, title, legend=len(series) > 1)


def money_look(largest: float) -> str:
    """As many digits as tell the steps of an axis apart."""
    if largest < 0.1:
        return '"$"0.0000'
    if largest < 10:
        return '"$"0.00'
    return '"$"#,##0'


def count_look(largest: float) -> str:
    if largest >= 10_000_000:
        return '0,,"M"'
    if largest >= 1_000_000:
        return '0.0,,"M"'
    if largest >= 10_000:
        return '0,"k"'
    return "#,##0"


_GRID = {"visible": True, "line": {"color": _LINE, "width": 0.75}}


def _paint(kind: str, colour: str) -> dict[str, object]:
    if kind == "line":
        return {
            "line": {"color": colour, "width": 2.25},
            "marker": {
                "type": "circle",
                "size": 4,
                "fill": {"color": colour},
                "border": {"color": colour},
            },
        }
    return {"fill": {"color": colour}, "border": {"none": True}, "gap": 40}


def _axis(name: str) -> dict[str, object]:
    return {"name": name, "name_font": _font(9), "num_font": _font(9)}


def _scale(look: str) -> dict[str, object]:
    return {"num_format": look, "min": 0, "line": {"none": True}}


def _font(size: int) -> dict[str, object]:
    return {"name": FONT, "size": size, "bold": False, "color": PALE}


def _finished(chart: "Chart", title: str, *, legend: bool) -> "Chart":
    chart.set_title({"name": title, "name_font": {**_font(12), "bold": True, "color": INK}})
    chart.set_legend({"position": "top", "font": _font(9)} if legend else {"none": True})
    chart.set_chartarea({"border": {"color": _LINE}})
    chart.set_size({"width": WIDTH, "height": HEIGHT})
    return chart
