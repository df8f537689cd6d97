"""The dashboard computes what the ledger has, and is drawn once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keys.mirror import dashboard
from tests.keys.mirror.stage import Stage, raise_stage
from tests.sheets_server.book import Tab
from tests.sheets_server.server import SheetsServer

TODAY = datetime(2026, 11, 25, 12, tzinfo=UTC)
TAB = "Dashboard"


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    sheets._now = lambda: TODAY  # formulas' TODAY()
    spreadsheet = sheets.create("Sluice")
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.mint("ada@example.com", "bob@example.com")
    return stage


def tab(stage: Stage) -> Tab:
    return stage.book.tab(TAB)


def texts(stage: Stage) -> list[str]:
    return [str(cell) for line in tab(stage).values() for cell in line if cell != ""]


def test_cards_and_days_compute_this_month_against_the_last(stage: Stage) -> None:
    list(stage.mirror.init())
    stage.use(10, started_at=TODAY - timedelta(days=2))
    stage.use(4, started_at=TODAY - timedelta(days=33))  # 23 October
    stage.use(3, started_at=datetime(2026, 10, 30, tzinfo=UTC))
    stage.use(2, started_at=datetime(2026, 9, 30, tzinfo=UTC))
    stage.use(1, started_at=TODAY, status="error", cost_nanos=None)
    stage.settle()
    sheet = tab(stage)
    assert sheet.value("B1") == "Usage in November 2026"
    assert sheet.value("B5") == pytest.approx(10 * 0.0012345)
    assert sheet.value("C5") == 11
    assert sheet.value("G5") == 11 * 42
    assert sheet.value("H5") == 1
    assert sheet.value("C6") == "+175.0% against the same days of October"
    assert sheet.value("C7") == "7 in all of October"
    assert sheet.value("H6") == "– against the same days of October"

    def day(number: int, column: str) -> object:
        return sheet.value(f"{column}{dashboard._DAYS + 2 + number}")

    assert day(23, "B") == 23
    assert day(23, "C") == pytest.approx(4 * 0.0012345)
    assert day(23, "D") == pytest.approx(10 * 0.0012345)
    assert (day(23, "E"), day(23, "H"), day(23, "I"), day(25, "J")) == (10, 300, 120, 1)
    assert day(24, "E") == 0
    # No such day yet: nothing, so that a line ends there. (What an argument left out is worth, the
    # server does not say.)
    formula = sheet.cell(f"D{dashboard._DAYS + 2 + 26}")["userEnteredValue"]["formulaValue"]
    assert formula.startswith("=IF(26>DAY(TODAY()),,SUMIFS(")
    assert day(30, "C") == pytest.approx(3 * 0.0012345)


def test_nothing_is_wrong_while_there_is_nothing_to_show(stage: Stage) -> None:
    list(stage.mirror.init())
    assert tab(stage).value("B5") == 0
    assert not [text for text in texts(stage) if text.startswith("#")]


def test_all_charts_are_there_over_cells_with_headers(stage: Stage) -> None:
    list(stage.mirror.init())
    charts = tab(stage).charts
    assert [chart["spec"]["title"] for chart in charts] == [
        "Cost per day",
        "Tokens per day, in and out",
        "Cost per model",
        "Cost per user",
        "Slowest models",
        "Errors per day",
    ]
    assert len({chart["chartId"] for chart in charts}) == 6
    for chart in charts:
        basic = chart["spec"]["basicChart"]
        for part in [
            *(domain["domain"] for domain in basic["domains"]),
            *(series["series"] for series in basic["series"]),
        ]:
            (span,) = part["sourceRange"]["sources"]
            header = tab(stage).value((span["startRowIndex"], span["startColumnIndex"]))
            assert header, span
            assert span["endRowIndex"] <= dashboard.ROWS
        axes = {axis["position"] for axis in basic["axis"]}
        assert {series["targetAxis"] for series in basic["series"]} <= axes


def test_charts_overlap_neither_each_other_nor_cells(stage: Stage) -> None:
    list(stage.mirror.init())
    sheet, taken = tab(stage), set()
    for chart in sheet.charts:
        anchor = chart["position"]["overlayPosition"]["anchorCell"]
        width = sum(dashboard._WIDTHS[anchor["columnIndex"] :][:4])
        assert chart["position"]["overlayPosition"]["widthPixels"] < width
        rows = range(anchor["rowIndex"], anchor["rowIndex"] + dashboard._CHART_ROWS)
        assert 21 * len(rows) > dashboard._CHART_HEIGHT
        for row in rows:
            for column in range(anchor["columnIndex"], anchor["columnIndex"] + 4):
                assert (row, column) not in taken
                taken.add((row, column))
                assert not sheet.cell((row, column))


def test_lists_leave_room_for_what_their_formulas_fill(stage: Stage) -> None:
    list(stage.mirror.init())
    sheet = tab(stage)
    queries = [
        (row, column)
        for row, line in enumerate(sheet.rows)
        for column, cell in line.items()
        if "QUERY" in str(cell.get("userEnteredValue"))
    ]
    assert len(queries) == 4
    for row, column in queries:
        formula = sheet.cell((row, column))["userEnteredValue"]["formulaValue"]
        assert f"limit {dashboard._TOP}" in formula
        for line in range(dashboard._TOP):
            for offset in range(4):
                cell = sheet.cell((row + line, column + offset))
                assert (line, offset) == (0, 0) or "userEnteredValue" not in cell


def test_init_again_draws_nothing(stage: Stage) -> None:
    list(stage.mirror.init())
    writes = len(stage.sheets.writes)
    list(stage.mirror.init())
    assert len(stage.sheets.writes) == writes


def test_a_spoilt_dashboard_is_drawn_anew_and_what_people_added_stays(stage: Stage) -> None:
    list(stage.mirror.init())
    person = stage.sheets.person(stage.spreadsheet)
    before, charts = tab(stage).values(), tab(stage).charts
    person.set_cell(TAB, "K3", "mine")
    person.set_cell(TAB, "B5", "spoilt")
    with stage.sheets.lock:
        stage.book.tab(TAB).charts.pop(2)
        stage.book.tab(TAB).charts.append({**charts[0], "chartId": 5})
    assert list(stage.mirror.repair_dashboard()) == [
        "Dashboard: written anew; charts that you added yourself are as they were."
    ]
    assert tab(stage).value("K3") == "mine"
    person.set_cell(TAB, "K3", None)
    assert tab(stage).values() == before
    assert sorted(chart["chartId"] for chart in tab(stage).charts)[1:] == [
        dashboard._FIRST_CHART + number for number in range(6)
    ]
    again = tab(stage).charts
    list(stage.mirror.repair_dashboard())
    assert tab(stage).charts == again


def test_a_renamed_roll_up_is_followed(stage: Stage) -> None:
    list(stage.mirror.init())
    stage.use(5, started_at=TODAY)
    stage.settle()
    person = stage.sheets.person(stage.spreadsheet)
    person.rename_tab("_daily", "it's daily")
    list(stage.mirror.repair_dashboard())
    assert tab(stage).value("C5") == 5
