"""The same rows on both sides, each once: told, and put right."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from keys.mirror.reconcile import Patient, Reconciliation
from tests.keys.mirror.stage import Stage, assert_same, raise_stage
from tests.sheets_server.faults import Fault
from tests.sheets_server.person import Person
from tests.sheets_server.server import SheetsServer

TAB = "ada_at_example_dot_com"


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Stage:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.mint("ada@example.com", "bob@example.com")
    return stage


@pytest.fixture
def person(stage: Stage) -> Person:
    return stage.sheets.person(stage.spreadsheet)


def reconcile(
    stage: Stage, *, repair: bool = False, meanwhile: Callable[[], None] = lambda: None
) -> list[str]:
    return list(_rows(stage, repair, meanwhile))


def _rows(
    stage: Stage, repair: bool, meanwhile: Callable[[], None] = lambda: None
) -> Generator[str, None, bool]:
    def sleep(seconds: float) -> None:
        stage.clock.now += seconds
        meanwhile()

    patient = Patient(sleep, stage.clock)
    return Reconciliation([stage.mirror.book], patient).run(repair=repair)


def agree(stage: Stage, *, repair: bool = False) -> bool:
    """What the runs return: the command's exit status."""
    answers = []
    stage.clock.now += 60
    for run in (_rows(stage, repair), stage.mirror._intake.reconcile(repair=repair)):

        def last(run: Generator[str, None, bool] = run) -> Iterator[str]:
            answers.append((yield from run))

        list(last())
    return all(answers)


def ids_of(stage: Stage) -> list[str]:
    return [str(line["Request ID"]) for line in stage.records(TAB)]


def test_nothing_is_said_to_be_wrong_where_nothing_is(stage: Stage, person: Person) -> None:
    stage.use(50)
    stage.settle()
    person.shuffle(TAB)
    person.move_column(TAB, "Request ID", "Timestamp")
    stage.use(3)
    writes, reads = len(stage.sheets.writes), len(stage.sheets.reads)
    lines = reconcile(stage)
    assert lines == [
        "2 users, 50 rows written to the spreadsheet, 3 waiting for the gateway to write them",
        "Both sides have the same rows, each once.",
    ]
    assert len(stage.sheets.writes) == writes
    assert len(stage.sheets.reads) - reads == 3


def test_what_is_wrong_is_told_and_not_touched(stage: Stage, person: Person) -> None:
    stage.use(20)
    stage.settle()
    lost = ids_of(stage)[2]
    person.delete_row(TAB, {"Request ID": lost})
    doubled = ids_of(stage)[4]
    person.copy_row(TAB, {"Request ID": doubled})
    person.add_row(TAB, {"Request ID": "made-up"})
    before = stage.book.tab(TAB).values()
    lines = reconcile(stage)
    assert lines[2] == (
        f"ada@example.com: 10 rows; 1 missing ({lost}); 1 doubled ({doubled});"
        " 1 unknown here (made-up)"
    )
    assert lines[3].startswith("In all: 1 missing, 1 doubled, 1 that this ledger does not know")
    assert stage.book.tab(TAB).values() == before


def test_missing_rows_are_written_and_doubled_ones_deleted(stage: Stage, person: Person) -> None:
    ids = stage.use(60)
    stage.settle()
    for row in (20, 3, 2):
        person.delete_rows(TAB, row)
    for where in (5, 5, 9):
        person.copy_row(TAB, where)
    person.shuffle(TAB)
    lines = reconcile(stage, repair=True)
    assert "ada@example.com: 3 doubled rows deleted" in lines
    assert "ada@example.com: 3 missing rows written" in lines
    stage.clock.now += 60
    assert reconcile(stage)[-1] == "Both sides have the same rows, each once."
    stage.assert_exact(ids)
    assert all(record["Model"] == "demo" for record in stage.records(TAB))


def test_whether_both_sides_are_the_same_is_told_at_the_end(stage: Stage, person: Person) -> None:
    stage.use(20)
    stage.settle()
    assert agree(stage)
    person.delete_rows(TAB, 3)
    person.copy_row(TAB, 5)
    assert not agree(stage)
    assert agree(stage, repair=True)
    assert agree(stage)
    person.rename_header("User API Keys", "Notes", "Remarks")
    assert not agree(stage)
    assert agree(stage, repair=True)
    person.add_row(TAB, {"Request ID": "made-up"})
    assert not agree(stage, repair=True)


def test_rows_of_another_gateway_are_told_and_no_difference(
    stage: Stage, sheets: SheetsServer, spreadsheet: str, tmp_path: Path
) -> None:
    other = raise_stage(sheets, spreadsheet, tmp_path / "other.db", stage.clock)
    other.mint("ada@example.com")
    for each in (stage, other):
        each.use(10)
        each.settle()
    lines = reconcile(stage)
    assert lines[-1] == (
        "Both sides have the same rows, each once. 10 more are of another gateway."
    )
    assert "10 of another gateway" in lines[-2]
    assert agree(stage)


def test_a_row_that_is_hit_because_somebody_moved_it_meanwhile_is_written_again(
    stage: Stage, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = stage.use(20)
    stage.settle()
    person.copy_row(TAB, 4)
    google = stage.mirror.book.google
    update = google.update

    def late(body: bytes) -> dict[str, object]:
        if b"deleteDimension" in body:
            person.insert_rows(TAB, 2)
        return update(body)

    monkeypatch.setattr(google, "update", late)
    lines = reconcile(stage, repair=True)
    assert any("somebody moved rows meanwhile, and 1 others were hit" in line for line in lines)
    assert set(stage.ids()) == set(ids)
    monkeypatch.undo()
    reconcile(stage, repair=True)
    stage.assert_exact(ids)


def test_rows_of_a_deleted_tab_come_back(stage: Stage, person: Person) -> None:
    ids = stage.use(30)
    stage.settle()
    person.delete_tab(TAB)
    assert "ada@example.com: 15 missing rows written" in reconcile(stage, repair=True)
    assert_same(stage.ids(), ids)
    ids += stage.use(4)
    stage.settle()
    assert_same(stage.ids(), ids)


def test_what_google_does_not_show_yet_is_not_missing(stage: Stage) -> None:
    stage.use(10)
    stage.settle()
    stage.use(10)
    stage.settle()
    stage.sheets.faults.next(Fault.STALE, times=3, on="read")
    lines = reconcile(stage, repair=True)
    assert "Something is missing; a second look in 45 seconds" in lines
    assert lines[-2:] == [
        "Both sides have the same rows, each once.",
        "There is nothing to repair.",
    ]


def test_rows_that_the_gateway_writes_meanwhile_are_nobodys_loss(stage: Stage) -> None:
    ids = stage.use(10)
    stage.settle()
    ids += stage.use(200)
    person = stage.sheets.person(stage.spreadsheet)
    person.delete_rows(TAB, 2)
    reconcile(stage, repair=True, meanwhile=stage.mirror.tick)
    stage.settle()
    assert_same(stage.ids(), ids)


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.HTML, Fault.QUOTA, Fault.RESET])
def test_reads_are_tried_again(stage: Stage, fault: Fault) -> None:
    stage.use(10)
    stage.settle()
    stage.sheets.faults.next(fault, times=2, on="read")
    assert reconcile(stage)[-1] == "Both sides have the same rows, each once."


def test_a_tab_without_its_ids_is_named_and_left_alone(stage: Stage, person: Person) -> None:
    stage.use(10)
    stage.settle()
    person.rename_header(TAB, "Request ID", "Id")
    before = stage.book.tab(TAB).values()
    lines = reconcile(stage, repair=True)
    assert f"the tab {TAB!r} has no column 'Request ID'" in lines[1]
    assert stage.book.tab(TAB).values() == before


def test_many_users_cost_few_reads_at_a_pace_that_leaves_room(stage: Stage) -> None:
    keys = stage.mint(*(f"user{number}@a-rather-long-domain.example.com" for number in range(150)))
    stage.use(300, keys)
    stage.settle()
    reads, begun = len(stage.sheets.reads), stage.clock.now
    assert reconcile(stage)[-1] == "Both sides have the same rows, each once."
    assert len(stage.sheets.reads) - reads <= 20
    assert (len(stage.sheets.reads) - reads) / max(1, (stage.clock.now - begun) / 60) <= 13
