"""The first tab: the month at a glance, for somebody who reads no other."""

from calendar import month_name
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from keys.rollup import Total, day_serial
from keys.tabs import DAILY_COLUMNS, DASHBOARD, Cell
from keys.workbook.book import BLUE, INK, PALE, RED, Book, Look
from keys.workbook.charts import (
    HEIGHT,
    Series,
    counts,
    dollar_labels,
    dollars,
    per_day,
    per_name,
    seconds,
)
from keys.workbook.figures import Durations, Figures, top

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart  # type: ignore[import-untyped]  # no marker of its types
    from xlsxwriter.worksheet import Worksheet  # type: ignore[import-untyped]  # as above

_TOP = 10
_LONGEST_NAME = 34
_SECONDS = "[<10]0.00;#,##0.0"
_CHANGE = '"+"0.0%;"−"0.0%;0.0%'
_GREY, _TEAL, _AMBER = "#9CA3AF", "#0D9488", "#F59E0B"

# The grid: a margin, six columns, a gutter, six columns. A card has three of them, a chart or a table six.
_LEFT, _RIGHT, _GUTTER, _END = 1, 8, 7, 13
_COLUMN_WIDTH = 11.29  # 84 pixels
_CARDS = 4
_CHARTS = 9
_ROW_PIXELS = 22
_CHART_ROWS = HEIGHT // _ROW_PIXELS + 1
_TABLES = _CHARTS + 3 * _CHART_ROWS
_TITLE: Look = {"font_size": 20, "bold": True, "font_color": INK}
_CARD: Look = {"bg_color": "#F3F4F6", "align": "left", "font_color": INK}
_EDGE: Look = {**_CARD, "left": 5, "left_color": BLUE, "indent": 1}
_SMALL: Look = {**_CARD, "font_color": PALE, "font_size": 9}
_HEADING: Look = {"bold": True, "font_size": 12, "font_color": INK}
_HEADER: Look = {"bold": True, "font_color": PALE, "font_size": 9, "bottom": 1}
_BODY: Look = {"bottom": 1, "bottom_color": "#E5E7EB", "font_color": INK}
_DAY: Look = {**_BODY, "num_format": "d mmm yyyy", "align": "left"}


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is added up, and the columns of `_daily` that it is the sum of."""

    label: str
    headers: tuple[str, ...]
    value: Callable[[Total], float]
    look: Callable[[float], str]
    """The number format that shows this much in a narrow cell."""


def _money(dollars: float) -> str:
    if 0 < dollars < 1:
        return '"$"0.0000'
    return '"$"#,##0.00' if dollars < 100_000 else '"$"#,##0'


def _count(number: float) -> str:
    if number < 100_000_000:
        return "#,##0"
    return '#,##0.0,,"M"' if number < 100_000_000_000 else '#,##0.0,,,"bn"'


_COST = Measure("Cost", ("Cost",), lambda total: total.cost_nanos / 1e9, _money)
_REQUESTS = Measure("Requests", ("Requests",), lambda total: total.requests, _count)
_TOKENS = Measure("Tokens", ("Tokens In", "Tokens Out"), lambda total: total.tokens, _count)
_ERRORS = Measure("Errors", ("Errors",), lambda total: total.errors, _count)
_TOKENS_IN = Measure("Tokens in", ("Tokens In",), lambda total: total.tokens_in, _count)
_TOKENS_OUT = Measure("Tokens out", ("Tokens Out",), lambda total: total.tokens_out, _count)
_BESIDE_COST = (_REQUESTS, _ERRORS, _TOKENS_IN, _TOKENS_OUT)
_DAY_COLUMNS = (2, 3, 4, 5, 6, 8)
"""Cost of the month before and of this one, then the others; the gutter is left out."""


def draw(
    book: Book,
    sheet: "Worksheet",
    figures: Figures,
    daily: Sequence[tuple[str, int]],
    tabs: Mapping[str, str],
    *,
    since: datetime | None,
    until: datetime,
    email: str | None,
) -> None:
    """`daily` are the tabs of the roll-up with their numbers of rows, `tabs` the users' tabs."""
    board = _Board(book, sheet, figures, daily)
    board.head(_notes(figures, since, until, email))
    board.card(_LEFT, _COST)
    board.card(_LEFT + 3, _REQUESTS)
    board.card(_RIGHT, _TOKENS)
    board.card(_RIGHT + 3, _ERRORS)
    board.models()
    board.users(tabs)
    board.slowest()
    board.failing()
    board.days()
    board.finish()


def _notes(
    figures: Figures, since: datetime | None, until: datetime, email: str | None
) -> list[str]:
    notes = [
        f"{_span(figures.month, figures.last_day)} {figures.last_day.year}"
        f" against {_month(figures.month_before)}. Days are days in UTC, costs are US dollars."
    ]
    if email is not None:
        notes.append(f"Only {shorten(email, 60)}.")
    if since is not None and since.astimezone(UTC).date() > figures.month_before:
        notes.append(f"Nothing from before {since.astimezone(UTC):%Y-%m-%d %H:%M}.")
    if figures.unpriced:
        notes.append(f"{figures.unpriced:,} answers without a known price count as $0.")
    if figures.rows == 0:
        notes.append("No usage yet.")
    return notes


class _Board:
    def __init__(
        self,
        book: Book,
        sheet: "Worksheet",
        figures: Figures,
        daily: Sequence[tuple[str, int]],
    ) -> None:
        self._book = book
        self._sheet = sheet
        self._figures = figures
        self._daily = daily
        self._models = top(figures.models, _TOP)
        self._users = top(figures.users, _TOP)
        self._slowest = figures.slowest(_TOP)
        self._failing = figures.failing(_TOP)
        self._second = _TABLES + _height(self._models, self._users)
        self._days = self._second + _height(self._slowest, self._failing)
        self._steps: list[tuple[int, Callable[[], object]]] = []

    # Placing. The book takes rows in order only, so all is collected first.

    def put(
        self,
        row: int,
        column: int,
        cell: Cell,
        look: Look,
        span: int = 1,
        link: str | None = None,
    ) -> None:
        self._merge(row, column, look, span)
        step = partial(self._book.put, self._sheet, row, column, cell, look, link)
        self._steps.append((row, step))

    def compute(
        self, row: int, column: int, formula: str, value: Cell, look: Look, span: int = 1
    ) -> None:
        """A formula with its value, for readers that do not compute."""
        self._merge(row, column, look, span)
        style = self._book.format(look)
        step = partial(self._sheet.write_formula, row, column, formula, style, value)
        self._steps.append((row, step))

    def _merge(self, row: int, column: int, look: Look, span: int) -> None:
        if span > 1:
            style = self._book.format(look)
            last = column + span - 1
            step = partial(self._sheet.merge_range, row, column, row, last, "", style)
            self._steps.append((row, step))

    def chart(self, row: int, column: int, chart: "Chart") -> None:
        self._sheet.insert_chart(row, column, chart, {"object_position": 2})

    def finish(self) -> None:
        for _, step in sorted(self._steps, key=lambda step: step[0]):
            step()

    # The parts.

    def head(self, notes: Sequence[str]) -> None:
        sheet = self._sheet
        sheet.hide_gridlines(2)
        sheet.set_column(0, 0, 2)
        sheet.set_column(_LEFT, _END, _COLUMN_WIDTH)
        sheet.set_column(_GUTTER, _GUTTER, 1.3)
        sheet.set_column(_END + 1, _END + 1, 0.5)
        sheet.set_default_row(_ROW_PIXELS * 0.75)
        sheet.set_row_pixels(0, 48)
        sheet.set_row_pixels(_CARDS + 1, 44)
        sheet.set_paper(9)
        sheet.set_margins(0.4, 0.4, 0.5, 0.6)
        sheet.fit_to_pages(1, 0)
        sheet.print_area(0, 0, self._last_row, _END + 1)
        sheet.set_h_pagebreaks([_TABLES, self._days])
        sheet.set_footer("&L&A&R&P / &N")
        self.put(0, _LEFT, f"Usage in {_month(self._figures.month)}", _TITLE, _END)
        self.put(1, _LEFT, notes[0], {"font_color": PALE}, _END)
        self.put(2, _LEFT, "  ".join(notes[1:]), {"font_color": PALE}, _END)

    def card(self, column: int, measure: Measure) -> None:
        """A figure of this month, its change on as much of the last one, and the last one's whole."""
        figures = self._figures
        this = (figures.month, figures.last_day)
        then = (figures.month_before, figures.same_day_before)
        whole = (figures.month_before, figures.month - timedelta(days=1))
        now, before, last = (measure.value(figures.sum(*span)) for span in (this, then, whole))
        sum_now, sum_before, sum_last = (self._sum(measure, *span) for span in (this, then, whole))

        row = _CARDS
        self.put(row, column, measure.label, {**_EDGE, "bold": True, "font_color": PALE}, 3)
        row += 1
        look = {**_EDGE, "font_size": 22, "bold": True, "num_format": measure.look(now)}
        self.compute(row, column, f"={sum_now}", now, look, 3)
        row += 1
        change = f'=IFERROR(({sum_now})/({sum_before})-1,"–")'
        look = {**_EDGE, "font_size": 9, "num_format": _CHANGE}
        self.compute(row, column, change, now / before - 1 if before else "–", look)
        self.put(row, column + 1, f"against {_span(*then)}", _SMALL, 2)
        row += 1
        look = {**_EDGE, "font_size": 9, "num_format": measure.look(last)}
        self.compute(row, column, f"={sum_last}", last, look)
        month = _month(figures.month_before, year=False)
        self.put(row, column + 1, f"in all of {month}", _SMALL, 2)

    def models(self) -> None:
        self._most_expensive(_LEFT, "model", self._models, {})

    def users(self, tabs: Mapping[str, str]) -> None:
        self._most_expensive(_RIGHT, "user", self._users, tabs)

    def _most_expensive(
        self,
        column: int,
        what: str,
        named: Sequence[tuple[str, Total]],
        tabs: Mapping[str, str],
    ) -> None:
        measures = (_COST, _REQUESTS, _TOKENS)
        labels = [measure.label for measure in measures]
        self._header(_TABLES, column, f"Most expensive {what}s", what.capitalize(), labels)
        first = _TABLES + 2
        for row, (name, total) in enumerate(named or [("", Total())], first):
            self.put(row, column, _shown(name), _BODY, 3, tabs.get(name))
            for offset, measure in enumerate(measures, 3):
                value = measure.value(total)
                self.put(row, column + offset, value, {**_BODY, "num_format": measure.look(value)})
        largest = max((_COST.value(total) for _, total in named), default=0)
        chart = per_name(
            self._book,
            f"Cost per {what}, {_month(self._figures.month)}",
            column,
            [Series(DASHBOARD, column + 3, first, first + max(len(named), 1) - 1, first - 1, BLUE)],
            dollars(largest),
            labels=dollar_labels(largest),
        )
        self.chart(_CHARTS + _CHART_ROWS, column, chart)

    def slowest(self) -> None:
        headers = ["Answers", "Half within", "95 % within"]
        self._header(self._second, _LEFT, "Slowest models, in seconds", "Model", headers)
        first = self._second + 2
        for row, (name, durations) in enumerate(self._slowest or [("", Durations())], first):
            self.put(row, _LEFT, _shown(name), _BODY, 3)
            self.put(row, _LEFT + 3, durations.count, {**_BODY, "num_format": "#,##0"})
            for offset, share in ((4, 0.5), (5, 0.95)):
                look = {**_BODY, "num_format": _SECONDS}
                self.put(row, _LEFT + offset, durations.quantile(share), look)
        last = first + max(len(self._slowest), 1) - 1
        chart = per_name(
            self._book,
            f"Slowest models, {_month(self._figures.month)}",
            _LEFT,
            [
                Series(DASHBOARD, _LEFT + offset, first, last, first - 1, colour)
                for offset, colour in ((4, _TEAL), (5, _AMBER))
            ],
            seconds(
                "Seconds until the answer was complete",
                max((durations.quantile(0.95) for _, durations in self._slowest), default=0),
            ),
            labels=_SECONDS,
        )
        self.chart(_CHARTS + 2 * _CHART_ROWS, _LEFT, chart)

    def failing(self) -> None:
        headers = ["Requests", "Errors", "Share"]
        self._header(self._second, _RIGHT, "Models with errors", "Model", headers)
        for row, (name, total) in enumerate(self._failing or [("", Total())], self._second + 2):
            self.put(row, _RIGHT, _shown(name), _BODY, 3)
            share = total.errors / max(total.requests, 1)
            cells = ((total.requests, "#,##0"), (total.errors, "#,##0"), (share, "0.0%"))
            for offset, (cell, look) in enumerate(cells, 3):
                self.put(row, _RIGHT + offset, cell, {**_BODY, "num_format": look})

    def days(self) -> None:
        """The days' sums, and the charts over them: the month before and this one are two lines."""
        figures = self._figures
        self.put(self._days, _LEFT, "Per day", _HEADING, 6)
        months = [f"Cost, {_month(m, year=False)}" for m in (figures.month_before, figures.month)]
        labels = ["Day", *months, *(measure.label for measure in _BESIDE_COST)]
        for label, column in zip(labels, (_LEFT, *_DAY_COLUMNS), strict=True):
            look = _HEADER if column == _LEFT else {**_HEADER, "align": "right"}
            self.put(self._days + 1, column, label, look)
        self.put(self._days + 1, _GUTTER, None, _HEADER)
        for row, (day, total) in enumerate(figures.days.items(), self._days + 2):
            self.put(row, _LEFT, day_serial(day), _DAY)
            before, now, *others = _DAY_COLUMNS
            ours, theirs = (now, before) if day >= figures.month else (before, now)
            cells = zip((ours, *others), (_COST, *_BESIDE_COST), strict=True)
            for column, measure in cells:
                value = measure.value(total)
                look = {**_BODY, "num_format": measure.look(value)}
                self.compute(row, column, f"={self._sum_of_day(measure, row)}", value, look)
            for column in (theirs, _GUTTER):
                self.put(row, column, None, _BODY)
        self._day_charts()

    def _day_charts(self) -> None:
        totals = self._figures.days.values()
        before, now, _, errors, tokens_in, tokens_out = _DAY_COLUMNS
        chart = per_day(
            self._book,
            "line",
            "Cost per day",
            _LEFT,
            [self._per_day(before, _GREY), self._per_day(now, BLUE)],
            dollars(max(_COST.value(total) for total in totals)),
        )
        self.chart(_CHARTS, _LEFT, chart)
        chart = per_day(
            self._book,
            "column",
            "Tokens per day",
            _LEFT,
            [self._per_day(tokens_in, BLUE), self._per_day(tokens_out, _TEAL)],
            counts("Tokens", max(total.tokens for total in totals)),
        )
        self.chart(_CHARTS, _RIGHT, chart)
        chart = per_day(
            self._book,
            "column",
            "Errors per day",
            _LEFT,
            [self._per_day(errors, RED)],
            counts("Failed requests", max(total.errors for total in totals)),
        )
        self.chart(_CHARTS + 2 * _CHART_ROWS, _RIGHT, chart)

    def _per_day(self, column: int, colour: str) -> Series:
        first = self._days + 2
        return Series(DASHBOARD, column, first, self._last_row, first - 1, colour)

    @property
    def _last_row(self) -> int:
        return self._days + 1 + len(self._figures.days)

    def _header(
        self,
        row: int,
        column: int,
        title: str,
        what: str,
        headers: Sequence[str],
    ) -> None:
        self.put(row, column, title, _HEADING, 6)
        self.put(row + 1, column, what, _HEADER, 3)
        for offset, header in enumerate(headers, 3):
            self.put(row + 1, column + offset, header, {**_HEADER, "align": "right"})

    # Formulas over the roll-up.

    def _sum(self, measure: Measure, first: date, last: date) -> str:
        return self._over_daily(
            measure, lambda days: f'{days},">="&{_date(first)},{days},"<="&{_date(last)}'
        )

    def _sum_of_day(self, measure: Measure, row: int) -> str:
        return self._over_daily(measure, lambda days: f"{days},$B{row + 1}")

    def _over_daily(self, measure: Measure, condition: Callable[[str], str]) -> str:
        terms = []
        for header in measure.headers:
            letter = _letter(header)
            for tab, rows in self._daily:
                place = f"'{tab}'!${{0}}$2:${{0}}${max(rows, 1) + 1}"
                days, values = place.format(_letter("Day")), place.format(letter)
                terms.append(f"SUMIFS({values},{condition(days)})")
        return "+".join(terms)


def shorten(text: str, longest: int) -> str:
    """Without its middle, where it is too long: of names, start and end tell most."""
    text = " ".join(text.split())
    if len(text) <= longest:
        return text
    head = (longest - 1) // 2
    return f"{text[:head]}…{text[len(text) - (longest - 1 - head) :]}"


def _shown(name: str) -> str:
    return shorten(name, _LONGEST_NAME) or "–"


def _height(left: Sized, right: Sized) -> int:
    """Rows of two tables side by side: title, header, lines, and two that stay empty."""
    return 2 + max(len(left), len(right), 1) + 2


def _letter(header: str) -> str:
    index = next(n for n, column in enumerate(DAILY_COLUMNS) if column.header == header)
    return chr(ord("A") + index)


def _date(day: date) -> str:
    return f"DATE({day.year},{day.month},{day.day})"


def _month(day: date, *, year: bool = True) -> str:
    return f"{month_name[day.month]} {day.year}" if year else month_name[day.month]


def _span(first: date, last: date) -> str:
    """`1–17 November`; both are in one month."""
    name = month_name[first.month]
    return f"{first.day} {name}" if first == last else f"{first.day}–{last.day} {name}"
