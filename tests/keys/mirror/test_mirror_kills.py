"""A gateway that is killed again and again while its spreadsheet fails now and then."""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.keys.mirror.stage import assert_same, config, raise_stage
from tests.sheets_server.faults import TRANSIENT, Fault
from tests.sheets_server.server import SheetsServer

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[3]
KILLS = 20


def run_until_killed(command: Sequence[str], life: float) -> list[str]:
    """The ids of the rows that the process was promised to be kept."""
    said: list[str] = []
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as child:
        assert child.stdout is not None
        said.append(child.stdout.readline())
        reader = threading.Thread(target=said.extend, args=(child.stdout,))
        reader.start()
        time.sleep(life)
        assert child.poll() is None
        child.kill()
        reader.join()
    return [line.strip() for line in said if line.endswith("\n")]


def test_twenty_kills_neither_lose_nor_double_a_row(
    sheets: SheetsServer, spreadsheet: str, tmp_path: Path
) -> None:
    sheets.quota.limits = {"read": 10**6, "write": 10**6}
    stage = raise_stage(sheets, spreadsheet, tmp_path / "l.db")
    stage.mint("ada@example.com", "bob@example.com", "zoe@example.com")
    command = [
        sys.executable,
        str(Path(__file__).with_name("child.py")),
        f"sqlite:///{tmp_path / 'l.db'}",
        json.dumps(config(sheets, spreadsheet)),
    ]
    kinds = [fault for fault in TRANSIENT if fault not in (Fault.EXPIRED, Fault.QUOTA)]
    sheets.faults.share(0.12, kinds)
    promised: list[str] = []
    for _ in range(KILLS):
        promised += run_until_killed(command, random.uniform(0.05, 0.5))
    sheets.faults.clear()
    stage.settle()
    written = [row.id for row in stage.ledger.usage()]
    assert set(promised) <= set(written)
    assert len(promised) >= KILLS
    assert_same(stage.ids(), written)
    stage.assert_exact(written)
    sheets.quota.limits = {"read": 60, "write": 60}
