"""A header of the tab of keys that was spoilt, put right on request."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keys.mirror import layout
from tests.keys.mirror.stage import Stage, raise_stage
from tests.sheets_server.person import Person
from tests.sheets_server.server import SheetsServer

TAB = "User API Keys"
HEADERS = [column.header for column in layout.LISTED_COLUMNS]


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    for number in range(8):
        stage.ledger.create_key(
            f"user{number}@example.com", f"laptop {number}", "gold" if number % 2 else "default"
        )
    stage.settle()
    stage.run(26)
    return stage


def header_row_gone(person: Person) -> None:
    person.delete_rows(TAB, 1)


def all_headers_emptied(person: Person) -> None:
    for header in HEADERS:
        person.rename_header(TAB, header, "")


SPOILT: dict[str, Callable[[Person], None]] = {
    "a renamed header": lambda person: person.rename_header(TAB, "Tier", "Level"),
    "two renamed headers": lambda person: (
        person.rename_header(TAB, "Key ID", "x"),
        person.rename_header(TAB, "Key Name", "y"),
    )[-1],
    "a renamed header of a moved column": lambda person: (
        person.rename_header(TAB, "User Email", ""),
        person.move_column(TAB, "Notes", "API Key"),
    )[-1],
    "a doubled header": lambda person: person.double_header(TAB, "Tier", over="Key Name"),
    "a deleted row": header_row_gone,
    "an emptied row": all_headers_emptied,
    "a deleted column": lambda person: person.delete_column(TAB, "Key Name"),
    "a deleted column of the gateway's": lambda person: person.delete_column(TAB, "Key Hash"),
    "a deleted Revoked": lambda person: person.delete_column(TAB, "Revoked"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_spoilt_header_is_put_right_and_no_key_is_changed(
    stage: Stage, spoil: Callable[[Person], None]
) -> None:
    gone = stage.ledger.keys()[3]
    stage.ledger.revoke_key(gone.id)
    stage.run(26)
    before = stage.ledger.keys()
    spoil(stage.sheets.person(stage.spreadsheet))
    stage.run(26)
    found = list(stage.mirror._intake.reconcile(repair=False))
    assert found, "nothing was told"
    told = list(stage.mirror._intake.reconcile(repair=True))
    assert len(told) > len(found)
    stage.run(40)
    assert stage.ledger.keys() == before
    header = stage.book.tab(TAB).header
    assert {name for name in HEADERS if header.count(name) == 1} == set(HEADERS)
    records = {line["Key ID"]: line for line in stage.records(TAB)}
    for key in before:
        line = records[key.id]
        assert (line["User Email"], line["Key Name"], line["Tier"]) == (
            key.email,
            key.name,
            key.tier,
        )
        assert line["API Key"] == key.masked
        assert line["Revoked"] is key.revoked
        assert line["Key Hash"]
    assert list(stage.mirror._intake.reconcile(repair=True)) == []
    assert stage.mirror.status()["problems"] == []


def test_a_whole_header_is_left_alone(stage: Stage) -> None:
    writes = len(stage.sheets.writes)
    assert list(stage.mirror._intake.reconcile(repair=True)) == []
    assert len(stage.sheets.writes) == writes
