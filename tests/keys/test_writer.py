"""Group commit, and a disk that fails."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from gateway.errors import LedgerUnavailable
from gateway.records import ApiKey, UsageRow
from keys import database, lock, writer
from keys.ledger import LedgerError, SQLiteLedger

CHILD = [sys.executable, str(Path(__file__).with_name("child.py"))]

MakeRow = Callable[..., UsageRow]
Finish = Callable[[UsageRow], UsageRow]
Until = Callable[[Callable[[], object]], Awaitable[None]]


@contextmanager
def stalled(path: Path) -> Iterator[None]:
    """As if another process wrote for a long time."""
    with lock.held(path.with_name(path.name + ".lock"), 5):
        yield


async def open_again(ledger: SQLiteLedger, row: UsageRow) -> None:
    """Opens a row as soon as the ledger has noticed that it can be written."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await ledger.open(row)
            except LedgerUnavailable:
                await asyncio.sleep(0.01)


@pytest.fixture
def transactions() -> Iterator[list[None]]:
    """One entry for each transaction of any writing connection."""
    begun: list[None] = []

    def count(*_arguments: object) -> None:
        begun.append(None)

    event.listen(Engine, "commit", count)
    yield begun
    event.remove(Engine, "commit", count)


async def test_what_waits_is_written_in_one_transaction(
    ledger: SQLiteLedger,
    path: Path,
    make_row: MakeRow,
    finish: Finish,
    transactions: list[None],
    key: ApiKey,
) -> None:
    rows = [make_row() for _ in range(300)]
    transactions.clear()
    with stalled(path):
        opening = asyncio.gather(*(ledger.open(row) for row in rows))
        await asyncio.sleep(0.1)
        for row in rows[:150]:
            ledger.settle(finish(row))
        assert not opening.done()
    await opening
    # One for the first row, which was under way by itself, and one for all others.
    assert 1 <= len(transactions) <= 3
    ledger.close()
    assert {row.id: row.status for row in ledger.usage()} == {
        row.id: "ok" if number < 150 else "open" for number, row in enumerate(rows)
    }
    assert ledger.key(key.id).requests == 150


async def test_a_group_is_bounded(
    ledger: SQLiteLedger, path: Path, make_row: MakeRow, transactions: list[None]
) -> None:
    transactions.clear()
    with stalled(path):
        opening = asyncio.gather(*(ledger.open(make_row()) for _ in range(1600)))
        await asyncio.sleep(0.1)
    await opening
    assert len(transactions) >= 4
    assert sum(1 for _ in ledger.usage()) == 1600


async def test_a_row_that_cannot_be_written_fails_alone(
    ledger: SQLiteLedger, path: Path, make_row: MakeRow, finish: Finish, until: Until, key: ApiKey
) -> None:
    first = make_row()
    await ledger.open(first)
    rows = [make_row() for _ in range(20)]
    rows[7] = replace(rows[7], id=first.id)
    rows[9] = replace(rows[9], started_at=rows[9].started_at.replace(tzinfo=None))
    settled = make_row()
    with stalled(path):
        opening = asyncio.gather(
            ledger.open(make_row()), *(ledger.open(row) for row in rows), return_exceptions=True
        )
        await asyncio.sleep(0.1)
        making = asyncio.create_task(asyncio.to_thread(ledger.create_key, "bob@example.com"))
        ledger.settle(finish(settled))
        ledger.settle(replace(finish(make_row()), model=None))  # type: ignore[arg-type]
        ledger.checkpoint(replace(first, duration_ms=7))
        await asyncio.sleep(0.1)
    results = (await opening)[1:]
    failed = [number for number, result in enumerate(results) if result is not None]
    assert failed == [7, 9]
    assert isinstance(results[7], LedgerUnavailable)
    assert isinstance(results[9], LedgerUnavailable)
    minted = await making
    assert ledger.find(minted.secret) == minted.key
    await until(lambda: ledger.row(settled.id) == finish(settled))
    assert ledger.row(first.id) == replace(first, duration_ms=7)
    assert ledger.key(key.id).requests == 1
    await ledger.open(make_row())


async def test_a_waiter_may_leave_and_its_loop_may_end(
    ledger: SQLiteLedger, path: Path, make_row: MakeRow, finish: Finish, until: Until
) -> None:
    left, orphan, patient = make_row(), make_row(), make_row()

    def leave_a_loop() -> None:
        loop = asyncio.new_event_loop()
        task = loop.create_task(open_again(ledger, orphan))
        loop.run_until_complete(asyncio.sleep(0.05))
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()

    with stalled(path):
        leaving = asyncio.ensure_future(ledger.open(left))
        waiting = asyncio.ensure_future(ledger.open(patient))
        await asyncio.to_thread(leave_a_loop)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        ledger.settle(finish(left))
    await waiting
    await until(lambda: ledger.row(left.id) == finish(left))
    await until(lambda: ledger.row(orphan.id) == orphan)


async def test_a_disk_that_hangs_refuses_calls_and_leaves_no_open_row(
    ledger: SQLiteLedger,
    path: Path,
    make_row: MakeRow,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer, "_PATIENCE", 0.2)
    row = make_row()
    with stalled(path), pytest.raises(LedgerUnavailable):
        await ledger.open(row)
    failed = replace(row, status="error", http_status=503, error_code="ledger_unavailable")
    ledger.settle(failed)  # as whoever opened it has to: the row may be written yet
    await until(lambda: ledger.row(row.id) == failed)


async def test_a_lock_that_is_never_let_go_counts_as_a_failing_disk(
    ledger: SQLiteLedger,
    path: Path,
    make_row: MakeRow,
    finish: Finish,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "_PATIENCE", 2.0)
    row = make_row()
    await ledger.open(row)
    with stalled(path):
        ledger.settle(finish(row))
        with pytest.raises(LedgerUnavailable):
            await ledger.open(make_row())
        began = time.monotonic()
        for _ in range(50):  # while the writer tries again, which takes two seconds
            with pytest.raises(LedgerUnavailable):
                await ledger.open(make_row())
            await asyncio.sleep(0.01)
        assert time.monotonic() - began < 1.9
        with pytest.raises(LedgerError):
            await asyncio.to_thread(ledger.create_key, "bob@example.com")
    await until(lambda: ledger.row(row.id) == finish(row))
    await open_again(ledger, make_row())


class Disk:
    """As many pages as the database may have: SQLite's own way to run out of space."""

    def __init__(self) -> None:
        self.pages = 1_000_000
        self._connections: list[sqlite3.Connection] = []

    def connected(self, connection: sqlite3.Connection, _record: object) -> None:
        self._connections.append(connection)
        self._apply(connection)

    def resize(self, pages: int) -> None:
        self.pages = pages
        for connection in self._connections:
            try:
                self._apply(connection)
            except sqlite3.ProgrammingError:
                continue  # closed meanwhile

    def _apply(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA max_page_count = {self.pages}").fetchone()


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    event.listen(Engine, "connect", disk.connected)
    yield disk
    event.remove(Engine, "connect", disk.connected)


async def test_a_full_disk_refuses_calls_at_once_and_forgets_no_settlement(
    disk: Disk,
    url: str,
    make_row: MakeRow,
    finish: Finish,
    until: Until,
    caplog: pytest.LogCaptureFixture,
    ledger: SQLiteLedger,
    key: ApiKey,
) -> None:
    disk.resize(1)  # as small as it is now
    rows = await _open_until_refused(ledger, make_row)
    assert len(rows) < 1000
    finals = [replace(finish(row), attributes={"note": "y" * 3000}) for row in rows]
    never_opened = finish(make_row(attributes={"note": "z" * 20_000}))
    ledger.settle(never_opened)
    for final in finals:
        ledger.settle(final)
    began = time.monotonic()
    for _ in range(200):
        with pytest.raises(LedgerUnavailable):
            await ledger.open(make_row(attributes={"note": "x" * 20_000}))
    assert time.monotonic() - began < 10
    with pytest.raises(LedgerError):
        await asyncio.to_thread(_make_keys, ledger)
    assert caplog.text.count("new calls are refused") == 1
    assert ledger.row(never_opened.id) is None
    disk.resize(1_000_000)
    for final in (never_opened, *finals):
        await until(lambda final=final: ledger.row(final.id) == final)  # type: ignore[misc]
    last = make_row()
    await open_again(ledger, last)
    await until(lambda: "can be written again" in caplog.text)
    assert ledger.key(key.id).requests == len(finals) + 1
    ledger.settle(finish(last))
    ledger.settle(replace(finals[0], status="error"))
    ledger.close()
    assert ledger.row(finals[0].id) == finals[0]
    assert ledger.key(key.id).requests == len(finals) + 2


async def _open_until_refused(ledger: SQLiteLedger, make_row: MakeRow) -> list[UsageRow]:
    rows: list[UsageRow] = []
    while True:
        row = make_row(attributes={"note": "x" * 1000})
        try:
            await ledger.open(row)
        except LedgerUnavailable:
            return rows
        rows.append(row)


def _make_keys(ledger: SQLiteLedger) -> None:
    for number in range(100):
        ledger.create_key(f"u{number}@example.com", "n" * 100)


async def test_settlements_are_written_where_new_rows_find_no_room(
    disk: Disk, make_row: MakeRow, finish: Finish, until: Until, ledger: SQLiteLedger
) -> None:
    rows = [make_row(attributes={"note": "x" * 1000}) for _ in range(700)]
    await asyncio.gather(*(ledger.open(row) for row in rows))
    disk.resize(1)

    async def ask() -> None:
        while True:
            with contextlib.suppress(LedgerUnavailable):
                await ledger.open(make_row(attributes={"note": "x" * 20_000}))
                raise AssertionError("there was room")
            await asyncio.sleep(0.001)

    asking = [asyncio.create_task(ask()) for _ in range(20)]
    await asyncio.sleep(0.05)
    for row in rows:
        ledger.settle(replace(row, status="ok", attributes={}))
    for row in rows:
        await until(lambda row=row: ledger.row(row.id).status == "ok")  # type: ignore[misc,union-attr]
    assert not any(task.done() for task in asking)
    for task in asking:
        task.cancel()


async def test_memory_is_bounded_while_the_disk_is_full(
    disk: Disk,
    url: str,
    make_row: MakeRow,
    finish: Finish,
    until: Until,
    ledger: SQLiteLedger,
    monkeypatch: pytest.MonkeyPatch,
    key: ApiKey,
) -> None:
    monkeypatch.setattr(writer, "_MOST_UNOPENED", 50)
    opened = make_row()
    await ledger.open(opened)
    disk.resize(1)
    for _ in range(500):
        ledger.settle(finish(make_row(attributes={"note": "x" * 20_000})))
    large = replace(finish(opened), attributes={"note": "x" * 20_000})
    ledger.settle(large)
    await asyncio.sleep(0.3)
    disk.resize(1_000_000)
    await until(lambda: ledger.row(opened.id) == large)
    ledger.close()
    assert 1 < ledger.key(key.id).requests < 500


async def test_a_file_that_disappears_refuses_calls(
    ledger: SQLiteLedger, path: Path, make_row: MakeRow, finish: Finish, until: Until
) -> None:
    row = make_row()
    await ledger.open(row)
    moved = path.with_name("elsewhere.db")
    os.rename(path, moved)
    ledger.settle(finish(row))
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            await ledger.open(make_row())
    assert "sluice.db" not in os.listdir(moved.parent)
    os.rename(moved, path)
    await until(lambda: ledger.row(row.id) == finish(row))
    await open_again(ledger, make_row())


async def test_a_settlement_reaches_a_database_that_was_put_in_place_of_the_other(
    url: str, path: Path, make_row: MakeRow, finish: Finish, until: Until, ledger: SQLiteLedger
) -> None:
    ledger.close()
    backup = path.with_name("backup.db")
    shutil.copyfile(path, backup)
    again = SQLiteLedger(url)
    again.start()
    row = make_row()
    await again.open(row)
    for suffix in ("", "-wal", "-shm"):
        os.rename(f"{path}{suffix}", f"{path}.lost{suffix}")
    os.rename(backup, path)
    again.settle(finish(row))
    await until(lambda: again.row(row.id) == finish(row))
    again.close()
    assert again.key(row.key_id).requests == 1


def test_a_limit_on_the_size_of_files_is_survived(url: str, path: Path) -> None:
    key = SQLiteLedger(url).create_key("ada@example.com").key
    said = subprocess.run(
        [*CHILD, "fill", url, key.id], stdout=subprocess.PIPE, text=True, check=True, timeout=60
    ).stdout.split()
    assert said[0::2][:1] == ["full"]
    opened, refused, seconds, written = int(said[1]), int(said[3]), float(said[4]), int(said[6])
    assert opened > 0
    assert refused == 50
    assert seconds < 5
    assert written == opened + 1
    ledger = SQLiteLedger(url)
    rows = list(ledger.usage())
    assert [row.status for row in rows] == ["ok"] * written
    assert ledger.key(key.id).requests == written
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


async def test_a_ledger_opens_and_closes_without_leaving_threads_or_descriptors(url: str) -> None:
    SQLiteLedger(url).keys()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        ledger = SQLiteLedger(url)
        ledger.start()
        ledger.create_key("ada@example.com")
        ledger.close()
    assert len(os.listdir("/proc/self/fd")) == before
