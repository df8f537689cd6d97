"""The .xlsx file, as other programs read it."""

import contextlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.cell import Cell
from openpyxl.worksheet.worksheet import Worksheet

from gateway.events import Usage
from gateway.records import UsageRow
from keys.ledger import SQLiteLedger
from keys.tabs import DAILY_COLUMNS, KEY_COLUMNS, USAGE_COLUMNS, plain
from keys.workbook import book, write
from keys.workbook.charts import counts, dollars, seconds
from keys.workbook.dashboard import shorten
from tests.servers.gateway import Gateway

UNTIL = datetime(2026, 11, 17, 12, tzinfo=UTC)
NASTY = ["=1+1", "+49 170", "-x", "@home", "\t=tab", "\r=cr", "<r><t>&</r>", "_x0041_", " ", "ok"]


def row(**changes: object) -> UsageRow:
    one = UsageRow(
        id=str(uuid4()),
        started_at=UNTIL - timedelta(days=1),
        key_id="key_1",
        email="test@example.com",
        type="chat",
        model="gpt-5.2",
        provider="openai",
        usage=Usage(100, 20),
        cost_nanos=1_250_000,
        duration_ms=1500,
        status="ok",
        http_status=200,
    )
    return replace(one, **changes)  # type: ignore[arg-type]  # any field, by name


Fill = Callable[[Iterable[UsageRow]], SQLiteLedger]


@pytest.fixture
def fill(url: str) -> Fill:
    def fill(rows: Iterable[UsageRow]) -> SQLiteLedger:
        ledger = SQLiteLedger(url)
        ledger.start()
        for one in rows:
            ledger.settle(one)
        ledger.close()
        return ledger

    return fill


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "usage.xlsx"


def read(file: Path, *, values: bool = False) -> Workbook:
    return load_workbook(file, data_only=values)


def records(sheet: Worksheet) -> list[dict[str, object]]:
    header, *lines = sheet.iter_rows(values_only=True)
    return [dict(zip(map(str, header), line, strict=True)) for line in lines]


def cells(sheet: Worksheet) -> Iterator[Cell]:
    for line in sheet.iter_rows():
        yield from (cell for cell in line if cell.value is not None)  # type: ignore[misc]


def test_the_tabs_are_those_of_the_spreadsheet(fill: Fill, file: Path) -> None:
    ledger = fill([row(), row(email="a.b@x.io"), row(email="a_dot_b@x.io")])
    ledger.create_key("idle@example.com")
    assert write(ledger, file, until=UNTIL) == 3
    workbook = read(file)
    assert workbook.sheetnames == [
        "Dashboard",
        "User API Keys",
        "_daily",
        "a_dot_b_at_x_dot_io",
        "a_dot_b_at_x_dot_io_0195c1",
        "test_at_example_dot_com",
    ]
    assert workbook.active is not None
    assert workbook.active.title == "Dashboard"
    assert [sheet.title for sheet in workbook if sheet.sheet_state == "hidden"] == ["_daily"]
    for name, columns in (
        ("User API Keys", KEY_COLUMNS),
        ("_daily", DAILY_COLUMNS),
        ("test_at_example_dot_com", USAGE_COLUMNS),
    ):
        sheet = workbook[name]
        assert [cell.value for cell in sheet[1]] == [column.header for column in columns]
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref == sheet.dimensions


def test_a_row_has_types_that_a_spreadsheet_computes_with(fill: Fill, file: Path) -> None:
    one = row(started_at=datetime(2026, 11, 16, 9, 30, 15, 250_000, tzinfo=UTC))
    write(fill([one, row(cost_nanos=None)]), file, until=UNTIL)
    sheet = read(file)["test_at_example_dot_com"]
    first, second = records(sheet)
    assert first == {
        "Timestamp": datetime(2026, 11, 16, 9, 30, 15, 250_000),
        "Email": "test@example.com",
        "Type": "chat",
        "Model": "gpt-5.2",
        "Provider": "openai",
        "Tokens In": 100,
        "Tokens Out": 20,
        "Cost": 0.00125,
        "Duration": 1.5,
        "Status": "ok",
        "Request ID": one.id,
        "Key ID": "key_1",
    }
    assert second["Cost"] is None
    formats = {
        str(head.value): cell.number_format for head, cell in zip(sheet[1], sheet[2], strict=True)
    }
    assert formats["Timestamp"] == "yyyy-mm-dd hh:mm:ss"
    assert formats["Cost"] == "0.000000"
    assert formats["Tokens In"] == "#,##0"


def test_keys_are_there_without_their_digests(fill: Fill, file: Path) -> None:
    ledger = fill([row()])
    minted = ledger.create_key("test@example.com", "=1+1")
    gone = ledger.revoke_key(ledger.create_key("gone@example.com").key.id)
    write(ledger, file, until=UNTIL)
    workbook = read(file)
    sheet = workbook["User API Keys"]
    first, second = records(sheet)
    created = minted.key.created_at.replace(tzinfo=None)
    assert first["Created At"] == pytest.approx(created, abs=timedelta(milliseconds=1))
    assert {**first, "Created At": None} == {
        "API Key": minted.key.masked,
        "User Email": "test@example.com",
        "Key Name": "=1+1",
        "Tier": "default",
        "Created At": None,
        "Last Used": None,
        "Requests": 0,
        "Tokens": 0,
        "Revoked": False,
        "Notes": None,
        "Key ID": minted.key.id,
    }
    assert (second["Key ID"], second["Revoked"]) == (gone.id, True)
    assert sheet["B2"].hyperlink is not None
    assert sheet["B2"].hyperlink.location == "'test_at_example_dot_com'!A1"
    assert sheet["B3"].hyperlink is None
    [area] = sheet.conditional_formatting
    assert str(area.sqref) == "A2:K3"
    assert [rule.formula for rule in area.rules] == [["$I2=TRUE"]]
    with zipfile.ZipFile(file) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert minted.secret.encode() not in everything


@pytest.mark.parametrize("text", NASTY, ids=repr)
def test_text_stays_text(fill: Fill, file: Path, text: str) -> None:
    ledger = fill([row(model=text, email=f"{text.strip()}@x.io", status="error")])
    write(ledger, file, until=UNTIL)
    workbook = read(file)
    sheet = workbook[workbook.sheetnames[3]]
    cell = sheet["D2"]
    assert cell.data_type == "s"
    expected = text.replace("\r", "\n").replace("_x0041_", "_x005F_x0041_")
    assert str(cell.value).removesuffix(" ") == expected.removesuffix(" ")
    assert cell.quotePrefix == text.startswith(("=", "+", "-", "@", "\t", "\r"))
    formulas = [cell.value for sheet in workbook for cell in cells(sheet) if cell.data_type == "f"]
    assert formulas
    assert all(str(formula).startswith(("=SUMIFS(", "=IFERROR((SUMIFS(")) for formula in formulas)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=20))
def test_any_text_makes_a_sound_file(tmp_path: Path, texts: list[str]) -> None:
    file = tmp_path / "texts.xlsx"
    with book.writing(file) as writing:
        sheet = writing.sheet("Texts")
        for number, text in enumerate(texts):
            writing.put(sheet, number, 0, plain(text))
    sheet = read(file)["Texts"]
    for number, text in enumerate(texts, 1):
        cell = sheet.cell(number, 1)
        escaped = re.sub("(_x[0-9a-fA-F]{4}_)", r"_x005F\1", plain(text))
        assert cell.data_type == "s"
        assert str(cell.value).removesuffix(" ") == escaped.removesuffix(" ")


def test_the_month_is_compared_with_the_last(fill: Fill, file: Path) -> None:
    write(
        fill(
            [
                row(started_at=datetime(2026, 9, 30, 23, 59, tzinfo=UTC), cost_nanos=10**12),
                row(started_at=datetime(2026, 10, 1, tzinfo=UTC), cost_nanos=2 * 10**9),
                row(started_at=datetime(2026, 10, 17, 23, tzinfo=UTC), cost_nanos=2 * 10**9),
                row(started_at=datetime(2026, 10, 18, tzinfo=UTC), cost_nanos=10**9),
                row(started_at=datetime(2026, 11, 1, tzinfo=UTC), cost_nanos=5 * 10**9),
                row(
                    started_at=datetime(2026, 11, 17, 11, tzinfo=UTC), status="error", cost_nanos=0
                ),
                row(started_at=UNTIL, cost_nanos=10**12),
            ]
        ),
        file,
        until=UNTIL,
    )
    board = read(file, values=True)["Dashboard"]
    assert board["B1"].value == "Usage in November 2026"
    cards = {board.cell(5, column).value: column for column in (2, 5, 9, 12)}
    assert {
        name: [board.cell(line, at).value for line in (6, 7, 8)] for name, at in cards.items()
    } == {
        "Cost": [5, 0.25, 5],
        "Requests": [2, 0, 3],
        "Tokens": [240, 0, 360],
        "Errors": [1, "–", 0],
    }
    assert board["C7"].value == "against 1–17 October"
    assert board["C8"].value == "in all of October"


def test_the_dashboard_has_its_charts_over_figures_that_are_there(fill: Fill, file: Path) -> None:
    write(fill(month()), file, until=UNTIL)
    board = read(file, values=True)["Dashboard"]
    charts = {text_of(chart.title): chart for chart in board._charts}  # type: ignore[attr-defined]
    assert {title: chart.tagname for title, chart in charts.items()} == {
        "Cost per day": "lineChart",
        "Tokens per day": "barChart",
        "Cost per model, November 2026": "barChart",
        "Cost per user, November 2026": "barChart",
        "Slowest models, November 2026": "barChart",
        "Errors per day": "barChart",
    }
    for title, chart in charts.items():
        names = chart.y_axis.title, chart.x_axis.title
        assert any(text_of(name) in UNITS for name in names if name is not None), title
        for series in chart.series:
            numbers = values(board, series.val.numRef.f)
            assert any(isinstance(number, int | float) for number in numbers), title
            assert len(values(board, (series.cat.numRef or series.cat.strRef).f)) == len(numbers)
    assert max(values(board, charts["Errors per day"].series[0].val.numRef.f)) == 1  # type: ignore[type-var]


UNITS = {"US dollars", "Tokens", "Failed requests", "Seconds until the answer was complete"}


def test_an_empty_ledger_makes_a_dashboard_of_noughts(fill: Fill, file: Path) -> None:
    assert write(fill([]), file) == 0
    workbook = read(file, values=True)
    assert workbook.sheetnames == ["Dashboard", "User API Keys", "_daily"]
    board = workbook["Dashboard"]
    assert board["B3"].value == "No usage yet."
    assert board["B6"].value == 0
    assert len(board._charts) == 6  # type: ignore[attr-defined]


def test_only_what_was_asked_for(fill: Fill, file: Path) -> None:
    ledger = fill([*month(), row(email="other@example.com")])
    ledger.create_key("other@example.com")
    since = datetime(2026, 11, 1, tzinfo=UTC)
    count = write(ledger, file, "test@example.com", since, UNTIL)
    workbook = read(file)
    assert workbook.sheetnames[3:] == ["test_at_example_dot_com"]
    found = records(workbook["test_at_example_dot_com"])
    assert len(found) == count == sum(one.started_at >= since for one in month())
    assert records(workbook["User API Keys"]) == []
    assert workbook["Dashboard"]["B3"].value == (
        "Only test@example.com.  Nothing from before 2026-11-01 00:00."
    )


def test_what_is_too_long_for_a_tab_goes_on_in_the_next(
    fill: Fill, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "ROWS", 11)
    rows = [row(started_at=UNTIL - timedelta(days=25, hours=-n)) for n in range(24)]
    rows += [row(started_at=UNTIL - timedelta(minutes=1), model=f"m{n}") for n in range(12)]
    assert write(fill(rows), file, until=UNTIL) == 36
    workbook = read(file, values=True)
    assert workbook.sheetnames == [
        "Dashboard",
        "User API Keys",
        "_daily",
        "_daily (2)",
        *("test_at_example_dot_com" + more for more in ("", " (2)", " (3)", " (4)")),
    ]
    ids = [
        line["Request ID"] for name in workbook.sheetnames[4:] for line in records(workbook[name])
    ]
    assert ids == [one.id for one in sorted(rows, key=lambda one: (one.started_at, one.id))]
    assert "SUMIFS('_daily (2)'!" in str(read(file)["Dashboard"]["B6"].value)


def test_two_spellings_of_an_address_share_no_row(fill: Fill, file: Path) -> None:
    assert write(fill([row(), row(email="Test@example.com")]), file, until=UNTIL) == 2
    workbook = read(file)
    assert [len(records(workbook[name])) for name in workbook.sheetnames[3:]] == [1, 1]


def test_many_users_need_few_open_files(url: str, fill: Fill, file: Path) -> None:
    fill(row(email=f"user{number}@example.com") for number in range(300))
    program = (
        "import resource, sys, pathlib; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "from keys.ledger import SQLiteLedger; from keys.workbook import write;"
        "print(write(SQLiteLedger(sys.argv[1]), pathlib.Path(sys.argv[2])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, url, str(file)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("300\n", "")
    assert len(read(file).sheetnames) == 303


def test_a_failure_leaves_nothing_behind(fill: Fill, tmp_path: Path) -> None:
    ledger = fill([row()])
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "usage.xlsx").mkdir()
    with pytest.raises(IsADirectoryError):
        write(ledger, folder / "usage.xlsx")
    with pytest.raises(FileNotFoundError):
        write(ledger, folder / "nowhere" / "usage.xlsx")
    with pytest.raises(ValueError, match="time zone"):
        write(ledger, folder / "new.xlsx", since=datetime(2026, 1, 1))
    assert [entry.name for entry in folder.iterdir()] == ["usage.xlsx"]


def test_memory_does_not_grow_with_the_rows(url: str, fill: Fill, file: Path) -> None:
    program = (
        "import pathlib, re, sys;"
        "from keys.ledger import SQLiteLedger; from keys.workbook import write;"
        "write(SQLiteLedger(sys.argv[1]), pathlib.Path(sys.argv[2]));"
        "status = pathlib.Path('/proc/self/status').read_text();"
        "print(re.search(r'VmHWM:\\s*(\\d+)', status)[1])"
    )

    def peak() -> int:
        command = [sys.executable, "-c", program, url, str(file)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    fill(row(started_at=UNTIL - timedelta(minutes=n)) for n in range(1500))
    few = peak()
    fill(row(started_at=UNTIL - timedelta(minutes=n)) for n in range(15_000))
    assert peak() - few < 6 * 1024  # KiB; 13,500 rows are 12 MB of XML


def test_the_command_writes_the_file_by_its_name(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    gateway.key("test@example.com")
    done = gateway.run("export", "usage.XLSX")
    assert done.stderr == "0 rows written to usage.XLSX\n"
    assert records(read(tmp_path / "usage.XLSX")["User API Keys"])[0]["Revoked"] is False
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--format", "xlsx"], "xlsx cannot be written to a terminal; name a file"),
        (["--format", "ods", "a.ods"], "'ods'; expected one of csv, jsonl, xlsx"),
        (["nowhere/a.xlsx"], "nowhere/a.xlsx: cannot be written: No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_of_the_command_is_told(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    done = Gateway(tmp_path).run("export", *arguments, check=False)
    assert done.returncode == 2
    assert reason in done.stderr
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("largest", "costs", "tokens"),
    [
        (0, "#,##0", "#,##0"),
        (0.0004, "#,##0.0000", "#,##0"),
        (0.35, "#,##0.00", "#,##0"),
        (7, "#,##0", "#,##0"),
        (9_999, "#,##0", "#,##0"),
        (12_345, '#,##0,"k"', '#,##0,"k"'),
        (1_200_000, '#,##0.0,,"M"', '#,##0.0,,"M"'),
        (12_000_000, '#,##0,,"M"', '#,##0,,"M"'),
        (1e12, '#,##0,,,"bn"', '#,##0,,,"bn"'),
    ],
)
def test_an_axis_has_as_many_digits_as_it_needs(largest: float, costs: str, tokens: str) -> None:
    assert dollars(largest).look == f'[=0]"$"0;"$"{costs}'
    assert counts("Tokens", largest).look == f"[=0]0;{tokens}"


@given(st.floats(0, 1e15))
def test_an_axis_has_a_handful_of_steps(largest: float) -> None:
    for scale in (dollars(largest), seconds("s", largest), counts("n", largest)):
        assert largest <= 5.01 * scale.step
        assert scale.step == 1 or largest >= 1.9 * scale.step
    assert counts("n", largest).step >= 1


def test_long_names_lose_their_middle() -> None:
    assert shorten("meta-llama/Llama-4-Maverick-Instruct-FP8", 21) == "meta-llama…struct-FP8"
    assert shorten("short", 5) == "short"
    assert shorten("two\nlines", 20) == "two lines"


def month() -> list[UsageRow]:
    """Two users and three models over two months."""
    start = datetime(2026, 10, 2, tzinfo=UTC)
    rows = []
    for number in range(90):
        rows.append(
            row(
                id=f"0{number:03}",
                started_at=start + timedelta(hours=12 * number),
                model=("gpt-5.2", "claude-opus-4-6", "=HYPERLINK(1)")[number % 3],
                duration_ms=100 * (number % 7 + 1),
                status="error" if number % 10 == 0 else "ok",
                cost_nanos=number * 10_000_000,
                email="test@example.com",
            )
        )
    return rows


def text_of(title: object) -> str:
    runs = title.tx.rich.p[0].r  # type: ignore[attr-defined]
    return "".join(run.t for run in runs)


def values(sheet: Worksheet, reference: str) -> list[object]:
    first, _, last = reference.split("!")[1].replace("$", "").partition(":")
    return [cell[0].value for cell in sheet[f"{first}:{last or first}"]]


# What LibreOffice makes of it.

SOFFICE = shutil.which("soffice")
office = pytest.mark.skipif(
    SOFFICE is None, reason="LibreOffice is not installed (Debian: apt install libreoffice-calc)"
)
ALWAYS = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load">
<prop oor:name="OOXMLRecalcMode" oor:op="fuse"><value>0</value></prop></item>
</oor:items>
"""


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """Opens a file in LibreOffice, which computes everything anew, and saves it in another format."""
    profile = tmp_path_factory.mktemp("profile")
    (profile / "user").mkdir()
    (profile / "user" / "registrymodifications.xcu").write_text(ALWAYS)

    def convert(file: Path, form: str) -> Path:
        folder = file.parent / "converted"
        subprocess.run(
            [
                str(SOFFICE),
                f"-env:UserInstallation={profile.as_uri()}",
                *("--headless", "--convert-to", form, "--outdir", str(folder), str(file)),
            ],
            check=True,
            capture_output=True,
            timeout=240,
        )
        return folder / file.with_suffix("." + form.split(":")[0]).name

    return convert


@office
def test_libreoffice_computes_the_same_figures(
    fill: Fill, file: Path, convert: Callable[[Path, str], Path]
) -> None:
    write(fill(month()), file, until=UNTIL)
    told = {cell.coordinate: cell.value for cell in cells(read(file, values=True)["Dashboard"])}
    forget(file)
    computed = {cell.coordinate: cell.value for cell in saved(convert(file, "xlsx"), "Dashboard")}
    assert computed.keys() == told.keys()
    for place, value in told.items():
        expected = pytest.approx(value) if isinstance(value, int | float) else value
        assert computed[place] == expected, place


def saved(file: Path, tab: str) -> list[Cell]:
    """Cells of a file that LibreOffice saved, whose charts openpyxl cannot read."""
    workbook = load_workbook(file, data_only=True, read_only=True)
    with contextlib.closing(workbook):
        return list(cells(workbook[tab]))


def forget(file: Path) -> None:
    """Makes every computed value in the file wrong, so that only computing anew can mend it."""
    whole = file.with_suffix(".whole")
    file.rename(whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "xl/worksheets/sheet1.xml":
                content, count = re.subn(rb"(</f><v>)[^<]*", rb"\g<1>-1", content)
                assert count > 100
            new.writestr(name, content)


@office
def test_libreoffice_keeps_text_as_text(
    fill: Fill, file: Path, convert: Callable[[Path, str], Path]
) -> None:
    write(fill(row(model=text, id=f"0{n}") for n, text in enumerate(NASTY)), file, until=UNTIL)
    found_cells = saved(convert(file, "xlsx"), "test_at_example_dot_com")
    column = [cell for cell in found_cells if cell.column == 4][1:]
    found = [cell.value for cell in column]
    assert {cell.data_type for cell in column} == {"s"}
    expected = [text.replace("\r", "\n") for text in NASTY]
    assert [str(text).strip() for text in found] == [text.strip() for text in expected]


@office
@pytest.mark.skipif(
    shutil.which("pdftotext") is None,
    reason="pdftotext is not installed (Debian: apt install poppler-utils)",
)
def test_the_rendered_dashboard_shows_titles_axes_and_no_clipped_numbers(
    fill: Fill, file: Path, convert: Callable[[Path, str], Path]
) -> None:
    dear = [replace(one, cost_nanos=one.cost_nanos and one.cost_nanos * 10**7) for one in month()]
    busy = [replace(one, usage=Usage(10**12, 10**11)) for one in dear]
    write(fill(busy), file, until=UNTIL)
    page = subprocess.run(
        ["pdftotext", "-l", "3", "-layout", str(convert(file, "pdf")), "-"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for expected in ("Usage in November 2026", "Cost per day", "US dollars", "8 Oct", "5 Nov"):
        assert expected in page
    assert "###" not in page
