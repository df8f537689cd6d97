"""People rename, move and delete in the spreadsheet while it is written to."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keys.tabs import USAGE_COLUMNS
from tests.keys.mirror.stage import Stage, assert_same, raise_stage
from tests.sheets_server.person import Person
from tests.sheets_server.server import SheetsServer

TAB = "ada_at_example_dot_com"
OTHER = "bob_at_example_dot_com"


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.mint("ada@example.com", "bob@example.com")
    return stage


@pytest.fixture
def person(stage: Stage) -> Person:
    return stage.sheets.person(stage.spreadsheet)


def assert_in_place(stage: Stage) -> None:
    """Every value under its header, whatever else is there."""
    for tab in stage.users():
        for record in stage.records(tab):
            if "Model" in record and record["Model"] != "":
                assert record["Model"] == "demo"
            for header, value in (("Status", "ok"), ("Tokens In", 30), ("Tokens Out", 12)):
                assert record.get(header, value) in (value, "")
            assert str(record["Key ID"]).startswith("key_")
            assert len(str(record["Request ID"])) == 36


@pytest.mark.parametrize("more", [True, False], ids=["more rows follow", "no more rows follow"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda person: person.move_column(TAB, "Request ID", "Timestamp"),
        lambda person: person.insert_column(TAB, "Model", "Remarks"),
        lambda person: person.delete_column(TAB, "Provider"),
    ],
    ids=["a moved column", "an inserted column", "a deleted column"],
)
def test_columns_that_move_between_a_look_and_the_write_are_put_right(
    stage: Stage,
    person: Person,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Person], None],
    more: bool,
) -> None:
    ids = stage.use(12)
    stage.settle()
    flusher = stage.mirror._flusher
    start = datetime.now(UTC)
    monkeypatch.setattr(flusher, "_now", lambda: start + timedelta(seconds=stage.clock.now))
    update, moved = flusher._hasty.update, []

    def late(body: bytes) -> dict[str, object]:
        if b"appendCells" in body and not moved:
            moved.append(True)
            edit(person)
        return update(body)

    monkeypatch.setattr(flusher._hasty, "update", late)
    ids += stage.use(12)
    stage.run(10)
    if more:
        ids += stage.use(12)
    stage.run(70)
    assert moved
    assert_same(stage.ids(), ids)
    assert_in_place(stage)


EDITS: dict[str, Callable[[Person], None]] = {
    "a renamed tab": lambda person: person.rename_tab(TAB, "Ada"),
    "two tabs with each other's name": lambda person: (
        person.rename_tab(TAB, "x"),
        person.rename_tab(OTHER, TAB),
        person.rename_tab("x", OTHER),
    )[-1],
    "a name with an apostrophe": lambda person: person.rename_tab(TAB, "Ada's: D3!"),
    "an inserted column": lambda person: person.insert_column(TAB, "Model", "Remarks"),
    "an inserted column without a header": lambda person: person.insert_column(TAB, "Email"),
    "a moved column": lambda person: person.move_column(TAB, "Request ID", "Timestamp"),
    "sorted rows": lambda person: person.sort(TAB, "Request ID"),
    "a filter": lambda person: person.add_filter(TAB),
    "hidden rows": lambda person: person.hide_rows(TAB, 2, 3),
    "a moved machine column": lambda person: person.shuffle("User API Keys"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_rows_go_on_in_their_places_after(
    stage: Stage, person: Person, edit: Callable[[Person], None]
) -> None:
    ids = stage.use(10)
    stage.settle()
    edit(person)
    ids += stage.use(10)
    stage.settle()
    stage.assert_exact(ids)
    assert_in_place(stage)
    assert stage.mirror.status()["problems"] == []


BREAKAGES: dict[str, Callable[[Person], None]] = {
    "a deleted column": lambda person: person.delete_column(TAB, "Cost"),
    "a renamed header": lambda person: person.rename_header(TAB, "Model", "Modell"),
    "an emptied header": lambda person: person.rename_header(TAB, "Status", ""),
    "a deleted header row": lambda person: person.delete_rows(TAB, 1),
    "a row above the header": lambda person: person.insert_rows(TAB, 1),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_a_tab_that_lost_a_header_gets_it_back_and_is_told_of(
    stage: Stage, person: Person, breakage: Callable[[Person], None]
) -> None:
    ids = stage.use(10)
    stage.settle()
    breakage(person)
    ids += stage.use(10)
    stage.settle()
    tab = stage.book.tab(TAB)
    assert {column.header for column in USAGE_COLUMNS} <= set(tab.header)
    there = {str(value) for line in tab.values() for value in line}
    other = {str(record["Request ID"]) for record in stage.records(OTHER)}
    assert set(ids) <= there | other
    assert any(TAB in str(text) for text in stage.mirror.status()["problems"])  # type: ignore[attr-defined]


def test_a_deleted_tab_is_made_anew_for_the_rows_to_come(stage: Stage, person: Person) -> None:
    stage.use(10)
    stage.settle()
    person.delete_tab(TAB)
    ids = stage.use(10)
    stage.settle()
    assert_same([str(line["Request ID"]) for line in stage.records(TAB)], ids[::2])


@pytest.mark.parametrize("name", ["_daily", "_key_stats", "_gateway", "User API Keys"])
def test_a_deleted_tab_of_the_machine_is_made_anew_with_what_was_in_it(
    stage: Stage, person: Person, name: str
) -> None:
    ids = stage.use(10)
    stage.settle()
    before = stage.book.tab(name).values()
    person.delete_tab(name)
    ids += stage.use(10)
    stage.settle()
    stage.run(300)
    stage.assert_exact(ids)
    assert len(stage.book.tab(name).values()) == len(before)
    # And after all of them at once.
    for each in ("_daily", "_key_stats", "_gateway", "User API Keys"):
        person.delete_tab(each)
    ids += stage.use(4)
    stage.settle()
    stage.run(300)
    stage.assert_exact(ids)


def test_new_keys_wait_while_the_header_of_the_keys_is_broken(stage: Stage, person: Person) -> None:
    stage.settle()
    person.rename_header("User API Keys", "Revoked", "Blocked")
    stage.mint("eve@example.com")
    ids = stage.use(6)
    stage.settle()
    assert_same(stage.ids(), ids)
    assert len(stage.records("User API Keys")) == 2
    assert any("'Revoked' is missing" in str(text) for text in stage.mirror.status()["problems"])  # type: ignore[attr-defined]
    person.rename_header("User API Keys", "Blocked", "Revoked")
    stage.run(120)
    assert len(stage.records("User API Keys")) == 3
    assert stage.mirror.status()["problems"] == []


def test_counters_follow_their_keys_through_a_sort(stage: Stage, person: Person) -> None:
    ada, _ = stage.keys
    stage.use(5, [ada])
    stage.settle()
    person.sort("User API Keys", "User Email", descending=True)
    stage.use(2, [ada])
    stage.settle()
    lines = {line["Key ID"]: line["Requests"] for line in stage.records("User API Keys")}
    assert lines[ada.id] == 7
    assert sorted(map(int, map(str, lines.values()))) == [0, 7]


def test_a_share_that_is_taken_back_is_told_of_and_heals(
    stage: Stage, sheets: SheetsServer, spreadsheet: str
) -> None:
    ids = stage.use(4)
    stage.settle()
    sheets.share(spreadsheet, "reader")
    ids += stage.use(4)
    stage.run(120)
    status = stage.mirror.status()
    assert status["state"] == "down"
    assert f"share the spreadsheet with {sheets.email} as Editor" in str(status["problems"])
    sheets.share(spreadsheet, "writer")
    stage.settle()
    stage.assert_exact(ids)
