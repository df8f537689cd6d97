"""Sixty reads and sixty writes a minute."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from tests.sheets_server.refusals import over_quota

Kind = Literal["read", "write"]


class Quota:
    """Per user and minute. A sliding minute: stricter than Google's, which is refilled each minute.

    Refused calls are not counted. `clock` counts seconds and may be replaced at any time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.limits: dict[Kind, int] = {"read": 60, "write": 60}
        self._calls: dict[Kind, deque[float]] = {"read": deque(), "write": deque()}
        self._lock = threading.Lock()

    def charge(self, kind: Kind) -> None:
        with self._lock:
            if self._in_use(kind) >= self.limits[kind]:
                raise over_quota(kind.title(), self.limits[kind])
            self._calls[kind].append(self.clock())

    def used(self, kind: Kind) -> int:
        """Calls in the last minute."""
        with self._lock:
            return self._in_use(kind)

    def refill(self) -> None:
        with self._lock:
            for calls in self._calls.values():
                calls.clear()

    def _in_use(self, kind: Kind) -> int:
        calls = self._calls[kind]
        while calls and calls[0] <= self.clock() - 60:
            calls.popleft()
        return len(calls)
