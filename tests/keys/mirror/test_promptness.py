"""A revocation is read in time, whatever else the mirror waits for."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from keys.mirror import SheetsMirror
from keys.mirror.mirror import Pace
from tests.keys.mirror.stage import Stage, config, raise_stage
from tests.sheets_server.faults import Fault
from tests.sheets_server.server import SheetsServer

TAB = "User API Keys"


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Iterator[Stage]:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.ledger.start()
    stage.mint(*(f"user{number}@example.com" for number in range(10)))
    stage.settle()
    stage.run(30)
    yield stage
    stage.ledger.close()


def tick_one(stage: Stage) -> str:
    key = stage.keys[3].id
    stage.sheets.person(stage.spreadsheet).set(TAB, {"Key ID": key}, {"Revoked": "perhaps"})
    return key


def revoked(stage: Stage) -> set[str]:
    return {key.id for key in stage.ledger.keys() if key.revoked}


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.RESET, Fault.HTML], ids=str)
def test_after_an_outage_however_long(stage: Stage, fault: Fault) -> None:
    with stage.sheets.faults.outage(fault):
        stage.run(900)
        key = tick_one(stage)
    stage.run(5)
    assert revoked(stage) == {key}


def test_after_the_share_was_taken_away_for_a_while(stage: Stage) -> None:
    stage.sheets.share(stage.spreadsheet, None)
    stage.run(300)
    assert stage.mirror.status()["state"] == "down"
    stage.sheets.share(stage.spreadsheet, "writer")
    key = tick_one(stage)
    stage.run(13)
    assert revoked(stage) == {key}


def test_while_usage_rows_would_take_every_read_that_is_left(stage: Stage) -> None:
    budget = stage.mirror.book.google.reads
    stage.clock.now += 60
    stage.use(5)
    for _ in range(36):
        budget.spend()
    key = tick_one(stage)
    rows = len(stage.ids())
    stage.run(13)
    assert revoked(stage) == {key}
    assert len(stage.ids()) == rows
    stage.run(60)
    assert len(stage.ids()) == rows + 5


@pytest.mark.parametrize("on", ["read", "write"])
def test_a_call_that_hangs_is_given_up_soon(
    stage: Stage, sheets: SheetsServer, spreadsheet: str, tmp_path: Path, on: str
) -> None:
    mirror = SheetsMirror(
        stage.ledger,
        config(sheets, spreadsheet),
        now=stage.clock,
        pace=Pace(patience=0.3),
        timeouts=(5.0, 0.3),
    )
    sheets.faults.seconds = 20
    stage.use(1)
    sheets.faults.next(Fault.HANG, on="read" if on == "read" else "write")
    begun = time.monotonic()
    mirror.tick()
    assert time.monotonic() - begun < 10
    assert "did not answer in time" in str(mirror.status()["problems"])


def test_the_status_says_when_the_tab_was_last_looked_at(stage: Stage) -> None:
    before = stage.mirror.status()["last_look"]
    assert isinstance(before, str)
    with stage.sheets.faults.outage():
        stage.run(60)
        assert stage.mirror.status()["last_look"] == before
