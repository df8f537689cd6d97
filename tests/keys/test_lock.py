import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keys import lock

HOLD = """
import sys, time
from pathlib import Path
from keys import lock
lock.acquire(Path(sys.argv[1]), 1)
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_excludes_others_of_the_same_process_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with lock.held(path, 1), pytest.raises(TimeoutError, match="another process"):
        lock.acquire(path, 0.05)
    os.close(lock.acquire(path, 0))


def test_a_lock_is_let_go_by_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            lock.acquire(path, 0.2)
        assert time.monotonic() - began >= 0.2
        holder.kill()
        os.close(lock.acquire(path, 5))


def test_waiting_leaves_no_descriptors_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with lock.held(path, 1):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(TimeoutError):
                lock.acquire(path, 0)
        assert len(os.listdir("/proc/self/fd")) == before
