"""What Google refuses holds nothing else up, counts all the same, and is written once it can be."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from keys.mirror.google import SheetRefused
from tests.keys.mirror.stage import Stage, assert_same, raise_stage
from tests.sheets_server.faults import Fault
from tests.sheets_server.server import SheetsServer

USERS = [f"user{number}.x@example.com" for number in range(8)]


@pytest.fixture
def stage(
    sheets: SheetsServer, spreadsheet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.mint(*USERS)
    stage.settle()
    live_by_its_clock(stage, monkeypatch)
    return stage


def live_by_its_clock(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    start, flusher = datetime.now(UTC), stage.mirror._flusher

    def now() -> datetime:
        return start + timedelta(seconds=stage.clock.now)

    monkeypatch.setattr(flusher, "_now", now)
    monkeypatch.setattr(flusher._aside, "_now", now)
    monkeypatch.setattr(flusher._aside, "_rest", now())


class Refusing:
    """Google does not take requests with certain text, and names their places; or does not."""

    def __init__(self, stage: Stage, patch: pytest.MonkeyPatch) -> None:
        self._patterns: list[str] = []
        self.words = "Invalid requests[{place}].{kind}: no."
        self.refused = 0
        google = stage.mirror._flusher._hasty
        update = google.update

        def refuse(body: bytes) -> dict[str, object]:
            for place, request in enumerate(orjson.loads(body)["requests"]):
                text = orjson.dumps(request).decode()
                if any(re.search(pattern, text) for pattern in self._patterns):
                    google.writes.spend()
                    self.refused += 1
                    raise SheetRefused(self.words.format(place=place, kind=next(iter(request))))
            return update(body)

        patch.setattr(google, "update", refuse)

    def __call__(self, *patterns: str) -> None:
        self._patterns = list(patterns)


@pytest.fixture
def refuse(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Refusing:
    return Refusing(stage, monkeypatch)


def requests_in(stage: Stage, tab: str) -> int:
    return sum(int(str(line["Requests"])) for line in stage.records(tab))


@pytest.mark.parametrize(
    "words",
    ["Invalid requests[{place}].{kind}: no.", "Your input contains more than it may."],
    ids=["with its place", "without"],
)
def test_one_row_is_left_out_and_counted(stage: Stage, refuse: Refusing, words: str) -> None:
    refuse.words = words
    ids = stage.use(80)
    bad = ids[17]
    refuse(bad)
    stage.run(900)
    assert_same(stage.ids(), [id for id in ids if id != bad])
    status = stage.mirror.status()
    assert (status["backlog_rows"], status["quarantined_rows"], status["state"]) == (0, 1, "ok")
    assert bad in str(status["problems"])
    for tab in ("_daily", "_key_stats", "User API Keys"):
        assert requests_in(stage, tab) == 80
    refuse()
    stage.run(3700)
    stage.assert_exact(ids)
    assert stage.mirror.status()["problems"] == []


def test_a_tab_that_cannot_be_made_delays_nobody_else(stage: Stage, refuse: Refusing) -> None:
    refuse("addSheet.*user3_")
    ids = stage.use(80)
    stage.run(10)
    others = [id for number, id in enumerate(ids) if number % 8 != 3]
    assert_same(stage.ids(), others)
    for _ in range(10):
        ids += stage.use(8)
        stage.run(6)
    others += [id for number, id in enumerate(ids[80:]) if number % 8 != 3]
    assert_same(stage.ids(), others)
    assert requests_in(stage, "_daily") == 160
    # It is asked for now and then, not with every write.
    refused = refuse.refused
    stage.run(600)
    assert refuse.refused - refused < 10
    assert stage.mirror.status()["quarantined_rows"] == 20
    refuse()
    stage.run(1300)
    stage.assert_exact(ids)
    assert stage.mirror.status()["problems"] == []


def test_more_tabs_than_a_spreadsheet_bears_leave_the_others_alone(
    stage: Stage, refuse: Refusing
) -> None:
    old = stage.use(8)
    stage.settle()
    refuse("addSheet")
    new = stage.use(30, stage.mint(*(f"new{number}@example.com" for number in range(30))))
    stage.run(90)
    ids = stage.use(8, stage.keys[:8])
    stage.run(20)
    assert_same(stage.ids(), old + ids)
    refuse()
    stage.run(1300)
    stage.assert_exact(old + new + ids)


def test_text_that_even_the_roll_up_is_refused_with_counts_as_other(
    stage: Stage, refuse: Refusing
) -> None:
    refuse("poison")
    ids = stage.use(20)
    bad = stage.use(1, model="poison")
    ids += stage.use(20)
    stage.run(600)
    assert_same(stage.ids(), ids)
    assert requests_in(stage, "_daily") == 41
    (other,) = [line for line in stage.records("_daily") if line["Model"] == "(other)"]
    assert other["Requests"] == 1
    assert stage.mirror.status()["quarantined_rows"] == 1
    assert bad[0] in str(stage.mirror.status()["problems"])


def test_what_was_set_aside_is_written_after_a_restart(
    stage: Stage,
    refuse: Refusing,
    sheets: SheetsServer,
    spreadsheet: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuse("addSheet.*user3_")
    ids = stage.use(16)
    stage.run(30)
    again = raise_stage(sheets, spreadsheet, tmp_path / "l.db", stage.clock)
    live_by_its_clock(again, monkeypatch)
    again.keys = stage.keys
    ids += again.use(8)
    again.run(60)
    again.assert_exact(ids)


@pytest.mark.parametrize("fault", [Fault.RESET, Fault.RESET_AFTER], ids=lambda fault: fault.name)
def test_a_second_try_whose_outcome_is_unknown_is_not_made_twice(
    stage: Stage, refuse: Refusing, fault: Fault
) -> None:
    refuse("addSheet.*user3_")
    ids = stage.use(16)
    stage.run(10)
    refuse()
    stage.sheets.faults.next(fault, on="write", times=2)
    stage.run(1300)
    stage.assert_exact(ids)
