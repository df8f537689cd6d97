"""Locks between processes: a file that one of them holds, let go by the kernel when it dies."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FIRST_PAUSE, _LAST_PAUSE = 0.0005, 0.02


def acquire(path: Path, timeout: float) -> int:
    """A descriptor that holds the lock until it is closed. Raises `TimeoutError`.

    Every call opens the file anew, so that threads of one process exclude each other, too.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise TimeoutError(f"{path} is held by another process") from None
            time.sleep(pause)
            pause = min(2 * pause, _LAST_PAUSE)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor


@contextmanager
def held(path: Path, timeout: float) -> Iterator[None]:
    """Holds the lock for a while. Raises `TimeoutError`."""
    descriptor = acquire(path, timeout)
    try:
        yield
    finally:
        os.close(descriptor)
