"""A ledger, its mirror and a spreadsheet, in a time of their own: minutes pass in milliseconds."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from gateway.events import Usage
from gateway.records import ApiKey, UsageRow
from keys import account
from keys.ledger import SQLiteLedger
from keys.mirror import SheetsMirror
from tests.sheets_server.book import Book
from tests.sheets_server.server import SheetsServer

MACHINE = {"Dashboard", "Sheet1", "User API Keys", "_daily", "_key_stats", "_gateway"}


@dataclass
class Clock:
    """Moves only when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Stage:
    """The mirror's thread is not started: `run` does what it would do, and lets the time pass."""

    sheets: SheetsServer
    spreadsheet: str
    ledger: SQLiteLedger
    mirror: SheetsMirror
    clock: Clock
    keys: list[ApiKey] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    """When a write was made."""

    @property
    def book(self) -> Book:
        return self.sheets.spreadsheet(self.spreadsheet)

    def mint(self, *emails: str) -> list[ApiKey]:
        made = [self.ledger.create_key(email, "laptop").key for email in emails]
        self.keys += made
        return made

    def use(self, count: int, keys: Sequence[ApiKey] | None = None, **changes: object) -> list[str]:
        """Settles that many rows; their ids."""
        keys = keys or self.keys
        rows = [make_row(keys[number % len(keys)], **changes) for number in range(count)]
        self.ledger.change(
            lambda connection: account.settle_rows(
                connection, rows, opened=(), revision=account.last_revision(connection) + 1
            )
        )
        return [row.id for row in rows]

    def run(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            before = len(self.sheets.writes)
            pause = self.mirror.tick()
            self.sent += [self.clock.now] * (len(self.sheets.writes) - before)
            self.clock.now += max(pause, 0.001)

    def tick(self) -> None:
        """What is due after a while, once."""
        self.clock.now += 70
        self.mirror.tick()

    def settle(self, seconds: float = 7200) -> None:
        """Until everything is in the spreadsheet."""
        end = self.clock.now + seconds
        self.run(6)
        while self.mirror.status()["backlog_rows"] or self.mirror.status()["state"] != "ok":
            assert self.clock.now < end, self.mirror.status()
            self.run(5)

    def ids(self) -> list[str]:
        """Request ids in all users' tabs, found under their header."""
        return [str(record["Request ID"]) for tab in self.users() for record in self.records(tab)]

    def users(self) -> list[str]:
        return [title for title in self.book.titles if title not in MACHINE]

    def records(self, tab: str) -> list[dict[str, object]]:
        return self.book.tab(tab).records()

    def assert_exact(self, ids: Sequence[str]) -> None:
        assert_same(self.ids(), ids)
        assert sum(_whole(line["Requests"]) for line in self.records("_daily")) == len(ids)
        assert sum(_whole(line["Requests"]) for line in self.records("_key_stats")) == len(ids)
        assert sum(_whole(line["Requests"]) for line in self.records("User API Keys")) == len(ids)

    def most_writes_a_minute(self) -> int:
        return max(
            (sum(1 for other in self.sent if at <= other < at + 60) for at in self.sent), default=0
        )


def assert_same(there: Sequence[str], wanted: Sequence[str]) -> None:
    """Without pages of ids when it fails."""
    counts = Counter(there)
    doubled = sum(count > 1 for count in counts.values())
    lost, strange = len(set(wanted) - set(there)), len(set(there) - set(wanted))
    assert (doubled, lost, strange) == (0, 0, 0)


def make_row(key: ApiKey, **changes: object) -> UsageRow:
    values: dict[str, object] = {
        "id": str(uuid4()),
        "started_at": datetime(2026, 11, 25, 12, tzinfo=UTC) + timedelta(seconds=random.random()),
        "key_id": key.id,
        "email": key.email,
        "type": "chat",
        "model": "demo",
        "provider": "demo",
        "usage": Usage(30, 12),
        "cost_nanos": 1_234_500,
        "duration_ms": 1500,
        "status": "ok",
        "http_status": 200,
    }
    return UsageRow(**{**values, **changes})  # type: ignore[arg-type]  # any field, by name


def config(sheets: SheetsServer, spreadsheet: str) -> dict[str, str | None]:
    return {
        "sheet_id": spreadsheet,
        "credentials": json.dumps(sheets.credentials),
        "api_base": sheets.url,
        "tiers": "default,gold",
    }


def raise_stage(
    sheets: SheetsServer,
    spreadsheet: str,
    path: Path,
    clock: Clock | None = None,
    full: float = 0.8,
) -> Stage:
    own = clock or Clock()
    ledger = SQLiteLedger(f"sqlite:///{path}")
    mirror = SheetsMirror(ledger, config(sheets, spreadsheet) | {"full": str(full)}, now=own)
    return Stage(sheets, spreadsheet, ledger, mirror, own)


def _whole(value: object) -> int:
    assert isinstance(value, int | float), value
    return int(value)
