import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.events import Usage
from gateway.records import ApiKey, UsageRow
from keys.ledger import SQLiteLedger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sluice.db"


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{path}"


@pytest.fixture
def ledger(url: str) -> Iterator[SQLiteLedger]:
    ledger = SQLiteLedger(url)
    ledger.start()
    yield ledger
    ledger.close()


@pytest.fixture
def key(ledger: SQLiteLedger) -> ApiKey:
    return ledger.create_key("ada@example.com").key


@pytest.fixture
def make_row(key: ApiKey) -> Callable[..., UsageRow]:
    def make_row(**changes: object) -> UsageRow:
        row = UsageRow(
            id=str(uuid4()),
            started_at=datetime.now(UTC),
            key_id=key.id,
            email=key.email,
            type="chat",
        )
        return replace(row, **changes)  # type: ignore[arg-type]  # any field, by name

    return make_row


@pytest.fixture
def finish() -> Callable[[UsageRow], UsageRow]:
    return lambda row: replace(row, status="ok", http_status=200, usage=Usage(10, 2))


@pytest.fixture
def until() -> Callable[[Callable[[], object]], object]:
    async def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            await asyncio.sleep(0.01)

    return until
