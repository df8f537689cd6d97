"""What the mirror's parts work with: the spreadsheet, the ledger beside it, and what is wrong."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection

from keys.ledger import SQLiteLedger
from keys.mirror.google import Google

_Result = TypeVar("_Result")

HEALED = 300.0
"""Seconds that is told what has mended itself: what is over is no problem."""


class Alarms:
    """What is wrong, in words, until it is over. `topic` is what is replaced or cleared. Any thread."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[str, float]] = {}
        self._lock = Lock()

    def raise_(self, topic: str, text: str, lasting: float = math.inf) -> None:
        """What has mended itself is told for a while: `lasting` seconds."""
        with self._lock:
            self._texts[topic] = text, time.monotonic() + lasting

    def clear(self, topic: str) -> None:
        with self._lock:
            self._texts.pop(topic, None)

    def texts(self) -> list[str]:
        with self._lock:
            now = time.monotonic()
            return [text for text, end in self._texts.values() if now < end]


@dataclass(frozen=True, slots=True)
class Book:
    """One spreadsheet with the ledger that it mirrors. Used by one thread at a time."""

    google: Google
    ledger: SQLiteLedger
    tiers: tuple[str, ...] = ("default",)
    """For the drop-down of Tier."""
    alarms: Alarms = field(default_factory=Alarms)

    @property
    def id(self) -> str:
        return self.google.sheet_id

    def reading(self) -> AbstractContextManager[Connection]:
        """Raises `LedgerError`."""
        return self.ledger.reading()

    def change(self, function: Callable[[Connection], _Result]) -> _Result:
        """In one transaction, by the ledger's own writer where it serves. Raises `LedgerError`."""
        return self.ledger.change(function)
