"""The Dashboard tab: the month at a glance, as formulas and charts over `_daily`. Pure: requests out.

Everything is computed by the spreadsheet itself, in whole columns of one machine's tab, so that nothing
has to be written while the figures grow. Formulas are in en_US, which `layout.settings` sees to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from keys.mirror import layout
from keys.mirror.layout import Request, Snapshot
from keys.tabs import DAILY, DASHBOARD

CHART_FIELDS = "sheets(properties(sheetId),charts(chartId))"
"""What tells which charts there are."""

_FIRST_CHART = 72_000_001
_INK, _PALE, _BLUE, _GREY, _TEAL, _RED = (
    "1F2937",
    "6B7280",
    "2563EB",
    "9CA3AF",
    "0D9488",
    "B91C1C",
)
_CARD_BACK, _LINE = "F3F4F6", "E5E7EB"
_FONT = "Arial"

# The grid: a margin, a wide column and three narrow ones, a gutter, and the same once more.
_WIDTHS = (24, 230, 95, 95, 95, 24, 230, 95, 95, 95)
_LEFT, _RIGHT = 1, 6
_CARDS = 3
_CHARTS = 9
_CHART_ROWS, _CHART_WIDTH, _CHART_HEIGHT = 15, 505, 300
_TOP = 10
_TABLES = _CHARTS + 3 * _CHART_ROWS
_SECOND = _TABLES + _TOP + 4
_DAYS = _SECOND + _TOP + 4
_MONTH = 31
ROWS = _DAYS + 2 + _MONTH + 1
COLUMNS = len(_WIDTHS)

_COUNT, _MONEY, _SECONDS = "#,##0", '"$"#,##0.00', "0.00"
_CHANGE = '"+"0.0%;"−"0.0%;0.0%'

# Moments, in the spreadsheet's own time zone, which is UTC.
_THIS = "EOMONTH(TODAY(),-1)+1"
_LAST = "EOMONTH(TODAY(),-2)+1"
_SAME_DAY = "EDATE(TODAY(),-1)"
_LAST_END = "EOMONTH(TODAY(),-1)"

Cells = dict[tuple[int, int], Request]


@dataclass(frozen=True, slots=True)
class _Card:
    label: str
    headers: tuple[str, ...]
    pattern: str
    column: int
    span: int


_CARD_ROW = (
    _Card("Cost", ("Cost",), _MONEY, _LEFT, 1),
    _Card("Requests", ("Requests",), _COUNT, _LEFT + 1, 3),
    _Card("Tokens", ("Tokens In", "Tokens Out"), _COUNT, _RIGHT, 1),
    _Card("Errors", ("Errors",), _COUNT, _RIGHT + 1, 3),
)

_DAY_COLUMNS: Sequence[tuple[int, str, str, str, str]] = (
    (2, "Last month", "Cost", _LAST, _MONEY),
    (3, "This month", "Cost", _THIS, _MONEY),
    (4, "Requests", "Requests", _THIS, _COUNT),
    (7, "Tokens in", "Tokens In", _THIS, _COUNT),
    (8, "Tokens out", "Tokens Out", _THIS, _COUNT),
    (9, "Errors", "Errors", _THIS, _COUNT),
)


def draw(snapshot: Snapshot, there: Iterable[int] = ()) -> Iterator[Request]:
    """Writes the whole tab, and puts its charts in place. `there` are the ids of charts that it has;
    those of other people stay as they are, and so does what stands beside or below."""
    tab, rollup = snapshot.tab(DASHBOARD), snapshot.tab(DAILY)
    sheet_id = layout.TABS[DASHBOARD].sheet_id if tab is None else tab.sheet_id
    daily = DAILY if rollup is None else rollup.title
    region = _span(sheet_id, 0, ROWS, 0, COLUMNS)
    yield {
        "updateSheetProperties": {
            "properties": {
                "sheetId": sheet_id,
                "gridProperties": {
                    "rowCount": max(ROWS, 0 if tab is None else tab.rows),
                    "columnCount": max(COLUMNS + 1, 0 if tab is None else tab.columns),
                    "hideGridlines": True,
                },
            },
            "fields": "gridProperties(rowCount,columnCount,hideGridlines)",
        }
    }
    yield {"unmergeCells": {"range": region}}
    cells = _cells(daily)
    rows: list[Request] = [
        {"values": [cells.get((row, column), {}) for column in range(COLUMNS)]}
        for row in range(ROWS)
    ]
    yield layout.write(sheet_id, 0, rows, "userEnteredValue,userEnteredFormat")
    for row, column, width in _merges():
        yield {
            "mergeCells": {
                "range": _span(sheet_id, row, row + 1, column, column + width),
                "mergeType": "MERGE_ROWS",
            }
        }
    for column, pixels in enumerate(_WIDTHS):
        yield _size(sheet_id, "COLUMNS", column, pixels)
    yield _size(sheet_id, "ROWS", 0, 44)
    yield _size(sheet_id, "ROWS", _CARDS + 1, 40)
    known = set(there)
    for chart_id, (spec, row, column) in enumerate(_charts(sheet_id), _FIRST_CHART):
        place = {
            "overlayPosition": {
                "anchorCell": {"sheetId": sheet_id, "rowIndex": row, "columnIndex": column},
                "offsetXPixels": 4,
                "offsetYPixels": 4,
                "widthPixels": _CHART_WIDTH,
                "heightPixels": _CHART_HEIGHT,
            }
        }
        if chart_id in known:
            yield {"updateChartSpec": {"chartId": chart_id, "spec": spec}}
            yield {
                "updateEmbeddedObjectPosition": {
                    "objectId": chart_id,
                    "newPosition": place,
                    "fields": "anchorCell,offsetXPixels,offsetYPixels,widthPixels,heightPixels",
                }
            }
        else:
            yield {"addChart": {"chart": {"chartId": chart_id, "spec": spec, "position": place}}}


def chart_ids(metadata: Mapping[str, object], sheet_id: int) -> list[int]:
    """The charts of the tab, from the answer to a read of `CHART_FIELDS`."""
    sheets = metadata.get("sheets")
    found = []
    for sheet in sheets if isinstance(sheets, list) else ():
        if sheet.get("properties", {}).get("sheetId", 0) == sheet_id:
            found += [int(chart["chartId"]) for chart in sheet.get("charts", ())]
    return found


# Cells.


def _cells(daily: str) -> Cells:
    cells: Cells = {}
    cells[0, _LEFT] = _formula(
        '="Usage in "&TEXT(TODAY(),"mmmm yyyy")', _text(_INK, 20, bold=True), middle=True
    )
    cells[1, _LEFT] = _formula(
        f'="So far this month, against "&TEXT({_LAST},"mmmm")'
        '&". Days are days in UTC, costs are US dollars."',
        _text(_PALE, 10),
    )
    for card in _CARD_ROW:
        _put_card(cells, card, daily)
    _put_list(cells, daily, _TABLES, _LEFT, "Cost per model, this month", "Model", 4)
    _put_list(cells, daily, _TABLES, _RIGHT, "Cost per user, this month: the top ten", "User", 2)
    _put_slowest(cells, daily)
    _put_failing(cells, daily)
    _put_days(cells, daily)
    return cells


def _put_card(cells: Cells, card: _Card, daily: str) -> None:
    def total(first: str, last: str) -> str:
        return "+".join(
            f'SUMIFS({_column(daily, header)},{_column(daily, "Day")},">="&({first}),'
            f'{_column(daily, "Day")},"<="&({last}))'
            for header in card.headers
        )

    now, then = total(_THIS, "TODAY()"), total(_LAST, _SAME_DAY)
    back = {"backgroundColorStyle": _colour(_CARD_BACK)}
    lines = (
        _label(card.label, _text(_PALE, 10, bold=True)),
        _formula(f"={now}", _text(_INK, 22, bold=True), card.pattern),
        _formula(
            f'=IFERROR(TEXT(({now})/({then})-1,"+0.0%;-0.0%;0.0%"),"–")'
            f'&" against the same days of "&TEXT({_LAST},"mmmm")',
            _text(_PALE, 9),
        ),
        _formula(
            f'=TEXT({total(_LAST, _LAST_END)},"{card.pattern.replace(chr(34), "")}")'
            f'&" in all of "&TEXT({_LAST},"mmmm")',
            _text(_PALE, 9),
        ),
    )
    for row, cell in enumerate(lines, _CARDS):
        for column in range(card.column, card.column + card.span):
            own = dict(cell) if column == card.column else {}
            own["userEnteredFormat"] = {
                **_mapping(cell["userEnteredFormat"]),
                **back,
                "horizontalAlignment": "LEFT",
                "padding": {"left": 10, "top": 2, "bottom": 2, "right": 4},
            }
            cells[row, column] = own


def _put_list(
    cells: Cells, daily: str, row: int, column: int, title: str, what: str, source: int
) -> None:
    """Names with cost, requests and tokens: the most expensive ones."""
    _put_header(cells, row, column, title, (what, "Cost", "Requests", "Tokens"))
    query = (
        f"select Col{source}, sum(Col10), sum(Col6), sum(Col8)+sum(Col9) group by Col{source}"
        f" order by sum(Col10) desc, sum(Col6) desc limit {_TOP}"
        " label sum(Col10) '', sum(Col6) '', sum(Col8)+sum(Col9) ''"
    )
    _put_query(cells, row + 2, column, _query(daily, query), (None, _MONEY, _COUNT, _COUNT))


def _put_slowest(cells: Cells, daily: str) -> None:
    headers = ("Model", "Seconds", "Requests", "")
    _put_header(cells, _SECOND, _LEFT, "Slowest models, this month: mean seconds", headers)
    query = (
        "select Col4, sum(Col11)/sum(Col6), sum(Col6) group by Col4"
        f" order by sum(Col11)/sum(Col6) desc limit {_TOP}"
        " label sum(Col11)/sum(Col6) '', sum(Col6) ''"
    )
    formats = (None, _SECONDS, _COUNT, None)
    _put_query(cells, _SECOND + 2, _LEFT, _query(daily, query), formats)


def _put_failing(cells: Cells, daily: str) -> None:
    headers = ("Model", "Requests", "Errors", "Share")
    _put_header(cells, _SECOND, _RIGHT, "Models with errors, this month", headers)
    query = (
        "select Col4, sum(Col6), sum(Col7), sum(Col7)/sum(Col6) group by Col4"
        " order by sum(Col7) desc"
        " label sum(Col6) '', sum(Col7) '', sum(Col7)/sum(Col6) ''"
    )
    inner = _query(daily, query)
    outer = f'QUERY({inner},"select * where Col3 > 0 limit {_TOP}",0)'
    _put_query(cells, _SECOND + 2, _RIGHT, outer, (None, _COUNT, _COUNT, "0.0%"))


def _put_days(cells: Cells, daily: str) -> None:
    _put_header(cells, _DAYS, _LEFT, "Per day", ("Day of the month", "", "", ""))
    _put_header(cells, _DAYS, _RIGHT, "", ("", "", "", ""))
    for column, label, *_ in _DAY_COLUMNS:
        cells[_DAYS + 1, column] = _header_cell(label, right=True)
    for number in range(1, _MONTH + 1):
        row = _DAYS + 1 + number
        cells[row, _LEFT] = _number(number)
        cells[row, _RIGHT] = _body(None)
        for column, _, header, month, pattern in _DAY_COLUMNS:
            last = "DAY(TODAY())" if month == _THIS else f"DAY({_LAST_END})"
            day = f"{month}+{number - 1}"
            # Nothing at all where there is no such day yet: a line ends there instead of falling to 0.
            value = f"SUMIFS({_column(daily, header)},{_column(daily, 'Day')},{day})"
            cells[row, column] = {
                "userEnteredValue": {"formulaValue": f"=IF({number}>{last},,{value})"},
                **_body(pattern),
            }


def _put_header(cells: Cells, row: int, column: int, title: str, headers: Sequence[str]) -> None:
    if title:
        cells[row, column] = _label(title, _text(_INK, 12, bold=True))
    for offset, header in enumerate(headers):
        cells[row + 1, column + offset] = _header_cell(header, right=offset > 0)


def _put_query(
    cells: Cells, row: int, column: int, formula: str, patterns: Sequence[str | None]
) -> None:
    """A formula that fills the rows below it, whose looks are there already."""
    for line in range(_TOP):
        for offset, pattern in enumerate(patterns):
            cells[row + line, column + offset] = _body(pattern)
    cells[row, column] = {
        "userEnteredValue": {"formulaValue": f'=IFERROR({formula},"–")'},
        **_body(patterns[0]),
    }


def _query(daily: str, query: str) -> str:
    """Over the lines of this month: numbers are compared as such, whatever format days have."""
    lines = f"{layout.quoted(daily, '')}$A$2:$K"
    days = f"{layout.quoted(daily, '')}$A$2:$A"
    return f'QUERY(FILTER({lines},{days}>={_THIS}),"{query}",0)'


def _column(daily: str, header: str) -> str:
    headers = [column.header for column in layout.ROLLUP_COLUMNS]
    letter = layout.letters(headers.index(header))
    return layout.quoted(daily, f"${letter}:${letter}")


def _merges() -> Iterator[tuple[int, int, int]]:
    yield 0, _LEFT, COLUMNS - 1
    yield 1, _LEFT, COLUMNS - 1
    for card in _CARD_ROW:
        if card.span > 1:
            for row in range(_CARDS, _CARDS + 4):
                yield row, card.column, card.span
    for row in (_TABLES, _SECOND):
        for column in (_LEFT, _RIGHT):
            yield row, column, 4
    yield _DAYS, _LEFT, 4


# Looks.


def _colour(code: str) -> Request:
    red, green, blue = (int(code[index : index + 2], 16) / 255 for index in (0, 2, 4))
    return {"rgbColor": {"red": red, "green": green, "blue": blue}}


def _text(colour: str, size: int, *, bold: bool = False) -> Request:
    return {
        "foregroundColorStyle": _colour(colour),
        "fontFamily": _FONT,
        "fontSize": size,
        "bold": bold,
    }


def _label(text: str, look: Request) -> Request:
    return {"userEnteredValue": {"stringValue": text}, "userEnteredFormat": {"textFormat": look}}


def _formula(
    formula: str, look: Request, pattern: str | None = None, *, middle: bool = False
) -> Request:
    made: Request = {"textFormat": look}
    if pattern is not None:
        made["numberFormat"] = {"type": "NUMBER", "pattern": pattern}
    if middle:
        made["verticalAlignment"] = "MIDDLE"
    return {"userEnteredValue": {"formulaValue": formula}, "userEnteredFormat": made}


def _header_cell(text: str, *, right: bool) -> Request:
    look: Request = {
        "textFormat": _text(_PALE, 9, bold=True),
        "horizontalAlignment": "RIGHT" if right else "LEFT",
        "borders": {"bottom": {"style": "SOLID", "colorStyle": _colour(_GREY)}},
    }
    return {
        **({"userEnteredValue": {"stringValue": text}} if text else {}),
        "userEnteredFormat": look,
    }


def _body(pattern: str | None) -> Request:
    look: Request = {
        "textFormat": _text(_INK, 10),
        "borders": {"bottom": {"style": "SOLID", "colorStyle": _colour(_LINE)}},
        "wrapStrategy": "CLIP",
    }
    if pattern is not None:
        look["numberFormat"] = {"type": "NUMBER", "pattern": pattern}
        look["horizontalAlignment"] = "RIGHT"
    return {"userEnteredFormat": look}


def _number(number: int) -> Request:
    made = _body("0")
    look = _mapping(made["userEnteredFormat"])
    return {
        "userEnteredValue": {"numberValue": number},
        "userEnteredFormat": {**look, "horizontalAlignment": "LEFT"},
    }


def _mapping(tree: object) -> Mapping[str, object]:
    return tree if isinstance(tree, dict) else {}


# Charts.


def _charts(sheet_id: int) -> Iterator[tuple[Request, int, int]]:
    """What each shows, and the row and column of its corner."""
    first, second, third = (_CHARTS + number * _CHART_ROWS for number in range(3))
    days = (_DAYS + 1, _DAYS + 2 + _MONTH)
    lists, slowest = (_TABLES + 1, _TABLES + 2 + _TOP), (_SECOND + 1, _SECOND + 2 + _TOP)

    def per_day(kind: str, title: str, axis: str, series: Mapping[int, str]) -> Request:
        return _chart(
            sheet_id, kind, title, ("Day of the month", axis), days, _LEFT, series,
            stacked=len(series) > 1 and kind == "COLUMN",
        )  # fmt: skip

    def per_name(title: str, axis: str, rows: tuple[int, int], column: int, colour: str) -> Request:
        return _chart(sheet_id, "BAR", title, ("", axis), rows, column, {column + 1: colour})

    cost = per_day("LINE", "Cost per day", "US dollars", {2: _GREY, 3: _BLUE})
    tokens = per_day("COLUMN", "Tokens per day, in and out", "Tokens", {7: _BLUE, 8: _TEAL})
    errors = per_day("COLUMN", "Errors per day", "Failed requests", {9: _RED})
    yield cost, first, _LEFT
    yield tokens, first, _RIGHT
    yield per_name("Cost per model", "US dollars", lists, _LEFT, _BLUE), second, _LEFT
    yield per_name("Cost per user", "US dollars", lists, _RIGHT, _BLUE), second, _RIGHT
    yield per_name("Slowest models", "Mean seconds", slowest, _LEFT, _TEAL), third, _LEFT
    yield errors, third, _RIGHT


def _chart(
    sheet_id: int,
    kind: str,
    title: str,
    axes: tuple[str, str],
    rows: tuple[int, int],
    domain: int,
    series: Mapping[int, str],
    *,
    stacked: bool = False,
) -> Request:
    """The first of the rows is the header. Values stand on the axis across from the names'."""
    values = "BOTTOM_AXIS" if kind == "BAR" else "LEFT_AXIS"
    names = "LEFT_AXIS" if kind == "BAR" else "BOTTOM_AXIS"
    small = _text(_PALE, 9)

    def source(column: int) -> Request:
        return {"sourceRange": {"sources": [_span(sheet_id, *rows, column, column + 1)]}}

    basic: Request = {
        "chartType": kind,
        "legendPosition": "BOTTOM_LEGEND" if len(series) > 1 else "NO_LEGEND",
        "axis": [
            {"position": names, "title": axes[0], "format": small},
            {
                "position": values,
                "title": axes[1],
                "format": small,
                "viewWindowOptions": {"viewWindowMin": 0, "viewWindowMode": "EXPLICIT"},
            },
        ],
        "domains": [{"domain": source(domain)}],
        "series": [
            {
                "series": source(column),
                "targetAxis": values,
                "colorStyle": _colour(colour),
                **({"lineStyle": {"width": 2, "type": "SOLID"}} if kind == "LINE" else {}),
            }
            for column, colour in series.items()
        ],
        "headerCount": 1,
    }
    if stacked:
        basic["stackedType"] = "STACKED"
    return {
        "title": title,
        "titleTextFormat": _text(_INK, 13, bold=True),
        "fontName": _FONT,
        "hiddenDimensionStrategy": "SHOW_ALL",
        "basicChart": basic,
    }


def _span(sheet_id: int, top: int, bottom: int, left: int, right: int) -> Request:
    return {
        "sheetId": sheet_id,
        "startRowIndex": top,
        "endRowIndex": bottom,
        "startColumnIndex": left,
        "endColumnIndex": right,
    }


def _size(sheet_id: int, dimension: str, index: int, pixels: int) -> Request:
    return {
        "updateDimensionProperties": {
            "range": {
                "sheetId": sheet_id,
                "dimension": dimension,
                "startIndex": index,
                "endIndex": index + 1,
            },
            "properties": {"pixelSize": pixels},
            "fields": "pixelSize",
        }
    }
