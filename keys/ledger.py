"""Keys and usage in an embedded database: the ledger that needs nothing but a disk."""

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, Select, select, tuple_

from gateway.errors import LedgerUnavailable
from gateway.ports import Ledger
from gateway.records import ApiKey, Dialect, MintedKey, UsageRow
from keys import register
from keys.columns import usage_row
from keys.database import Changes, Database, LedgerBusy, LedgerError
from keys.keyring import Keyring
from keys.mint import usable, well_formed
from keys.schema import usage_rows
from keys.writer import Writer

__all__ = ["LedgerBusy", "LedgerError", "SQLiteLedger"]

logger = logging.getLogger(__name__)

_REFRESH = 0.25
"""Seconds between looks for keys that another process changed."""
_PAGE = 1000

_Result = TypeVar("_Result")


class SQLiteLedger(Ledger):
    """Keeps keys and usage rows in one SQLite file, `sqlite:///data/sluice.db`.

    One started process at a time serves from it; any number may run operator's commands beside it.
    Those raise `LedgerError`, an `OSError` of one line, when the file cannot be used, and so does
    `start`: `LedgerBusy` if another process has started. docs/ledger.md says what is guaranteed.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._keyring = Keyring()
        self._reservation: int | None = None
        self._writer: Writer | None = None
        self._revision = 0
        self._ending = threading.Event()
        self._looking = asyncio.Lock()
        self._follower: threading.Thread | None = None

    # Serving.

    def start(self) -> None:
        if self._writer is not None:
            return
        self._database.prepare()
        with contextlib.ExitStack() as undo:
            self._reservation = self._database.reserve()
            undo.callback(self._release)
            self._refresh()
            writer = Writer(self._database)
            writer.start()
            undo.pop_all()
        self._writer = writer
        self._ending.clear()
        self._follower = threading.Thread(target=self._follow, name="ledger-keys", daemon=True)
        self._follower.start()

    def close(self) -> None:
        if self._writer is None or self._follower is None:
            return
        self._ending.set()
        self._follower.join()
        self._writer.close()
        self._writer = self._follower = None
        self._release()

    def find(self, secret: str, /) -> ApiKey | None:
        """As `Ledger.find`. Once started, the counters are those of the key's last change: `key` has
        the present ones."""
        if self._writer is not None:
            return self._keyring.find(secret)
        if not usable(secret):
            return None
        with self._database.reading() as connection:
            return register.found_key(connection, secret)

    async def find_new(self, secret: str, /) -> ApiKey | None:
        if self._writer is not None and well_formed(secret):
            # One at a time: whoever floods with keys that could be ones slows down nobody else.
            async with self._looking:
                try:
                    await asyncio.to_thread(self._refresh)
                except LedgerError as error:
                    raise LedgerUnavailable("The ledger cannot be read.") from error
        return self.find(secret)

    def open(self, row: UsageRow, /) -> asyncio.Future[None]:
        if self._writer is None:
            raise LedgerUnavailable("The ledger is not open.")
        return self._writer.open(row)

    def checkpoint(self, row: UsageRow, /) -> None:
        if self._writer is not None:
            self._writer.checkpoint(row)

    def settle(self, row: UsageRow, /) -> None:
        if self._writer is not None:
            self._writer.settle(row)
        else:
            logger.error("usage row %s is not settled: the ledger is not open", row.id)

    # For the operator.

    def create_key(
        self,
        email: str,
        name: str = "",
        tier: str = "default",
        notifications: Dialect | None = None,
    ) -> MintedKey:
        """Raises `ValueError` with what is wrong about an argument."""
        email = register.checked_email(email)
        name = register.checked_label("the name", name)
        tier = register.checked_label("the tier", tier)
        if not tier:
            raise ValueError("the tier is empty")
        return self.change(
            lambda connection: register.add_key(
                connection, email=email, name=name, tier=tier, notifications=notifications
            )
        )

    def keys(self) -> Sequence[ApiKey]:
        with self._database.reading() as connection:
            return register.all_keys(connection)

    def key(self, reference: str, /) -> ApiKey:
        with self._database.reading() as connection:
            return register.named_key(connection, reference)

    def revoke_key(self, key_id: str, /) -> ApiKey:
        return self.change(lambda connection: register.revoke_key(connection, key_id))

    def rotate_key(self, key_id: str, /) -> MintedKey:
        """Raises `ValueError` for a revoked key: it must not come back to life by this."""
        return self.change(lambda connection: register.rotate_key(connection, key_id))

    def usage(
        self,
        *,
        email: str | None = None,
        key_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[UsageRow]:
        """As `Ledger.usage`: from `since` on and before `until`. Rows that come meanwhile may be seen."""
        for name, instant in (("since", since), ("until", until)):
            if instant is not None and instant.tzinfo is None:
                raise ValueError(f"{name} needs a time zone")
        query = select(usage_rows)
        if email is not None:
            emails = {email, email.lower()}
            query = query.where(
                usage_rows.c.email == email if len(emails) == 1 else usage_rows.c.email.in_(emails)
            )
        if key_id is not None:
            query = query.where(usage_rows.c.key_id == key_id)
        if since is not None:
            query = query.where(usage_rows.c.started_at >= since)
        if until is not None:
            query = query.where(usage_rows.c.started_at < until)
        return self._pages(query, limit, newest_first)

    def row(self, request_id: str, /) -> UsageRow | None:
        with self._database.reading() as connection:
            found = select(usage_rows).where(usage_rows.c.id == request_id)
            record = connection.execute(found).one_or_none()
        return None if record is None else usage_row(record)

    def _pages(
        self, query: Select[tuple[object, ...]], limit: int | None, newest_first: bool
    ) -> Iterator[UsageRow]:
        """Page by page, each from where the last one ended: no cursor stays open in between."""
        position = tuple_(usage_rows.c.started_at, usage_rows.c.id)
        order = [usage_rows.c.started_at, usage_rows.c.id]
        query = query.order_by(*(column.desc() for column in order) if newest_first else order)
        page = query
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            with self._database.reading() as connection:
                rows = [usage_row(record) for record in connection.execute(page.limit(size))]
            yield from rows
            if len(rows) < size:
                return
            if limit is not None:
                limit -= size
            last = (rows[-1].started_at, rows[-1].id)
            page = query.where(position < last if newest_first else position > last)

    # For what keeps tables of its own in this database.

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that only reads. Raises `LedgerError`."""
        return self._database.reading()

    def change(self, function: Callable[[Connection], _Result]) -> _Result:
        """Runs it in a transaction: the writer's own, or one beside it. It may run twice, the first
        time in vain. Raises what it raises, `KeyError` or `ValueError`, and `LedgerError`."""
        if self._writer is None:
            with self._database.transaction() as connection:
                return function(connection)
        result = self._writer.call(function)
        try:
            self._refresh()
        except LedgerError as error:  # it is done all the same, and will be seen
            logger.warning("a changed key cannot be read yet: %s", error)
        return result

    def _follow(self) -> None:
        failed = False
        changes = Changes(self._database.path)
        while not self._ending.wait(_REFRESH):
            if not (changes.seen() or failed):
                continue
            try:
                self._refresh()
            except LedgerError as error:
                if not failed:
                    logger.error("changes of keys cannot be read: %s", error)
                failed = True
            else:
                failed = False
        changes.close()

    def _refresh(self) -> None:
        """Takes over keys that changed, whoever changed them."""
        seen = self._revision
        with self._database.reading() as connection:
            entries = register.changed_entries(connection, seen)
        self._keyring.install(entries)
        # Another thread may have come further; then the same keys are read once more.
        self._revision = max((entry.revision for entry in entries), default=seen)

    def _release(self) -> None:
        if self._reservation is not None:
            os.close(self._reservation)
            self._reservation = None
