"""The looks of the dashboard's charts: titles, axes with units, no more ink than needed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keys.workbook.book import FONT, INK, PALE, Book

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart  # type: ignore[import-untyped]  # no marker of its types

WIDTH, HEIGHT = 504, 374
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


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis of values: its unit, the look of its numbers, and the way from one to the next."""

    unit: str
    look: str
    step: float


def per_day(
    book: Book,
    kind: str,
    title: str,
    days: int,
    series: Sequence[Series],
    scale: Scale,
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
    chart.set_y_axis(_value_axis(scale))
    return _finished(chart, title, legend=len(series) > 1)


def per_name(
    book: Book,
    title: str,
    names: int,
    series: Sequence[Series],
    scale: Scale,
    labels: str,
) -> "Chart":
    """Bars from the top down, of names in column `names`; `labels` is the number format at their ends."""
    chart = book.chart("bar")
    for one in series:
        chart.add_series(
            {
                "name": [one.sheet, one.name_row, one.column],
                "categories": one.reference(names),
                "values": one.reference(one.column),
                "gap": 50 if one.last - one.first >= 4 else 200,
                "overlap": -10 if len(series) > 1 else 0,
                "data_labels": {"value": True, "num_format": labels, "font": _font(8)},
                "fill": {"color": one.colour},
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
    chart.set_x_axis(_value_axis(scale))
    return _finished(chart, title, legend=len(series) > 1)


def dollars(largest: float) -> Scale:
    step = _step(largest)
    digits = max(2, _digits(step)) if step < 1 else 0
    return Scale("US dollars", f'[=0]"$"0;"$"{_large(largest, step, digits)}', step)


def dollar_labels(largest: float) -> str:
    """For values beside each other, of which this is the largest."""
    digits = 4 if largest < 1 else 2 if largest < 10_000 else 0
    return f'[=0]"$"0;"$"{_decimal(digits)}'


def counts(unit: str, largest: float) -> Scale:
    step = max(1, _step(largest))
    return Scale(unit, f"[=0]0;{_large(largest, step, 0)}", step)


def seconds(unit: str, largest: float) -> Scale:
    step = _step(largest)
    return Scale(unit, f"[=0]0;{_decimal(_digits(step))}", step)


def _step(largest: float) -> float:
    """1, 2 or 5, or such with zeros, so that there are about five of them on the axis."""
    if largest < 1e-9:
        return 1
    rough = largest / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _digits(step: float) -> int:
    """After the point, to tell the steps apart."""
    return max(0, math.ceil(-math.log10(step) - 1e-9))


def _decimal(digits: int) -> str:
    return f"#,##0.{'0' * digits}" if digits else "#,##0"


def _large(largest: float, step: float, digits: int) -> str:
    """Thousands, millions and more by a letter."""
    for size, commas, letter in ((10**9, ",,,", "bn"), (10**6, ",,", "M"), (10**4, ",", "k")):
        if largest >= size:
            tenths = step < size and letter != "k"
            return f'{_decimal(1 if tenths else 0)}{commas}"{letter}"'
    return _decimal(digits)


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


def _value_axis(scale: Scale) -> dict[str, object]:
    return {
        **_axis(scale.unit),
        "num_format": scale.look,
        "min": 0,
        "major_unit": scale.step,
        "line": {"none": True},
        "major_gridlines": {"visible": True, "line": {"color": _LINE, "width": 0.75}},
    }


def _font(size: int) -> dict[str, object]:
    return {"name": FONT, "size": size, "bold": False, "color": PALE}


def _finished(chart: "Chart", title: str, *, legend: bool) -> "Chart":
    chart.set_title({"name": title, "name_font": {**_font(12), "bold": True, "color": INK}})
    chart.set_legend({"position": "top", "font": _font(9)} if legend else {"none": True})
    chart.set_chartarea({"border": {"color": _LINE}})
    chart.set_size({"width": WIDTH, "height": HEIGHT})
    return chart
