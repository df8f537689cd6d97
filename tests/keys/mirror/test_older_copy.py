"""A ledger that was restored from an older copy is noticed, and doubles nothing."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from keys.mirror.reconcile import Patient, Reconciliation
from tests.keys.mirror.stage import Clock, Stage, assert_same, raise_stage
from tests.sheets_server.server import SheetsServer


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.mint("ada@example.com", "bob@example.com")
    stage.use(20)
    stage.settle()
    return stage


def restore(stage: Stage, copy: Path, path: Path) -> Stage:
    shutil.copy(copy, path)
    clock = Clock(stage.clock.now + 100)
    stage.sheets.quota.clock = clock
    again = raise_stage(stage.sheets, stage.spreadsheet, path, clock)
    again.keys = stage.keys
    return again


def copy_of(stage: Stage, path: Path) -> Path:
    with closing(sqlite3.connect(path.with_name("l.db"))) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    return path


def test_it_is_said_until_somebody_reconciles(stage: Stage, tmp_path: Path) -> None:
    waiting = stage.use(6)
    copy = copy_of(stage, tmp_path / "copy.db")
    stage.settle()
    later = stage.use(10)
    stage.settle()

    again = restore(stage, copy, tmp_path / "again.db")
    again.settle()
    assert "restored from an older copy" in str(again.mirror.status()["problems"])
    assert "restored from an older copy" in str(again.mirror.remembered()["problems"])
    more = again.use(5)
    again.settle()
    there = again.ids()
    assert len(there) == len(set(there)) == 41
    assert {*waiting, *later, *more} <= set(there)
    assert "restored from an older copy" in str(again.mirror.status()["problems"])

    def sleep(seconds: float) -> None:
        again.clock.now += seconds

    run = Reconciliation([again.mirror.book], Patient(sleep, again.clock)).run(repair=False)
    assert "10 that this ledger does not know" in list(run)[-1]
    again.run(70)
    again.settle()
    assert again.mirror.status()["problems"] == []


def test_a_ledger_that_was_only_stopped_is_no_copy(stage: Stage, tmp_path: Path) -> None:
    ids = stage.ids() + stage.use(6)
    copy = copy_of(stage, tmp_path / "copy.db")
    again = restore(stage, copy, tmp_path / "again.db")
    again.settle()
    assert again.mirror.status()["problems"] == []
    assert_same(again.ids(), ids)
