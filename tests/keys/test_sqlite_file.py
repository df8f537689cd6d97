"""The file behind the ledger, and other processes that use it."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, Pool, event

from gateway.records import ApiKey, UsageRow
from keys import database, lock
from keys.ledger import LedgerBusy, LedgerError, SQLiteLedger

CHILD = [sys.executable, str(Path(__file__).with_name("child.py"))]

Until = Callable[[Callable[[], object]], Awaitable[None]]


def integrity(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])
    finally:
        connection.close()


def pragma(connection: sqlite3.Connection, name: str) -> object:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://me:hunter2@host/db",
        "sqlite:///x.db?mode=ro",
        "data/x.db",
        "",
    ],
)
def test_a_url_that_names_no_file_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///data/sluice") as caught:
        SQLiteLedger(url)
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_relative_path_is_meant_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    SQLiteLedger("sqlite:///some where/l%41#.db").create_key("ada@example.com")
    assert (tmp_path / "some where" / "l%41#.db").is_file()


def test_files_are_for_their_owner_alone(ledger: SQLiteLedger, key: ApiKey, path: Path) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(files) >= {"sluice.db", "sluice.db-wal", "sluice.db.lock", "sluice.db.server.lock"}
    assert set(files.values()) == {0o600}


def test_a_directory_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    SQLiteLedger(f"sqlite:///{tmp_path}/l.db").keys()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


async def test_no_secret_is_in_any_file_or_log(
    ledger: SQLiteLedger, url: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    secrets = [
        ledger.create_key("ada@example.com").secret,
        SQLiteLedger(url).create_key("b@c").secret,
    ]
    secrets.append(ledger.rotate_key(ledger.key(secrets[0]).id).secret)
    for secret in secrets:
        assert ledger.find(secret) or SQLiteLedger(url).find(secret)
    everything = caplog.text.encode() + b"".join(
        file.read_bytes() for file in path.parent.iterdir()
    )
    for secret in secrets:
        assert secret[3:40].encode() not in everything
        assert secret[10:].encode() not in everything


def test_the_writing_connection_is_durable_and_bounded(url: str) -> None:
    settings: list[tuple[object, ...]] = []

    def look(connection: sqlite3.Connection, _record: object) -> None:
        names = (
            "journal_mode",
            "synchronous",
            "busy_timeout",
            "foreign_keys",
            "journal_size_limit",
        )
        settings.append(tuple(pragma(connection, name) for name in names))

    SQLiteLedger(url).keys()
    event.listen(Engine, "connect", look)
    try:
        ledger = SQLiteLedger(url)
        ledger.start()
        ledger.close()
    finally:
        event.remove(Engine, "connect", look)
    assert set(settings) == {("wal", 2, 5000, 1, 64 << 20)}


def test_whoever_can_write_is_alone_to_commit_and_to_close(url: str, path: Path) -> None:
    """SQLite's fault with the restart of its log needs a second writer: there never is one."""
    seen: set[tuple[str, bool]] = set()

    def look(what: str, connection: sqlite3.Connection) -> None:
        if pragma(connection, "query_only"):
            return
        try:
            os.close(lock.acquire(path.with_name("sluice.db.lock"), 0))
        except TimeoutError:
            seen.add((what, True))
        else:
            seen.add((what, False))

    def closing(connection: sqlite3.Connection, *_arguments: object) -> None:
        look("close", connection)

    def committing(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        look("commit", driver)

    event.listen(Pool, "close", closing)
    event.listen(Pool, "invalidate", closing)
    event.listen(Engine, "commit", committing)
    try:
        SQLiteLedger(url).create_key("ada@example.com")
        ledger = SQLiteLedger(url)
        ledger.start()
        key = ledger.create_key("ada@example.com").key
        SQLiteLedger(url).revoke_key(key.id)
        assert list(ledger.keys()) == list(SQLiteLedger(url).keys())
        ledger.close()
    finally:
        event.remove(Pool, "close", closing)
        event.remove(Pool, "invalidate", closing)
        event.remove(Engine, "commit", committing)
    assert seen == {("commit", True), ("close", True)}


def test_commands_leave_checkpoints_to_the_gateway(ledger: SQLiteLedger, url: str) -> None:
    limits: list[object] = []

    def look(connection: sqlite3.Connection, _record: object) -> None:
        if not pragma(connection, "query_only"):
            limits.append(pragma(connection, "wal_autocheckpoint"))

    event.listen(Engine, "connect", look)
    try:
        SQLiteLedger(url).create_key("ada@example.com")
    finally:
        event.remove(Engine, "connect", look)
    assert set(limits) == {0}


def test_only_one_process_serves(ledger: SQLiteLedger, url: str, path: Path) -> None:
    with pytest.raises(LedgerBusy, match=rf"process {os.getpid()}\) serves from .*stop it first"):
        SQLiteLedger(url).start()
    said = subprocess.run([*CHILD, "start", url], stdout=subprocess.PIPE, text=True, check=True)
    assert f"process {os.getpid()}" in said.stdout
    assert str(path) in said.stdout
    ledger.close()
    again = SQLiteLedger(url)
    again.start()
    again.close()


def test_a_refused_start_leaves_the_other_ones_rows_open(
    ledger: SQLiteLedger, url: str, key: ApiKey, make_row: Callable[..., UsageRow]
) -> None:
    row = make_row()

    async def open_row() -> None:
        await ledger.open(row)

    asyncio.run(open_row())
    refused = SQLiteLedger(url)
    with pytest.raises(LedgerBusy):
        refused.start()
    assert ledger.row(row.id) == row
    assert list(refused.keys()) == list(ledger.keys())


async def test_a_key_revoked_by_another_process_is_refused_within_a_second(
    ledger: SQLiteLedger, url: str, until: Until
) -> None:
    minted = ledger.create_key("ada@example.com")
    child = await asyncio.create_subprocess_exec(
        *CHILD, "revoke", url, minted.key.id, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"revoked\n"
    began = time.monotonic()
    await until(lambda: ledger.find(minted.secret).revoked)  # type: ignore[union-attr]
    assert time.monotonic() - began < 1
    assert await child.wait() == 0


async def test_commands_beside_a_busy_gateway_lose_nothing(
    ledger: SQLiteLedger,
    url: str,
    path: Path,
    key: ApiKey,
    make_row: Callable[..., UsageRow],
    finish: Callable[[UsageRow], UsageRow],
    until: Until,
) -> None:
    child = await asyncio.create_subprocess_exec(*CHILD, "change", url, "25")
    served = 0
    while child.returncode is None or served < 2000:
        rows = [make_row(attributes={"note": "x" * 500}) for _ in range(20)]
        await asyncio.gather(*(ledger.open(row) for row in rows))
        for row in rows:
            ledger.settle(finish(row))
        served += len(rows)
    assert child.returncode == 0
    await until(lambda: ledger.key(key.id).requests == served)
    keys = [other for other in ledger.keys() if other.id != key.id]
    assert len(keys) == 50
    assert all(other.revoked for other in keys)
    assert sum(1 for _ in ledger.usage()) == served
    ledger.close()
    assert integrity(path) == "ok"


def test_reading_beside_a_gateway_piles_up_no_descriptors(ledger: SQLiteLedger, url: str) -> None:
    def descriptors() -> int:
        for _ in range(20):
            ledger.keys()
            SQLiteLedger(url).revoke_key(SQLiteLedger(url).create_key("ada@example.com").key.id)
        return len(os.listdir("/proc/self/fd"))

    # SQLite keeps a few of them for the next connection, while another one has the file locked.
    first = descriptors()
    assert descriptors() <= first + 2


def test_a_command_waits_for_a_writer_but_not_for_ever(
    url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = SQLiteLedger(url)
    command.keys()
    monkeypatch.setattr(database, "_PATIENCE", 0.1)
    with (
        lock.held(path.with_name("sluice.db.lock"), 1),
        pytest.raises(LedgerError, match="held by another process"),
    ):
        command.create_key("ada@example.com")
    command.create_key("ada@example.com")


async def test_a_command_that_reads_before_it_writes_waits_for_a_foreign_writer(
    ledger: SQLiteLedger, url: str, path: Path, key: ApiKey
) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("UPDATE api_keys SET notes = 'mine'")
    beside = asyncio.create_task(asyncio.to_thread(SQLiteLedger(url).rotate_key, key.id))
    within = asyncio.create_task(asyncio.to_thread(ledger.revoke_key, key.id))
    await asyncio.sleep(0.3)
    connection.execute("COMMIT")
    connection.close()
    # Whichever comes first; a revoked key is not rotated.
    results = await asyncio.gather(beside, within, return_exceptions=True)
    assert not any(isinstance(result, LedgerError) for result in results)
    assert ledger.key(key.id).revoked
    assert ledger.key(key.id).notes == "mine"


@pytest.mark.parametrize("content", [b"this is no database at all, but long enough" * 30])
def test_a_file_that_is_no_database_is_told_in_one_line(
    path: Path, url: str, content: bytes
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    for attempt in (SQLiteLedger(url).keys, SQLiteLedger(url).start):
        with pytest.raises(LedgerError, match="not a database") as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == content


async def test_revisions_grow_in_the_order_of_settlement(
    ledger: SQLiteLedger,
    url: str,
    path: Path,
    make_row: Callable[..., UsageRow],
    finish: Callable[[UsageRow], UsageRow],
) -> None:
    rows = [make_row() for _ in range(6)]
    await asyncio.gather(*(ledger.open(row) for row in rows))
    for row in (rows[3], rows[1], rows[4]):
        ledger.settle(finish(row))
        await ledger.open(make_row())
    ledger.close()
    again = SQLiteLedger(url)
    again.start()
    again.settle(finish(make_row(id="last")))
    again.close()
    connection = sqlite3.connect(path)
    order = [id for (id,) in connection.execute("SELECT id FROM usage_rows ORDER BY revision")]
    revisions = connection.execute("SELECT count(*), count(DISTINCT revision) FROM usage_rows")
    assert revisions.fetchone() == (10, 10)
    connection.close()
    assert order[:3] == [rows[3].id, rows[1].id, rows[4].id]
    assert order[-1] == "last"


def test_a_failed_start_lets_go_of_everything(url: str, path: Path) -> None:
    SQLiteLedger(url).keys()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE usage_rows RENAME TO hidden")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        with pytest.raises(LedgerError, match="no such table"):
            SQLiteLedger(url).start()
    # The connection above has the file locked, so that SQLite keeps what it closes for reuse.
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    connection.execute("ALTER TABLE hidden RENAME TO usage_rows")
    connection.close()
    ledger = SQLiteLedger(url)
    ledger.start()
    ledger.close()


def test_a_place_that_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="file"):
        SQLiteLedger(f"sqlite:///{tmp_path}/file/l.db").keys()


async def test_many_rows_are_read_in_bounded_memory_and_hold_nothing_up(
    ledger: SQLiteLedger,
    path: Path,
    make_row: Callable[..., UsageRow],
    finish: Callable[[UsageRow], UsageRow],
    until: Until,
    key: ApiKey,
) -> None:
    for _ in range(20_000):
        ledger.settle(finish(make_row()))
    await until(lambda: ledger.key(key.id).requests == 20_000)
    tracemalloc.start()
    try:
        for order in (False, True):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert sum(1 for _ in ledger.usage(newest_first=order)) == 20_000
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 8 << 20
    finally:
        tracemalloc.stop()
    reading = ledger.usage()
    next(reading)
    connection = sqlite3.connect(path)
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
    assert busy == 0
    assert sum(1 for _ in reading) == 19_999
