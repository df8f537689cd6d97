"""Answers and conversations in an embedded database of their own: what is kept for clients that return.

Apart from the ledger, so that what people said can be deleted, backed up and limited without touching
the account. One thread has the one connection, and commits what waits as one transaction: the cost of a
durable commit is shared by all who wait for it. Nothing here is on the way of a token.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Index,
    LargeBinary,
    MetaData,
    NullPool,
    Row,
    Table,
    Text,
    and_,
    create_engine,
    delete,
    or_,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from gateway.errors import LedgerUnavailable
from gateway.ports import Archive
from gateway.records import Document
from keys import lock
from keys.database import begin_immediately, describe, file_of, make_directory

log = logging.getLogger(__name__)

T = TypeVar("T")

_EPOCH = datetime.fromtimestamp(0, UTC)

_documents = Table(
    "documents",
    MetaData(),
    Column("owner", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("about", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index("documents_listed", "owner", "kind", "updated_at", "id"),
    Index("documents_expired", "updated_at"),
    sqlite_with_rowid=False,
)

_PRAGMAS = (
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL forgets the last commits when the power fails
    "PRAGMA secure_delete = ON",  # what a user deletes is not left in the file
)

_FORGET = "PRAGMA wal_checkpoint(TRUNCATE)"
"""Nor in its log."""

_GROUP = 200
"""Pieces of work in one transaction, at most."""


@dataclass(slots=True, eq=False)
class _Work(Generic[T]):
    do: Callable[[Connection], T]
    forgets: bool = False
    """Whether something is deleted that must not be found in the log either."""
    done: Future[T] = field(default_factory=Future)


class ArchiveError(OSError):
    """The archive cannot be used, as the operator is told of it. One line, with the file's path."""


class SQLiteArchive(Archive):
    """Keeps documents in one SQLite file, `sqlite:///data/archive.db`, for one process at a time."""

    def __init__(self, url: str) -> None:
        self._path = file_of(url)
        self._queue: SimpleQueue[_Work[Any] | None] | None = None
        self._thread: Thread | None = None

    def start(self) -> None:
        if self._thread is not None:
            return
        opened: Future[None] = Future()
        queue: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        thread = Thread(target=self._run, args=(queue, opened), name="archive", daemon=True)
        thread.start()
        opened.result()
        self._queue, self._thread = queue, thread

    def close(self) -> None:
        queue, thread = self._queue, self._thread
        self._queue = self._thread = None
        if queue is not None and thread is not None:
            queue.put(None)
            thread.join()

    async def get(self, owner: str, kind: str, document_id: str, /) -> Document | None:
        def find(connection: Connection) -> Document | None:
            row = connection.execute(select(_documents).where(_is(owner, kind, document_id)))
            return next(map(_document, row), None)

        return await self._do(find)

    async def put(self, document: Document, /) -> None:
        await self._do(lambda connection: _write(connection, document))

    def save(self, document: Document, /) -> None:
        def tell(done: Future[None]) -> None:
            if (error := done.exception()) is not None:
                log.error("document %s is lost: %s", document.id, error)

        try:
            future = self._submit(lambda connection: _write(connection, document))
        except LedgerUnavailable as error:
            log.error("document %s is lost: %s", document.id, error.message)
        else:
            future.add_done_callback(tell)

    async def delete(self, owner: str, kind: str, document_id: str, /) -> bool:
        statement = delete(_documents).where(_is(owner, kind, document_id))
        return await self._do(
            lambda connection: connection.execute(statement).rowcount > 0, forgets=True
        )

    async def list(
        self, owner: str, kind: str, /, *, limit: int, after: str | None = None
    ) -> Sequence[Document]:
        def page(connection: Connection) -> Sequence[Document]:
            table = _documents.c
            query = select(*(c for c in table if c.name != "data"))
            query = query.where(table.owner == owner, table.kind == kind)
            if after is not None:
                place = select(table.updated_at).where(_is(owner, kind, after))
                moment = connection.execute(place).scalar()
                if moment is None:
                    return []
                query = query.where(
                    or_(
                        table.updated_at < moment,
                        and_(table.updated_at == moment, table.id < after),
                    )
                )
            query = query.order_by(table.updated_at.desc(), table.id.desc()).limit(limit)
            return list(map(_document, connection.execute(query)))

        return await self._do(page)

    async def expire(self, before: datetime, /) -> int:
        statement = delete(_documents).where(_documents.c.updated_at < _number(before))
        return await self._do(
            lambda connection: connection.execute(statement).rowcount, forgets=True
        )

    async def _do(self, work: Callable[[Connection], T], *, forgets: bool = False) -> T:
        return await asyncio.wrap_future(self._submit(work, forgets=forgets))

    def _submit(self, work: Callable[[Connection], T], *, forgets: bool = False) -> Future[T]:
        if self._queue is None:
            raise LedgerUnavailable("The archive is not open.")
        item = _Work(work, forgets)
        self._queue.put(item)
        return item.done

    # In the thread.

    def _run(self, queue: SimpleQueue[_Work[Any] | None], opened: Future[None]) -> None:
        try:
            with contextlib.ExitStack() as held:
                connection = self._open(held)
                opened.set_result(None)
                while (first := queue.get()) is not None:
                    group, last = _gather(first, queue)
                    self._commit(connection, group)
                    if last:
                        return
        except (SQLAlchemyError, OSError) as error:
            opened.set_exception(ArchiveError(f"{self._path}: {describe(error)}"))

    def _open(self, held: contextlib.ExitStack) -> Connection:
        make_directory(self._path.parent)
        try:
            owner = lock.acquire(self._path.with_name(f"{self._path.name}.lock"), timeout=1.0)
        except TimeoutError:
            raise OSError("another gateway keeps its answers there") from None
        held.callback(os.close, owner)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            creator=self._connect,
            poolclass=NullPool,
            hide_parameters=True,  # nothing that anybody said in an error's text
        )
        begin_immediately(engine)
        connection = held.enter_context(engine.connect())
        with connection.begin():
            _documents.metadata.create_all(connection)
        return connection

    def _connect(self) -> sqlite3.Connection:
        # No implicit transactions: the driver would begin them too late.
        connection = sqlite3.connect(self._path, isolation_level=None)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        return connection

    def _commit(self, connection: Connection, group: Sequence[_Work[Any]]) -> None:
        """Each is done or not by itself; none is until all are on disk."""
        group = [work for work in group if work.done.set_running_or_notify_cancel()]
        results: list[tuple[Future[Any], object]] = []
        try:
            with connection.begin():
                for work in group:
                    try:
                        with connection.begin_nested():
                            results.append((work.done, work.do(connection)))
                    except (DataError, IntegrityError, UnicodeError) as error:
                        work.done.set_exception(self._failed(error))
            if any(work.forgets for work in group):
                self._forget(connection)
        except Exception as error:  # the thread lives on, whatever it is, and who waits is told
            failure = self._failed(error)
            for work in group:
                if not work.done.done():
                    work.done.set_exception(failure)
            return
        for done, result in results:
            done.set_result(result)

    def _forget(self, connection: Connection) -> None:
        driver = connection.connection.cursor()
        try:
            driver.execute(_FORGET)
        except sqlite3.Error as error:  # the next one that forgets tries again
            log.warning("%s: what was deleted is in its log yet: %s", self._path, error)
        finally:
            driver.close()

    def _failed(self, error: Exception) -> LedgerUnavailable:
        log.error("%s: %s", self._path, describe(error))
        return LedgerUnavailable("The archive cannot be used.")


def _gather(
    first: _Work[Any], queue: SimpleQueue[_Work[Any] | None]
) -> tuple[list[_Work[Any]], bool]:
    """What waits, and whether the end was among it."""
    group = [first]
    with contextlib.suppress(Empty):
        while len(group) < _GROUP:
            following = queue.get_nowait()
            if following is None:
                return group, True
            group.append(following)
    return group, False


def _write(connection: Connection, document: Document) -> None:
    values = {
        "owner": document.owner,
        "kind": document.kind,
        "id": document.id,
        "about": document.about,
        "data": document.data,
        "created_at": _number(document.created_at),
        "updated_at": _number(document.updated_at),
    }
    changed = {name: values[name] for name in ("about", "data", "updated_at")}
    statement = insert(_documents).values(values)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["owner", "kind", "id"], set_=changed)
    )


def _is(owner: str, kind: str, document_id: str) -> ColumnElement[bool]:
    table = _documents.c
    return and_(table.owner == owner, table.kind == kind, table.id == document_id)


def _document(row: Row[tuple[object, ...]]) -> Document:
    fields = row._mapping
    return Document(
        owner=fields["owner"],
        kind=fields["kind"],
        id=fields["id"],
        about=fields["about"],
        data=fields.get("data", b""),
        created_at=_moment(fields["created_at"]),
        updated_at=_moment(fields["updated_at"]),
    )


def _number(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(number: int) -> datetime:
    return _EPOCH + timedelta(microseconds=number)
