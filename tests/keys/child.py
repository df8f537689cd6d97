"""Another process on the same ledger: `child.py WHAT URL …`, for tests that need one."""

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from gateway.errors import LedgerUnavailable
from gateway.events import Usage
from gateway.records import UsageRow
from keys.ledger import LedgerBusy, SQLiteLedger


def say(text: str) -> None:
    print(text, flush=True)


def new_row(key_id: str) -> UsageRow:
    return UsageRow(
        id=str(uuid4()),
        started_at=datetime.now(UTC),
        key_id=key_id,
        email="ada@example.com",
        type="chat",
        attributes={"note": "x" * 200},
    )


def finished(row: UsageRow) -> UsageRow:
    return replace(row, status="ok", http_status=200, usage=Usage(3, 4))


def serve(url: str, key_id: str) -> None:
    """Serves until it is killed, and says which rows it was promised to be durable."""

    async def work(ledger: SQLiteLedger) -> None:
        while True:
            row = new_row(key_id)
            await ledger.open(row)
            say(row.id)
            ledger.checkpoint(replace(row, usage=Usage(3, 1)))
            await asyncio.sleep(0)
            ledger.settle(finished(row))

    async def main() -> None:
        ledger = SQLiteLedger(url)
        ledger.start()
        await asyncio.gather(*(work(ledger) for _ in range(8)))

    asyncio.run(main())


def start(url: str) -> None:
    try:
        SQLiteLedger(url).start()
    except LedgerBusy as error:
        say(str(error))


def revoke(url: str, key_id: str) -> None:
    SQLiteLedger(url).revoke_key(key_id)
    say("revoked")


def change(url: str, times: str) -> None:
    """Makes, rotates and revokes keys, each by a ledger of its own, as commands do."""
    for number in range(int(times)):
        minted = SQLiteLedger(url).create_key(f"u{number}@example.com")
        rotated = SQLiteLedger(url).rotate_key(minted.key.id)
        SQLiteLedger(url).revoke_key(rotated.key.id)


def fill(url: str, key_id: str) -> None:
    """Runs into a limit on the size of files, and out of it again."""

    async def main() -> None:
        ledger = SQLiteLedger(url)
        ledger.start()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        rows = []
        try:
            while True:
                row = new_row(key_id)
                await ledger.open(row)
                rows.append(row)
        except LedgerUnavailable:
            say(f"full {len(rows)}")
        for row in rows:
            ledger.settle(finished(row))
        began = time.monotonic()
        refused = 0
        for _ in range(50):
            try:
                await ledger.open(new_row(key_id))
            except LedgerUnavailable:
                refused += 1
        say(f"refused {refused} {time.monotonic() - began:.3f}")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        while True:
            try:
                last = new_row(key_id)
                await ledger.open(last)
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.05)
        ledger.settle(finished(last))
        ledger.close()
        say(f"written {len(rows) + 1}")

    asyncio.run(main())


COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command for command in (serve, start, revoke, change, fill)
}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
