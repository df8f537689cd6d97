"""An empty disk and the spreadsheet: all keys are back."""

from dataclasses import replace
from pathlib import Path

import pytest

from keys.mirror import audit
from tests.keys.mirror.stage import Stage, raise_stage
from tests.sheets_server.server import SheetsServer

TAB = "User API Keys"


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "before.db")
    sheets.quota.clock = stage.clock
    return stage


def again(stage: Stage, path: Path) -> Stage:
    """Another ledger, with nothing in it, on the same spreadsheet."""
    return raise_stage(stage.sheets, stage.spreadsheet, path, stage.clock)


def test_all_keys_come_back_and_work(stage: Stage, tmp_path: Path) -> None:
    secrets = [
        stage.ledger.create_key(f"user{number}@example.com", f"=name {number}", "gold").secret
        for number in range(20)
    ]
    before = stage.ledger.keys()
    stage.settle()
    person = stage.sheets.person(stage.spreadsheet)
    person.set(TAB, {"Key ID": before[3].id}, {"Revoked": True})
    person.set(TAB, {"Key ID": before[4].id}, {"Notes": "for the demo"})
    person.shuffle(TAB)
    person.move_column(TAB, "Key Hash", "API Key")

    after = again(stage, tmp_path / "after.db")
    after.run(1)
    restored = after.ledger.keys()
    assert {replace(key, created_at=before[0].created_at, revoked_at=None) for key in restored} == {
        replace(
            key,
            created_at=before[0].created_at,
            notes="for the demo" if key.id == before[4].id else "",
        )
        for key in before
    }
    drift = [
        abs((new.created_at - old.created_at).total_seconds())
        for new, old in zip(restored, before, strict=True)
    ]
    assert max(drift) < 0.01
    found = [after.ledger.find(secret) for secret in secrets]
    assert [key.revoked for key in found if key] == [index == 3 for index in range(20)]

    # Nothing is listed twice, nothing is changed, and what is made next is added.
    after.settle()
    after.mint("new@example.com")
    after.settle()
    assert len(after.records(TAB)) == 21
    assert after.mirror.status()["problems"] == []
    with after.ledger.reading() as connection:
        told = [entry.why for entry in audit.entries(connection)]
    assert told == ["restored"] * 20


def test_usage_goes_on_where_it_was(stage: Stage, tmp_path: Path) -> None:
    stage.mint("ada@example.com")
    ids = stage.use(10)
    stage.settle()
    after = again(stage, tmp_path / "after.db")
    after.run(1)
    after.keys = list(after.ledger.keys())
    ids += after.use(10)
    after.settle()
    after.assert_exact(ids)


def test_a_ledger_with_keys_takes_none_from_the_spreadsheet(stage: Stage, tmp_path: Path) -> None:
    stage.mint("ada@example.com")
    stage.settle()
    other = again(stage, tmp_path / "other.db")
    other.mint("bob@example.com")
    other.settle()
    other.run(30)
    assert [key.email for key in other.ledger.keys()] == ["bob@example.com"]
    assert len(other.records(TAB)) == 2


def test_rows_that_are_damaged_are_named_and_the_others_come_back(
    stage: Stage, tmp_path: Path
) -> None:
    one, two, three = stage.mint("a@example.com", "b@example.com", "c@example.com")
    stage.settle()
    person = stage.sheets.person(stage.spreadsheet)
    person.set(TAB, {"Key ID": two.id}, {"Key Hash": "gone"})
    after = again(stage, tmp_path / "after.db")
    after.run(1)
    assert {key.id for key in after.ledger.keys()} == {one.id, three.id}
    assert any("Key Hash" in str(text) for text in after.mirror.book.alarms.texts())


def test_a_broken_header_gives_back_no_key_until_it_is_whole(stage: Stage, tmp_path: Path) -> None:
    (key,) = stage.mint("a@example.com")
    stage.settle()
    person = stage.sheets.person(stage.spreadsheet)
    person.rename_header(TAB, "Key Hash", "Hash")
    after = again(stage, tmp_path / "after.db")
    after.run(13)
    assert after.ledger.keys() == []
    assert any("'Key Hash' is missing" in text for text in after.mirror.book.alarms.texts())
    person.rename_header(TAB, "Hash", "Key Hash")
    after.run(26)
    assert [it.id for it in after.ledger.keys()] == [key.id]
