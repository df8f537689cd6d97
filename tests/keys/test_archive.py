"""What is kept for clients that come back: theirs alone, on disk when it is said to be, gone when deleted."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.errors import LedgerUnavailable
from gateway.records import Document
from keys.archive import SQLiteArchive

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


def document(
    name: str = "a", *, owner: str = "ada@example.com", minute: int = 0, **more: object
) -> Document:
    moment = NOON + timedelta(minutes=minute)
    given: dict[str, object] = {
        "owner": owner,
        "kind": "responses",
        "id": name,
        "about": f"about {name}",
        "data": b'{"said":"%s"}' % name.encode(),
        "created_at": moment,
        "updated_at": moment,
    }
    return Document(**(given | more))  # type: ignore[arg-type]  # a test names the fields


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncGenerator[SQLiteArchive, None]:
    made = SQLiteArchive(f"sqlite:///{tmp_path / 'new' / 'archive.db'}")
    await asyncio.to_thread(made.start)
    yield made
    await asyncio.to_thread(made.close)


async def test_what_was_put_is_there(archive: SQLiteArchive) -> None:
    await archive.put(document())
    assert await archive.get("ada@example.com", "responses", "a") == document()


@pytest.mark.parametrize(
    ("owner", "kind", "name"),
    [
        pytest.param("bob@example.com", "responses", "a", id="another's"),
        pytest.param("ada@example.com", "conversation", "a", id="another kind"),
        pytest.param("ada@example.com", "responses", "b", id="another id"),
    ],
)
async def test_to_others_it_is_not_there(
    archive: SQLiteArchive, owner: str, kind: str, name: str
) -> None:
    await archive.put(document())
    assert await archive.get(owner, kind, name) is None
    assert not await archive.delete(owner, kind, name)
    assert await archive.get("ada@example.com", "responses", "a") is not None


async def test_the_same_id_is_replaced_and_keeps_its_beginning(archive: SQLiteArchive) -> None:
    await archive.put(document())
    await archive.put(document(minute=5, data=b"{}", about="later"))
    found = await archive.get("ada@example.com", "responses", "a")
    assert found == document(data=b"{}", about="later", updated_at=NOON + timedelta(minutes=5))


async def test_the_same_id_of_two_owners_is_two(archive: SQLiteArchive) -> None:
    await archive.put(document(data=b"1"))
    await archive.put(document(owner="bob@example.com", data=b"2"))
    found = await archive.get("ada@example.com", "responses", "a")
    assert found is not None
    assert found.data == b"1"


async def test_deleted_is_gone_from_the_file_too(archive: SQLiteArchive, tmp_path: Path) -> None:
    await archive.put(document(data=b'"a secret between us"'))
    assert await archive.delete("ada@example.com", "responses", "a")
    assert not await archive.delete("ada@example.com", "responses", "a")
    for file in (tmp_path / "new").iterdir():
        assert b"a secret between us" not in file.read_bytes()


async def test_a_list_is_last_changed_first_and_goes_on_page_by_page(
    archive: SQLiteArchive,
) -> None:
    for minute, name in ((3, "a"), (1, "b"), (2, "c"), (2, "d")):
        await archive.put(document(name, minute=minute))
    await archive.put(document("e", owner="bob@example.com", minute=9))
    names: list[str] = []
    after = None
    while page := await archive.list("ada@example.com", "responses", limit=3, after=after):
        assert all(item.data == b"" and item.about == f"about {item.id}" for item in page)
        names += [item.id for item in page]
        after = names[-1]
    assert names == ["a", "d", "c", "b"]
    assert await archive.list("ada@example.com", "responses", limit=3, after="nothing") == []


async def test_what_is_too_old_expires(archive: SQLiteArchive) -> None:
    await archive.put(document("old"))
    await archive.put(document("new", minute=2))
    assert await archive.expire(NOON + timedelta(minutes=1)) == 1
    assert [d.id for d in await archive.list("ada@example.com", "responses", limit=9)] == ["new"]


async def test_what_was_handed_over_is_written_before_the_end(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'archive.db'}"
    first = SQLiteArchive(url)
    first.start()
    for number in range(50):
        first.save(document(f"{number:02}"))
    first.close()
    again = SQLiteArchive(url)
    again.start()
    assert len(await again.list("ada@example.com", "responses", limit=100)) == 50
    again.close()


async def test_a_closed_archive_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    archive = SQLiteArchive(f"sqlite:///{tmp_path / 'archive.db'}")
    with pytest.raises(LedgerUnavailable):
        await archive.get("a", "b", "c")
    with caplog.at_level(logging.ERROR):
        archive.save(document())
    assert "document a is lost" in caplog.text


async def test_a_disk_that_fails_is_told_and_passes(
    archive: SQLiteArchive, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "new" / "archive.db"
    blocker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('begin exclusive');"
        "print('held', flush=True); sys.stdin.read()",
        str(file),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert blocker.stdout is not None
    assert blocker.stdin is not None
    await blocker.stdout.readline()
    with pytest.raises(LedgerUnavailable):
        await archive.put(document(data=b'"hush"'))
    assert "hush" not in caplog.text
    blocker.stdin.close()
    await blocker.wait()
    await archive.put(document())
    assert await archive.get("ada@example.com", "responses", "a") == document()


async def test_who_does_not_wait_any_more_is_no_hindrance(archive: SQLiteArchive) -> None:
    waiting = [asyncio.create_task(archive.put(document(f"{n}"))) for n in range(100)]
    await asyncio.sleep(0)
    for task in waiting[::2]:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await archive.put(document("last"))
    kept = {found.id for found in await archive.list("ada@example.com", "responses", limit=200)}
    assert {f"{n}" for n in range(1, 100, 2)} | {"last"} <= kept


async def test_many_at_once_are_all_kept(archive: SQLiteArchive) -> None:
    await asyncio.gather(*(archive.put(document(f"{n}", data=b"%d" % n)) for n in range(500)))
    for n in (0, 250, 499):
        found = await archive.get("ada@example.com", "responses", f"{n}")
        assert found is not None
        assert found.data == b"%d" % n


@pytest.mark.parametrize(
    "faulty",
    [
        pytest.param({"about": None}, id="nothing where something has to be"),
        pytest.param({"about": "\ud800"}, id="half a character"),
        pytest.param({"updated_at": "yesterday"}, id="no time"),
    ],
)
async def test_what_cannot_be_written_is_told_and_holds_up_nothing(
    archive: SQLiteArchive, faulty: dict[str, object]
) -> None:
    with pytest.raises(LedgerUnavailable):
        await archive.put(document("faulty", **faulty))
    await archive.put(document())
    assert await archive.get("ada@example.com", "responses", "a") == document()


@pytest.mark.parametrize("about", [None, "\ud800"])
async def test_of_many_that_come_at_once_one_that_cannot_be_written_harms_no_other(
    archive: SQLiteArchive, about: object
) -> None:
    puts = [document(f"{number:03}") for number in range(50)]
    puts[20] = document("020", about=about)
    done = await asyncio.gather(*map(archive.put, puts), return_exceptions=True)
    assert [index for index, result in enumerate(done) if result is not None] == [20]
    assert isinstance(done[20], LedgerUnavailable)
    assert len(await archive.list("ada@example.com", "responses", limit=100)) == 49


async def test_one_process_at_a_time_keeps_answers_there(
    archive: SQLiteArchive, tmp_path: Path
) -> None:
    second = SQLiteArchive(f"sqlite:///{tmp_path / 'new' / 'archive.db'}")
    with pytest.raises(OSError, match="another gateway keeps its answers there"):
        await asyncio.to_thread(second.start)


@pytest.mark.parametrize("url", ["sqlite://", "mysql:///x", "sqlite:///:memory:", "sqlite:///a?b"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="has to name a file"):
        SQLiteArchive(url)


def test_a_file_that_is_no_database_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "archive.db").write_text("this is no database, but long enough to look at" * 50)
    archive = SQLiteArchive(f"sqlite:///{tmp_path / 'archive.db'}")
    with pytest.raises(OSError, match=r"archive\.db: file is not a database"):
        archive.start()


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    archive = SQLiteArchive(f"sqlite:///{tmp_path / 'deep' / 'archive.db'}")
    archive.start()
    archive.close()
    assert (tmp_path / "deep").stat().st_mode & 0o077 == 0
    assert (tmp_path / "deep" / "archive.db").stat().st_mode & 0o077 == 0


WRITER = """
import asyncio, sys
from tests.keys.test_archive import document
from keys.archive import SQLiteArchive

async def main():
    archive = SQLiteArchive(sys.argv[1])
    archive.start()
    for number in range(10_000):
        await archive.put(document(f"{number:05}"))
        print(number, flush=True)

asyncio.run(main())
"""


async def test_what_was_said_to_be_kept_survives_a_kill(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'archive.db'}"
    root = Path(__file__).parents[2]
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", WRITER, url),
            stdout=subprocess.PIPE,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert process.stdout is not None
        for _ in range(60):
            last = int(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest, _ = await process.communicate()
        if lines := rest.split(b"\n")[:-1]:
            last = int(lines[-1])
        archive = SQLiteArchive(url)
        await asyncio.to_thread(archive.start)
        assert await archive.get("ada@example.com", "responses", f"{last:05}") is not None
        await asyncio.to_thread(archive.close)
