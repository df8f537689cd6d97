"""Answers and conversations in an embedded database of their own: what is kept for clients that return.

Apart from the ledger, so that what people said can be deleted, backed up and limited without touching
the account. One thread has the one connection: nothing here is on the way of a token.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TypeVar

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
from sqlalchemy.exc import SQLAlchemyError

from gateway.errors import LedgerUnavailable
from gateway.ports import Archive
from gateway.records import Document
from keys.database import describe, file_of, make_directory

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
    # No write-ahead log: there is one connection, and a copy of the file is always whole.
    "PRAGMA journal_mode = TRUNCATE",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",  # what a user deletes is not left in the file
)


class ArchiveError(OSError):
    """The archive cannot be used, as the operator is told of it. One line, with the file's path."""


class SQLiteArchive(Archive):
    """Keeps documents in one SQLite file, `sqlite:///data/archive.db`."""

    def __init__(self, url: str) -> None:
        self._path = file_of(url)
        self._thread: ThreadPoolExecutor | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        if self._thread is not None:
            return
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="archive")
        try:
            thread.submit(self._open).result()
        except BaseException:
            thread.shutdown()
            raise
        self._thread = thread

    def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.submit(self._close)
            thread.shutdown()

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
        return await self._do(lambda connection: connection.execute(statement).rowcount > 0)

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
        return await self._do(lambda connection: connection.execute(statement).rowcount)

    # In the thread.

    def _open(self) -> None:
        try:
            make_directory(self._path.parent)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            engine = create_engine(
                URL.create("sqlite", database=str(self._path)),
                creator=self._connect,
                poolclass=NullPool,
                hide_parameters=True,  # nothing that anybody said in an error's text
            )
            self._connection = engine.connect()
            _documents.metadata.create_all(self._connection)
            self._connection.commit()
        except (SQLAlchemyError, OSError) as error:
            raise ArchiveError(f"{self._path}: {describe(error)}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path)
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def _do(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.wrap_future(self._submit(work))

    def _submit(self, work: Callable[[Connection], T]) -> Future[T]:
        if self._thread is None:
            raise LedgerUnavailable("The archive is not open.")
        return self._thread.submit(self._transact, work)

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            raise LedgerUnavailable("The archive is not open.")
        try:
            with self._connection.begin():
                return work(self._connection)
        except SQLAlchemyError as error:
            log.error("%s: %s", self._path, describe(error))
            raise LedgerUnavailable("The archive cannot be used.") from error


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
