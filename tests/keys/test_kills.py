"""A gateway that is killed, again and again."""

import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from keys.ledger import SQLiteLedger

pytestmark = pytest.mark.faults

CHILD = [sys.executable, str(Path(__file__).with_name("child.py"))]
KILLS = 12


def serve_until_killed(url: str, key_id: str, life: float) -> list[str]:
    """The ids of the rows that the process was promised to be durable."""
    said: list[str] = []
    with subprocess.Popen(
        [*CHILD, "serve", url, key_id], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said.append(child.stdout.readline())
        reader = threading.Thread(target=said.extend, args=(child.stdout,))
        reader.start()
        time.sleep(life)
        assert child.poll() is None
        child.kill()
        reader.join()
    return [line.strip() for line in said if line.endswith("\n")]


def test_every_row_that_was_promised_is_there_once_after_any_kill(path: Path, url: str) -> None:
    key = SQLiteLedger(url).create_key("ada@example.com").key
    promised: list[str] = []
    for _ in range(KILLS):
        before = len(promised)
        promised += serve_until_killed(url, key.id, random.uniform(0.01, 0.3))
        assert len(promised) > before
    ledger = SQLiteLedger(url)
    ledger.start()
    rows = list(ledger.usage())
    ids = [row.id for row in rows]
    assert len(ids) == len(set(ids))
    assert set(promised) <= set(ids)
    assert len(promised) == len(set(promised))
    assert {row.status for row in rows} == {"ok", "interrupted"}
    counted = ledger.key(key.id)
    assert counted.requests == len(rows)
    assert counted.tokens == sum(row.usage.input_tokens + row.usage.output_tokens for row in rows)
    ledger.close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
