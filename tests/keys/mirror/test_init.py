"""What `init` makes, once, and what it says when it cannot."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keys.mirror.google import Google, SheetConfig, SheetError, spreadsheet_id
from keys.tabs import KEY_COLUMNS, KEYS
from tests.keys.mirror.stage import Stage, config, raise_stage
from tests.sheets_server.faults import Fault
from tests.sheets_server.server import SheetsServer


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    return raise_stage(sheets, spreadsheet, tmp_path / "l.db")


def test_init_twice_writes_once(stage: Stage, sheets: SheetsServer) -> None:
    first = list(stage.mirror.init())
    assert len(sheets.writes) == 1
    second = list(stage.mirror.init())
    assert len(sheets.writes) == 1
    assert f"{KEYS}: made" in first
    assert second[-1] == "Everything is there."


def test_further_spreadsheets_are_made_once_as_well(sheets: SheetsServer, tmp_path: Path) -> None:
    ids = [sheets.create(title) for title in ("first", "second")]
    stage = raise_stage(sheets, ",".join(ids), tmp_path / "l.db")
    list(stage.mirror.init())
    count = len(sheets.writes)
    assert list(stage.mirror.init()).count("Everything is there.") == 2
    assert len(sheets.writes) == count


def test_tabs_are_small_and_machines_are_hidden_and_protected(stage: Stage) -> None:
    list(stage.mirror.init())
    book = stage.book
    assert book.titles[:2] == ["Dashboard", KEYS]
    assert book.cells_used < 26_000 + 3_000
    for title in ("_daily", "_key_stats", "_gateway"):
        tab = book.tab(title)
        assert tab.hidden
        assert tab.protected_ranges
    keys = book.tab(KEYS)
    assert keys.header == [*(column.header for column in KEY_COLUMNS), "Key Hash"]
    assert keys.properties["gridProperties"]["frozenRowCount"] == 1
    assert keys.hidden_columns == [len(KEY_COLUMNS)]
    assert keys.conditional_formats
    assert [view["title"] for view in keys.filter_views] == ["Active keys", "Revoked keys"]
    assert (book.properties["locale"], book.properties["timeZone"]) == ("en_US", "Etc/UTC")


def test_a_listed_key_has_a_drop_down_and_a_check_box(stage: Stage) -> None:
    list(stage.mirror.init())
    stage.mint("ada@example.com")
    stage.settle()
    tab = stage.book.tab(KEYS)
    places = {name: index for index, name in enumerate(tab.header)}
    tier = tab.cell((1, places["Tier"]))["dataValidation"]["condition"]
    assert [item["userEnteredValue"] for item in tier["values"]] == ["default", "gold"]
    revoked = tab.cell((1, places["Revoked"]))
    assert revoked["dataValidation"]["condition"]["type"] == "BOOLEAN"
    assert revoked["userEnteredValue"] == {"boolValue": False}
    assert revoked.get("userEnteredFormat", {}) == {}
    assert tab.last_row() == 2


def test_a_tab_that_a_person_made_is_taken_over_as_it_is(
    stage: Stage, sheets: SheetsServer, spreadsheet: str
) -> None:
    person = sheets.person(spreadsheet)
    person.add_tab(KEYS)
    person.set_cell(KEYS, "A1", "Notes")
    person.set_cell(KEYS, "B1", "API Key")
    list(stage.mirror.init())
    header = stage.book.tab(KEYS).header
    assert header[:2] == ["Notes", "API Key"]
    assert {column.header for column in KEY_COLUMNS} <= set(header)
    stage.mint("ada@example.com")
    stage.settle()
    assert stage.records(KEYS)[0]["User Email"] == "ada@example.com"


def _unshare(server: SheetsServer, id: str) -> None:
    server.share(id, None)


def _reader(server: SheetsServer, id: str) -> None:
    server.share(id, "reader")


def _revoke(server: SheetsServer, id: str) -> None:
    server.account.key_revoked = True


SENTENCES: list[tuple[str, Callable[[SheetsServer, str], None], str]] = [
    ("not shared", _unshare, "may not open or change this spreadsheet; share the spreadsheet with"),
    ("viewer", _reader, "as Editor"),
    ("a revoked key", _revoke, "make a new key for the service account"),
    *(
        (fault.name, lambda server, _, fault=fault: server.faults.next(fault, times=9), text)
        for fault, text in (
            (Fault.QUOTA, "its quota is used up"),
            (Fault.INTERNAL, r"a fault of its own \(500\)"),
            (Fault.HTML, r"a fault of its own \(502\)"),
            (Fault.RESET, "cannot be reached"),
            (Fault.EXPIRED, "does not accept the sign-in"),
        )
    ),
]


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [pytest.param(spoil, sentence, id=name) for name, spoil, sentence in SENTENCES],
)
def test_every_failure_is_a_sentence_for_the_operator(
    stage: Stage,
    sheets: SheetsServer,
    spreadsheet: str,
    spoil: Callable[[SheetsServer, str], None],
    sentence: str,
) -> None:
    spoil(sheets, spreadsheet)
    with pytest.raises(SheetError, match=sentence) as raised:
        list(stage.mirror.init())
    assert "\n" not in str(raised.value)
    assert "PRIVATE KEY" not in str(raised.value)


def test_a_spreadsheet_that_is_not_there(sheets: SheetsServer, tmp_path: Path) -> None:
    stage = raise_stage(sheets, "nowhere", tmp_path / "l.db")
    with pytest.raises(SheetError, match=r"no such spreadsheet.*check SLUICE_SHEET_ID"):
        list(stage.mirror.init())


@pytest.mark.parametrize(
    "text",
    [
        "1AbC-d_9",
        " https://docs.google.com/spreadsheets/d/1AbC-d_9/edit#gid=0 ",
        "https://docs.google.com/spreadsheets/u/1/d/1AbC-d_9/edit?usp=sharing",
    ],
)
def test_an_id_or_the_whole_address_names_a_spreadsheet(text: str) -> None:
    assert spreadsheet_id(text) == "1AbC-d_9"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sheet_id": "my sheet"}, "expected the id of a spreadsheet"),
        (
            {"sheet_id": "https://docs.google.com/spreadsheets/d/e/2PACX-1v/pubhtml"},
            "published copy",
        ),
        ({"credentials": None}, "missing; with SLUICE_SHEET_ID"),
        ({"credentials": "/nowhere/key.json"}, "cannot be read: No such file"),
        ({"credentials": "{"}, "not JSON"),
        ({"credentials": '{"installed": {}}'}, "the file of an OAuth client"),
        ({"credentials": '{"type": "authorized_user"}'}, "got 'authorized_user'"),
        ({"credentials": '{"type": "service_account"}'}, "cannot be used"),
    ],
)
def test_a_wrong_setting_is_one_line(
    sheets: SheetsServer, changes: dict[str, str | None], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as raised:
        Google(SheetConfig.read({**config(sheets, "x"), **changes}))
    assert "\n" not in str(raised.value)


def test_credentials_may_be_a_path(sheets: SheetsServer, tmp_path: Path) -> None:
    own = config(sheets, "x")
    path = tmp_path / "key.json"
    path.write_text(own["credentials"] or "")
    google = Google(SheetConfig.read({**own, "credentials": str(path)}))
    assert google.email == sheets.email
