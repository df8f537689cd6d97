"""People at the tab of keys, and a gateway that obeys them."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keys.ledger import SQLiteLedger
from keys.mint import mint_secret
from keys.mirror import SheetsMirror, audit, console
from keys.mirror.mirror import Pace
from tests.keys.mirror.stage import Stage, config, raise_stage
from tests.sheets_server.faults import Fault
from tests.sheets_server.person import Person
from tests.sheets_server.server import SheetsServer

TAB = "User API Keys"
LOOK = 13.0
"""Seconds in which the tab is surely looked at once."""


@pytest.fixture
def stage(sheets: SheetsServer, spreadsheet: str, tmp_path: Path) -> Iterator[Stage]:
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    sheets.quota.clock = stage.clock
    stage.ledger.start()
    stage.mint(*(f"user{number}@example.com" for number in range(10)))
    stage.settle()
    stage.run(2 * LOOK)
    yield stage
    stage.ledger.close()


@pytest.fixture
def person(stage: Stage) -> Person:
    return stage.sheets.person(stage.spreadsheet)


def problems(stage: Stage) -> str:
    return str(stage.mirror.status()["problems"])


def history(stage: Stage) -> list[tuple[str, str, str, str]]:
    with stage.ledger.reading() as connection:
        return [
            (entry.key_id, entry.field, entry.old, entry.new) for entry in audit.entries(connection)
        ]


def revoked(stage: Stage) -> set[str]:
    return {key.id for key in stage.ledger.keys() if key.revoked}


def row(stage: Stage, key_id: str) -> dict[str, object]:
    (found,) = [line for line in stage.records(TAB) if line["Key ID"] == key_id]
    return found


def test_a_look_without_a_change_writes_nothing(stage: Stage) -> None:
    writes, reads = len(stage.sheets.writes), len(stage.sheets.reads)
    stage.run(600)
    assert len(stage.sheets.writes) == writes
    assert (len(stage.sheets.reads) - reads) / 10 < 10  # a minute
    assert problems(stage) == "[]"


def test_edited_cells_change_keys_each_with_an_entry(stage: Stage, person: Person) -> None:
    one, two, *_ = stage.keys
    person.set(TAB, {"Key ID": one.id}, {"Revoked": True, "Notes": "left us"})
    person.set(TAB, {"Key ID": two.id}, {"Tier": "gold", "Key Name": "server"})
    stage.run(LOOK)
    assert revoked(stage) == {one.id}
    changed = stage.ledger.key(two.id)
    assert (changed.tier, changed.name) == ("gold", "server")
    assert set(history(stage)) == {
        (one.id, "revoked", "no", "yes"),
        (one.id, "notes", "", "left us"),
        (two.id, "tier", "default", "gold"),
        (two.id, "name", "laptop", "server"),
    }
    stage.run(10 * LOOK)
    assert len(history(stage)) == 4


MOVES: dict[str, Callable[[Person], None]] = {
    "sorted": lambda person: person.sort(TAB, "User Email", descending=True),
    "shuffled": lambda person: person.shuffle(TAB),
    "rows in between": lambda person: person.insert_rows(TAB, 4, 3),
    "a row above": lambda person: person.insert_rows(TAB, 1),
    "a column in between": lambda person: person.insert_column(TAB, "Tier", "Team"),
    "a moved column": lambda person: person.move_column(TAB, "Revoked", "API Key"),
    "a renamed tab": lambda person: person.rename_tab(TAB, "Keys: ours"),
    "a filter": lambda person: person.add_filter(TAB),
    "a copied tab's name": lambda person: person.add_tab("User API Keys 2"),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_where_rows_and_columns_are_means_nothing(
    stage: Stage, person: Person, move: Callable[[Person], None]
) -> None:
    move(person)
    stage.run(3 * LOOK)
    assert history(stage) == []
    (tab,) = [title for title in stage.book.titles if title in (TAB, "Keys: ours")]
    at = next(
        index for index, line in enumerate(stage.book.tab(tab).values()) if stage.keys[3].id in line
    )
    header = next(line for line in stage.book.tab(tab).values() if "Revoked" in line)
    column = "ABCDEFGHIJKLMNOP"[header.index("Revoked")]
    person.set_cell(tab, f"{column}{at + 1}", True)
    stage.run(LOOK)
    assert revoked(stage) == {stage.keys[3].id}


def test_a_key_revoked_by_command_is_ticked_in_the_tab(stage: Stage, person: Person) -> None:
    key = stage.keys[4]
    stage.ledger.revoke_key(key.id)
    person.shuffle(TAB)
    stage.run(2 * LOOK)
    assert row(stage, key.id)["Revoked"] is True
    assert sum(line["Revoked"] is True for line in stage.records(TAB)) == 1
    assert history(stage) == []
    person.set(TAB, {"Key ID": key.id}, {"Revoked": False})
    stage.run(LOOK)
    assert revoked(stage) == {key.id}
    stage.run(LOOK)
    assert revoked(stage) == set()
    assert history(stage) == [(key.id, "revoked", "yes", "no")]


def test_a_stale_read_brings_no_key_back(stage: Stage, person: Person) -> None:
    key = stage.keys[0]
    person.set(TAB, {"Key ID": key.id}, {"Revoked": True})
    stage.run(LOOK)
    assert revoked(stage) == {key.id}
    stage.sheets.faults.next(Fault.STALE, on="read")
    stage.run(4 * LOOK)
    assert revoked(stage) == {key.id}


def test_a_deleted_row_revokes_its_key_after_two_looks(stage: Stage, person: Person) -> None:
    key = stage.keys[2]
    person.delete_row(TAB, {"Key ID": key.id})
    stage.run(1)
    stage.run(LOOK)
    stage.run(LOOK)
    assert revoked(stage) == {key.id}
    stage.run(10 * LOOK)
    assert len(stage.records(TAB)) == 9


def test_many_deleted_rows_revoke_nothing_and_are_told_of(stage: Stage, person: Person) -> None:
    person.delete_rows(TAB, 2, 5)
    stage.run(6 * LOOK)
    assert revoked(stage) == set()
    assert "5 of 10 rows are gone at once" in problems(stage)
    for key in stage.keys[:5]:
        stage.ledger.revoke_key(key.id)
    stage.run(2 * LOOK)
    assert problems(stage) == "[]"


BREAKAGES: dict[str, Callable[[Person], None]] = {
    "a renamed header": lambda person: person.rename_header(TAB, "Tier", "Level"),
    "an emptied header": lambda person: person.rename_header(TAB, "Key ID", ""),
    "a doubled header": lambda person: person.double_header(TAB, "Revoked", over="Notes"),
    "a deleted column": lambda person: person.delete_column(TAB, "User Email"),
    "a deleted header row": lambda person: person.delete_rows(TAB, 1),
}


@pytest.mark.parametrize("breakage", BREAKAGES.values(), ids=BREAKAGES)
def test_a_broken_header_changes_no_key_and_is_told_of(
    stage: Stage, person: Person, breakage: Callable[[Person], None]
) -> None:
    before = stage.ledger.keys()
    breakage(person)
    stage.run(4 * LOOK)
    assert stage.ledger.keys() == before
    assert problems(stage) != "[]"


def test_a_header_that_is_back_is_believed_again(stage: Stage, person: Person) -> None:
    person.rename_header(TAB, "Revoked", "Blocked")
    person.set(TAB, {"Key ID": stage.keys[1].id}, {"Blocked": True, "Notes": "soon"})
    stage.run(2 * LOOK)
    assert revoked(stage) == set()
    assert "the column 'Revoked' is missing" in problems(stage)
    person.rename_header(TAB, "Blocked", "Revoked")
    stage.run(LOOK)
    assert revoked(stage) == {stage.keys[1].id}
    assert problems(stage) == "[]"


def test_a_deleted_tab_changes_no_key_and_comes_back_with_them(
    stage: Stage, person: Person
) -> None:
    before = stage.ledger.keys()
    person.delete_tab(TAB)
    stage.run(3 * LOOK)
    assert stage.ledger.keys() == before
    assert "is gone" in problems(stage)
    stage.use(1)
    stage.settle()
    stage.run(4 * LOOK)
    assert revoked(stage) == set()
    assert {line["Key ID"] for line in stage.records(TAB)} == {key.id for key in before}
    assert "is gone" not in problems(stage)


@pytest.mark.parametrize("pause", [0.5, 3, 8, 14])
def test_few_keys_outlive_their_tab_as_well(
    sheets: SheetsServer, tmp_path: Path, pause: float
) -> None:
    stage = raise_stage(sheets, sheets.create(), tmp_path / "few.db")
    sheets.quota.clock = stage.clock
    stage.mint("ada@example.com", "bob@example.com")
    stage.use(2)
    stage.settle()
    stage.run(3 * LOOK + pause)
    other = raise_stage(sheets, stage.spreadsheet, tmp_path / "other.db", stage.clock)
    other.mint("eve@example.com")
    other.settle()
    stage.run(LOOK)
    sheets.person(stage.spreadsheet).delete_tab(TAB)
    # Another gateway is faster to make it anew, and this one has nothing to write for a while.
    other.use(1)
    other.run(12)
    stage.run(10 * LOOK)
    assert revoked(stage) == revoked(other) == set()
    stage.use(1)
    stage.settle()
    stage.run(10 * LOOK)
    assert revoked(stage) == set()
    assert len(stage.records(TAB)) == 3


def test_a_locked_tab_is_read_all_the_same(stage: Stage, person: Person) -> None:
    person.protect(TAB)
    person.set(TAB, {"Key ID": stage.keys[1].id}, {"Revoked": True, "API Key": mint_secret()})
    stage.run(LOOK)
    assert revoked(stage) == {stage.keys[1].id}
    assert "cannot be written to" in problems(stage)
    person.unprotect(TAB)
    stage.run(2 * LOOK)
    assert row(stage, stage.keys[1].id)["API Key"] == stage.keys[1].masked
    assert problems(stage) == "[]"


@pytest.mark.parametrize("secret", [mint_secret(), "sk-old-" + "Zx81" * 8], ids=["ours", "brought"])
def test_a_pasted_key_works_and_is_hidden(
    stage: Stage, person: Person, secret: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stage.run(LOOK)
    calls = len(stage.sheets.requests)
    person.add_row(TAB, {"API Key": secret, "User Email": "eve@example.com", "Notes": secret})
    person.shuffle(TAB)
    stage.run(LOOK)
    key = stage.ledger.find(secret)
    assert key is not None
    assert (key.email, key.tier, key.revoked) == ("eve@example.com", "default", False)
    line = row(stage, key.id)
    assert line["API Key"] == key.masked == console.masked(secret)
    assert line["Tier"] == "default"
    assert line["Revoked"] is False
    assert line["Requests"] == 0
    stage.run(120)
    assert len(stage.records(TAB)) == 11
    assert problems(stage) == "[]"
    assert secret not in str([line.values() for line in map(stage.book.tab, stage.book.titles)])
    assert all(secret.encode() not in call.body for call in stage.sheets.requests[calls:])
    assert all(secret not in call.path for call in stage.sheets.requests)
    assert secret not in caplog.text
    assert secret not in str(history(stage))
    assert secret.encode() not in Path(stage.ledger._database.path).read_bytes()
    assert [entry[1] for entry in history(stage)] == ["key"]


def test_a_pasted_key_is_hidden_at_the_next_look_after_a_failed_write(
    stage: Stage, person: Person
) -> None:
    secret = mint_secret()
    person.add_row(TAB, {"API Key": secret, "User Email": "eve@example.com"})
    stage.sheets.faults.next(Fault.UNAVAILABLE_AFTER, on="write")
    stage.run(LOOK)
    stage.run(100)
    assert secret not in str(stage.book.tab(TAB).values())
    assert len([key for key in stage.ledger.keys() if key.email == "eve@example.com"]) == 1
    assert len(stage.records(TAB)) == 11


def test_a_key_pasted_before_its_address_is_hidden_and_works_later(
    stage: Stage, person: Person
) -> None:
    secret = mint_secret()
    person.add_row(TAB, {"API Key": secret})
    stage.run(LOOK)
    assert secret not in str(stage.book.tab(TAB).values())
    assert "does not work yet" in problems(stage)
    person.set(TAB, {"API Key": console.masked(secret)}, {"User Email": "eve@example.com"})
    stage.run(2 * LOOK)
    key = stage.ledger.find(secret)
    assert key is not None
    assert row(stage, key.id)["User Email"] == "eve@example.com"
    assert problems(stage) == "[]"


def test_a_copied_row_is_told_of_and_the_stricter_one_counts(stage: Stage, person: Person) -> None:
    key = stage.keys[5]
    person.copy_row(TAB, {"Key ID": key.id})
    stage.run(LOOK)
    assert "delete all but one" in problems(stage)
    person.set(TAB, len(stage.book.tab(TAB).values()), {"Revoked": True})
    stage.run(LOOK)
    assert revoked(stage) == {key.id}


async def test_a_tick_reaches_the_calls_of_a_running_gateway(
    sheets: SheetsServer, spreadsheet: str, tmp_path: Path
) -> None:
    """The mirror's own thread, with short intervals."""
    sheets.quota.clock = time.monotonic
    ledger = SQLiteLedger(f"sqlite:///{tmp_path / 'l.db'}")
    ledger.start()
    minted = ledger.create_key("ada@example.com")
    mirror = SheetsMirror(
        ledger,
        config(sheets, spreadsheet),
        pace=Pace(flush=0.1, poll=0.2, first_pause=0.1),
        limits=(10_000, 10_000),
    )
    sheets.quota.refill()
    mirror.start()
    try:
        deadline = time.monotonic() + 15
        while not _listed(sheets, spreadsheet):
            assert time.monotonic() < deadline, mirror.status()
            await asyncio.sleep(0.05)
        sheets.person(spreadsheet).set(TAB, 2, {"Revoked": "x"})
        sheets.quota.refill()
        while not (key := ledger.find(minted.secret)) or not key.revoked:
            assert time.monotonic() < deadline, mirror.status()
            await asyncio.sleep(0.05)
    finally:
        await asyncio.to_thread(mirror.close)
        await asyncio.to_thread(ledger.close)


def _listed(sheets: SheetsServer, spreadsheet: str) -> bool:
    book = sheets.spreadsheet(spreadsheet)
    return TAB in book.titles and len(book.tab(TAB).records()) == 1
