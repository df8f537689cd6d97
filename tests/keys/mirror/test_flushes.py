"""Rows in the ledger are rows in the spreadsheet: all of them, once, whatever Google does."""

import json
import random
import tracemalloc
from pathlib import Path

import pytest

from tests.keys.mirror.stage import Clock, Stage, assert_same, raise_stage
from tests.sheets_server.faults import TRANSIENT, Fault
from tests.sheets_server.server import SheetsServer

USERS = [f"user{number}.x@example.com" for number in range(12)]


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.mint(*USERS)
    return stage


def test_two_thousand_rows_arrive_once_while_every_eighth_call_fails(
    stage: Stage, sheets: SheetsServer
) -> None:
    sheets.faults.share(0.12, seed=7)
    ids: list[str] = []
    for _ in range(40):
        ids += stage.use(50)
        stage.run(10)
    sheets.faults.clear()
    stage.settle()
    stage.assert_exact(ids)
    assert len(ids) == 2000
    assert stage.most_writes_a_minute() <= 45
    assert stage.mirror.status()["problems"] == []


@pytest.mark.parametrize("fault", [*TRANSIENT, Fault.STALE], ids=lambda fault: fault.name)
def test_each_fault_alone_neither_loses_nor_doubles(
    stage: Stage, sheets: SheetsServer, fault: Fault
) -> None:
    ids = stage.use(5)
    stage.settle()
    for skip in range(4):
        sheets.faults.next(fault, times=2, skip=skip)
        ids += stage.use(5)
        stage.run(200)
        sheets.faults.clear()
    stage.settle()
    stage.assert_exact(ids)


def test_a_flush_whose_answer_was_lost_is_sent_byte_for_byte_after_a_restart(
    stage: Stage, sheets: SheetsServer, spreadsheet: str, tmp_path: Path
) -> None:
    stage.settle()
    ids = stage.use(7)
    sheets.faults.next(Fault.RESET, on="write")
    stage.tick()
    lost = sheets.writes[-1]
    assert not lost.applied
    again = raise_stage(sheets, spreadsheet, tmp_path / "l.db", Clock(stage.clock.now + 100))
    again.use(3, stage.keys)
    again.mirror.tick()
    assert sheets.writes[-1].body == lost.body
    assert sheets.writes[-1].applied
    assert_same(again.ids(), ids)


def test_a_flush_that_was_applied_unseen_is_not_sent_again_after_a_restart(
    stage: Stage, sheets: SheetsServer, spreadsheet: str, tmp_path: Path
) -> None:
    stage.settle()
    ids = stage.use(7)
    sheets.faults.next(Fault.RESET_AFTER, on="write")
    stage.tick()
    assert sheets.writes[-1].applied
    count = len(sheets.writes)
    again = raise_stage(sheets, spreadsheet, tmp_path / "l.db", Clock(stage.clock.now + 100))
    again.settle()
    assert len(sheets.writes) == count
    stage.assert_exact(ids)


@pytest.mark.parametrize("share", [0.0, 0.12])
def test_two_gateways_on_one_spreadsheet_take_turns(
    stage: Stage, sheets: SheetsServer, spreadsheet: str, tmp_path: Path, share: float
) -> None:
    other = raise_stage(sheets, spreadsheet, tmp_path / "other.db", stage.clock)
    other.mint("zoe@example.com", *USERS[:3])
    ids: list[str] = []
    chance = random.Random(3)
    if share:
        sheets.faults.share(share, seed=5)
    for _ in range(30):
        for each in (stage, other):
            ids += each.use(chance.randrange(0, 12))
        for each in chance.sample([stage, other, stage, other], k=3):
            each.mirror.tick()
        stage.clock.now += 5
    sheets.faults.clear()
    for _ in range(3):
        stage.settle()
        other.settle()
    stage.assert_exact(ids)


def test_an_outage_is_caught_up_in_bodies_of_two_megabytes_and_bounded_memory(
    stage: Stage, sheets: SheetsServer
) -> None:
    stage.settle()
    ids: list[str] = []
    with sheets.faults.outage():
        for _ in range(10):
            ids += stage.use(1000)
            stage.run(60)
        status = stage.mirror.status()
        assert status["state"] == "behind"
        assert status["backlog_rows"] == 10_000
    sheets.requests.clear()
    tracemalloc.start()
    while stage.mirror.status()["backlog_rows"]:
        stage.run(5)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The server of this test lives in the same process, and keeps all it was sent.
    kept = sum(len(call.body) for call in sheets.requests)
    assert peak < 50 * 2**20 + 40 * kept
    assert max(len(call.body) for call in sheets.writes) <= 2_000_000
    assert stage.most_writes_a_minute() <= 45
    stage.settle()
    stage.assert_exact(ids)


def test_text_that_looks_like_a_formula_stays_text(stage: Stage) -> None:
    texts = ["=IMPORTDATA(A2)", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "007", "1-2", "TRUE"]
    for text in texts:
        stage.use(1, stage.keys[:1], model=text, provider=text)
    stage.ledger.create_key("eve@example.com", "=1+1")
    stage.settle()
    tab = stage.book.tab("user0_dot_x_at_example_dot_com")
    for row in range(1, len(texts) + 1):
        assert set(tab.cell((row, 3))["userEnteredValue"]) == {"stringValue"}
    assert {record["Model"] for record in tab.records()} >= {"=IMPORTDATA(A2)", "007", "1-2"}
    listed = {record["Key Name"] for record in stage.records("User API Keys")}
    assert listed == {"laptop", "=1+1"}


def test_no_secret_is_in_the_spreadsheet_or_its_requests(
    stage: Stage, sheets: SheetsServer
) -> None:
    secret = stage.ledger.create_key("mallory@example.com").secret
    stage.settle()
    record = next(
        line
        for line in stage.records("User API Keys")
        if line["User Email"] == "mallory@example.com"
    )
    assert record["API Key"] == f"{secret[:7]}…{secret[-4:]}"
    assert secret not in stage.book.text()
    assert all(secret.encode() not in call.body for call in sheets.requests)


def test_what_is_said_of_the_mirror_is_json(stage: Stage) -> None:
    stage.use(3)
    stage.settle()
    assert stage.use(1)
    stage.settle()
    status = json.loads(json.dumps(dict(stage.mirror.status())))
    assert status["state"] == "ok"
    assert status["last_flush"]
    assert status["cells_used"] > 0
    assert status["problems"] == []


def test_rows_go_on_in_the_next_spreadsheet_when_one_is_full(
    sheets: SheetsServer, tmp_path: Path
) -> None:
    ids = [sheets.create(title) for title in ("first", "second", "third")]
    # The first holds 26,000 blank cells and the tabs; the second 26,000 and what it is given.
    stage = raise_stage(sheets, ",".join(ids), tmp_path / "l.db", full=0.0031)
    sheets.quota.clock = stage.clock
    stage.spreadsheet = ids[0]
    stage.mint(*USERS)
    rows: list[str] = []
    sheets.faults.share(0.12, seed=11)
    for _ in range(12):
        rows += stage.use(150)
        stage.run(40)
    sheets.faults.clear()
    stage.settle()
    there: list[list[str]] = []
    for id in ids:
        stage.spreadsheet = id
        there.append(stage.ids())
    assert all(there)
    assert_same([row for part in there for row in part], rows)
    stage.spreadsheet = ids[0]
    for name in ("_daily", "_key_stats", "User API Keys"):
        assert sum(int(str(line["Requests"])) for line in stage.records(name)) == len(rows)
    assert set(sheets.spreadsheet(ids[1]).titles) & {"User API Keys", "_daily"} == set()


def test_a_spreadsheet_that_fills_up_without_a_next_one_is_told_of_before(
    sheets: SheetsServer, spreadsheet: str, tmp_path: Path
) -> None:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db", full=0.001)
    stage.mint("ada@example.com")
    ids = stage.use(5)
    stage.settle()
    stage.assert_exact(ids)
    assert "name one more in SLUICE_SHEET_ID" in str(stage.mirror.status()["problems"])
