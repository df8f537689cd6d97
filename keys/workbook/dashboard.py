"""The first tab: the month at a glance, for somebody who reads no other."""

from calendar import month_name
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from keys.rollup import Total, day_serial
from keys.tabs import DAILY_COLUMNS, DASHBOARD, Cell
from keys.workbook.book import BLUE, INK, PALE, RED, Book, Look
from keys.workbook.charts import Series, count_look, money_look, per_day, per_name
from keys.workbook.figures import Durations, Figures, top

if TYPE_CHECKING:
    from xlsxwriter.chart import Chart  # type: ignore[import-untyped]  # no marker of its types
    from xlsxwriter.worksheet import Worksheet  # type: ignore[import-untyped]  # as above

_TOP = 10
_LONGEST_NAME = 34
_MONEY = '[=0]"$"0.00;[<1]"$"0.0000;"$"#,##0.00'
_COUNT = "#,##0"
_CHANGE = '"+"0.0%;"−"0.0%;0.0%'
_GREY, _TEAL, _AMBER = "#9CA3AF", "#0D9488", "#F59E0B"

# The grid: a margin, then twelve columns; a card has three of them, a chart or a table six.
_LEFT, _RIGHT = 1, 7
_COLUMN_WIDTH = 11.29  # 84 pixels
_ROW_PIXELS = 20
_CARDS = 3
_CHARTS = 9
_CHART_ROWS = 15
_TABLES = _CHARTS + 3 * (_CHART_ROWS + 1)
_DAYS = _TABLES + 2 * (_TOP + 4)

_TITLE: Look = {"font_size": 20, "bold": True, "font_color": INK}
_CARD: Look = {"bg_color": "#F3F4F6", "align": "left", "font_color": INK}
_EDGE: Look = {**_CARD, "left": 5, "left_color": BLUE, "indent": 1}
_SMALL: Look = {**_CARD, "font_color": PALE, "font_size": 9}
_HEADER: Look = {"bold": True, "font_color": PALE, "font_size": 9, "bottom": 1}
_BODY: Look = {"bottom": 1, "bottom_color": "#E5E7EB", "font_color": INK}
_DAY: Look = {**_BODY, "num_format": "d mmm yyyy", "align": "left"}


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is added up, and the columns of `_daily` that it is the sum of."""

    label: str
    headers: tuple[str, ...]
    value: Callable[[Total], float]
    look: str


_COST = Measure("Cost", ("Cost",), lambda total: total.cost_nanos / 1e9, _MONEY)
_REQUESTS = Measure("Requests", ("Requests",), lambda total: total.requests, _COUNT)
_TOKENS = Measure("Tokens", ("Tokens In", "Tokens Out"), lambda total: total.tokens, _COUNT)
_ERRORS = Measure("Errors", ("Errors",), lambda total: total.errors, _COUNT)
_TOKENS_IN = Measure("Tokens in", ("Tokens In",), lambda total: total.tokens_in, _COUNT)
_TOKENS_OUT = Measure("Tokens out", ("Tokens Out",), lambda total: total.tokens_out, _COUNT)


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
    for index, measure in enumerate((_COST, _REQUESTS, _TOKENS, _ERRORS)):
        board.card(_LEFT + 3 * index, measure)
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
        self._sheet.insert_chart(
            row, column, chart, {"x_offset": 0 if column == _LEFT else 6, "object_position": 2}
        )

    def finish(self) -> None:
        for _, step in sorted(self._steps, key=lambda step: step[0]):
            step()

    # The parts.

    def head(self, notes: Sequence[str]) -> None:
        sheet = self._sheet
        sheet.hide_gridlines(2)
        sheet.set_column(0, 0, 2)
        sheet.set_column(_LEFT, 12, _COLUMN_WIDTH)
        sheet.set_default_row(_ROW_PIXELS * 0.75)
        sheet.set_row(0, 36)
        sheet.set_row(_CARDS + 1, 33)
        sheet.set_paper(9)
        sheet.set_margins(0.4, 0.4, 0.5, 0.6)
        sheet.fit_to_pages(1, 0)
        sheet.print_area(0, 0, self._last_row, 12)
        sheet.set_h_pagebreaks([_TABLES])
        sheet.set_footer("&L&A&R&P / &N")
        self.put(0, _LEFT, f"Usage in {_month(self._figures.month)}", _TITLE, 12)
        self.put(1, _LEFT, "  ".join(notes), {"font_color": PALE}, 12)

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
        look = {**_EDGE, "font_size": 22, "bold": True, "num_format": measure.look}
        self.compute(row, column, f"={sum_now}", now, look, 3)
        row += 1
        change = f'=IFERROR({sum_now}/({sum_before})-1,"–")'
        look = {**_EDGE, "font_size": 9, "num_format": _CHANGE}
        self.compute(row, column, change, now / before - 1 if before else "–", look)
        self.put(row, column + 1, f"against {_span(*then)}", _SMALL, 2)
        row += 1
        look = {**_EDGE, "font_size": 9, "num_format": _short(measure.look, last)}
        self.compute(row, column, f"={sum_last}", last, look)
        month = _month(figures.month_before, year=False)
        self.put(row, column + 1, f"in all of {month}", _SMALL, 2)

    def models(self) -> None:
        named = top(self._figures.models, _TOP)
        self._totals(_TABLES, _LEFT, "Most expensive models", "Model", named, {})
        chart = self._bars(_LEFT, "Cost per model", "US dollars", len(named), _COST, named)
        self.chart(_CHARTS + _CHART_ROWS + 1, _LEFT, chart)

    def users(self, tabs: Mapping[str, str]) -> None:
        named = top(self._figures.users, _TOP)
        self._totals(_TABLES, _RIGHT, "Most expensive users", "User", named, tabs)
        chart = self._bars(_RIGHT, "Cost per user", "US dollars", len(named), _COST, named)
        self.chart(_CHARTS + _CHART_ROWS + 1, _RIGHT, chart)

    def _bars(
        self,
        column: int,
        title: str,
        unit: str,
        count: int,
        measure: Measure,
        named: Sequence[tuple[str, Total]],
    ) -> "Chart":
        largest = max((measure.value(total) for _, total in named), default=0)
        first = _TABLES + 2
        series = Series(DASHBOARD, column + 3, first, first + max(count, 1) - 1, first - 1, BLUE)
        month = _month(self._figures.month)
        return per_name(
            self._book, f"{title}, {month}", unit, column, [series], money_look(largest)
        )

    def _totals(
        self,
        row: int,
        column: int,
        title: str,
        what: str,
        named: Sequence[tuple[str, Total]],
        tabs: Mapping[str, str],
    ) -> None:
        measures = (_COST, _REQUESTS, _TOKENS)
        self._header(row, column, title, what, [measure.label for measure in measures])
        for number, (name, total) in enumerate(named or [("", Total())], row + 2):
            self.put(number, column, _shown(name), _BODY, 3, tabs.get(name))
            for offset, measure in enumerate(measures, 3):
                look = {**_BODY, "num_format": measure.look}
                self.put(number, column + offset, measure.value(total), look)

    def slowest(self) -> None:
        row = _TABLES + _TOP + 4
        named = self._figures.slowest(_TOP)
        headers = ["Answers", "Half within", "95 % within"]
        self._header(row, _LEFT, "Slowest models, in seconds", "Model", headers)
        for number, (name, durations) in enumerate(named or [("", None)], row + 2):
            self.put(number, _LEFT, _shown(name), _BODY, 3)
            cells = (0, 0.0, 0.0) if durations is None else _quantiles(durations)
            for offset, (cell, look) in enumerate(zip(cells, (_COUNT, "0.0", "0.0"), strict=True)):
                self.put(number, _LEFT + 3 + offset, cell, {**_BODY, "num_format": look})
        series = [
            Series(
                DASHBOARD, _LEFT + offset, row + 2, row + 1 + max(len(named), 1), row + 1, colour
            )
            for offset, colour in ((4, _TEAL), (5, _AMBER))
        ]
        title = f"Slowest models, {_month(self._figures.month)}"
        unit = "Seconds until the answer was complete"
        chart = per_name(self._book, title, unit, _LEFT, series, "0.0")
        self.chart(_CHARTS + 2 * (_CHART_ROWS + 1), _LEFT, chart)

    def failing(self) -> None:
        row = _TABLES + _TOP + 4
        models = self._figures.models.items()
        named = sorted(models, key=lambda item: (-item[1].errors, item[0]))[:_TOP]
        named = [item for item in named if item[1].errors]
        self._header(row, _RIGHT, "Models with errors", "Model", ["Requests", "Errors", "Share"])
        for number, (name, total) in enumerate(named or [("", Total())], row + 2):
            self.put(number, _RIGHT, _shown(name), _BODY, 3)
            share = total.errors / total.requests if total.requests else 0.0
            for offset, (cell, look) in enumerate(
                ((total.requests, _COUNT), (total.errors, _COUNT), (share, "0.0%")), 3
            ):
                self.put(number, _RIGHT + offset, cell, {**_BODY, "num_format": look})

    def days(self) -> None:
        """The days' sums, and the charts over them: the month before and this one are two lines."""
        figures = self._figures
        months = (figures.month_before, figures.month)
        cost = [f"Cost, {_month(month, year=False)}" for month in months]
        others = (_REQUESTS, _ERRORS, _TOKENS_IN, _TOKENS_OUT)
        headers = [*cost, *(measure.label for measure in others)]
        self._header(_DAYS, _LEFT, "Per day", "Day", headers, span=1)
        for row, (day, total) in enumerate(figures.days.items(), _DAYS + 2):
            self.put(row, _LEFT, day_serial(day), _DAY)
            ours = _LEFT + 1 + (day >= figures.month)
            theirs = _LEFT + 1 + (day < figures.month)
            self.put(row, theirs, None, _BODY)
            for column, measure in ((ours, _COST), *enumerate(others, _LEFT + 3)):
                formula = f"={self._sum_of_day(measure, row)}"
                look = {**_BODY, "num_format": measure.look}
                self.compute(row, column, formula, measure.value(total), look)
        self._day_charts()

    def _day_charts(self) -> None:
        totals = self._figures.days.values()
        cost = money_look(max(total.cost_nanos for total in totals) / 1e9)
        tokens = count_look(max(total.tokens for total in totals))
        errors = count_look(max(total.errors for total in totals))
        below = _CHARTS + 2 * (_CHART_ROWS + 1)
        for row, column, kind, title, unit, look, series in (
            (_CHARTS, _LEFT, "line", "Cost per day", "US dollars", cost, ((1, _GREY), (2, BLUE))),
            (
                _CHARTS,
                _RIGHT,
                "column",
                "Tokens per day",
                "Tokens",
                tokens,
                ((5, BLUE), (6, _TEAL)),
            ),
            (below, _RIGHT, "column", "Errors per day", "Failed requests", errors, ((4, RED),)),
        ):
            first, last = _DAYS + 2, self._last_row
            lines = [
                Series(DASHBOARD, _LEFT + offset, first, last, first - 1, colour)
                for offset, colour in series
            ]
            chart = per_day(self._book, kind, title, unit, _LEFT, lines, look)
            self.chart(row, column, chart)

    @property
    def _last_row(self) -> int:
        return _DAYS + 1 + len(self._figures.days)

    def _header(
        self,
        row: int,
        column: int,
        title: str,
        what: str,
        headers: Sequence[str],
        span: int = 3,
    ) -> None:
        self.put(row, column, title, {"bold": True, "font_size": 12, "font_color": INK}, 6)
        self.put(row + 1, column, what, _HEADER, span)
        for offset, header in enumerate(headers, span):
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


def _quantiles(durations: Durations) -> tuple[int, float, float]:
    return (durations.count, durations.quantile(0.5), durations.quantile(0.95))


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


def _short(look: str, value: float) -> str:
    """The same look, for a narrow cell."""
    return '0.0,,"M"' if look == _COUNT and value >= 10_000_000 else look
