import os
import subprocess
import sys
from pathlib import Path

from keys.database import Changes
from keys.ledger import SQLiteLedger


def _ledger(path: Path) -> SQLiteLedger:
    return SQLiteLedger(f"sqlite:///{path}")


def test_changes_are_seen_once_each(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    ledger = _ledger(path)
    ledger.create_key("ada@example.com")
    changes = Changes(path)
    assert [changes.seen(), changes.seen()] == [True, False]
    ledger.create_key("bob@example.com")
    assert [changes.seen(), changes.seen()] == [True, False]
    changes.close()


def test_another_file_in_the_same_place_is_a_change(tmp_path: Path) -> None:
    path, other = tmp_path / "sluice.db", tmp_path / "other.db"
    for place in (path, other):
        _ledger(place).create_key("ada@example.com")
    changes = Changes(path)
    changes.seen()
    os.replace(other, path)
    assert [changes.seen(), changes.seen()] == [True, False]
    changes.close()


def test_where_nothing_can_be_read_there_may_be_changes(tmp_path: Path) -> None:
    path = tmp_path / "sluice.db"
    changes = Changes(path)
    assert [changes.seen(), changes.seen()] == [True, True]
    path.write_bytes(b"no database, but a text that is long enough to be looked at" * 100)
    assert [changes.seen(), changes.seen()] == [True, True]


def test_a_command_loads_no_database_that_it_does_not_use() -> None:
    code = "import sys, gateway.server.cli, keys.ledger; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    kinds = {name.split(".")[2] for name in loaded if name.startswith("sqlalchemy.dialects.")}
    assert kinds <= {"sqlite", "_typing"}
    assert not {"openai", "anthropic", "aiohttp", "genai_prices"} & set(loaded)
