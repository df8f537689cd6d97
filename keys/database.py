"""One SQLite file: where it is, who may write to it, and how it is read beside its writer.

SQLite before 3.51.3 can damage a database when one connection starts its write-ahead log anew while
another one writes. So whoever writes here, checkpoints or closes a writing connection holds the
lock `<file>.lock`, in whichever process; and readers cannot write at all, so that none of them ever
checkpoints. That also orders writers fairly, which SQLite's own lock does not.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, NullPool, PoolProxiedConnection, create_engine
from sqlalchemy.exc import SQLAlchemyError

from keys import lock
from keys.schema import SchemaTooNew, migrate

_PATIENCE = 5.0
"""Seconds to wait for another process that writes."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(_PATIENCE * 1000)}",
    "PRAGMA synchronous = FULL",  # NORMAL forgets the last commits when the power fails
    "PRAGMA foreign_keys = ON",
    f"PRAGMA journal_size_limit = {64 << 20}",
)


class LedgerError(OSError):
    """The ledger cannot be used, as the operator is told of it. One line, with the file's path."""


class LedgerBusy(LedgerError):
    """Another gateway serves from this ledger."""


class Database:
    """The file behind a URL like `sqlite:///data/sluice.db`. Raises `ValueError`; opens nothing yet."""

    def __init__(self, url: str) -> None:
        self.path = file_of(url)
        self._lock = self.path.with_name(self.path.name + ".lock")
        self._prepared = False
        self._file: tuple[int, int] | None = None
        self._writer = self._engine("rw")
        # The gateway's writer has the log in hand: others leave it to checkpoint when it sees fit.
        self._guest = self._engine("rw", "PRAGMA wal_autocheckpoint = 0")
        self._reader = self._engine("ro", "PRAGMA query_only = ON")
        begin_immediately(self._writer)
        begin_immediately(self._guest)

    def prepare(self) -> None:
        """Makes the file and its tables, or brings them forward. Raises `LedgerError`."""
        if self._prepared:
            return
        with self.explained():
            make_directory(self.path.parent)
            with self.exclusive():
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                with self._guest.connect() as connection:
                    self._use_wal(connection)
                    with connection.begin():
                        migrate(connection)
        self._prepared = True

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the lock of writers. Raises `TimeoutError` and other `OSError`s."""
        with lock.held(self._lock, _PATIENCE):
            yield

    def reserve(self) -> int:
        """Takes the file for one serving process: a descriptor that holds it until it is closed.

        Raises `LedgerBusy`.
        """
        path = self.path.with_name(self.path.name + ".server.lock")
        try:
            # A process that was just killed may need a moment to let go.
            descriptor = lock.acquire(path, timeout=1.0)
        except TimeoutError:
            raise LedgerBusy(
                f"another gateway (process {_holder(path)}) serves from {self.path}: "
                "stop it first, or give this one a database of its own"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        return descriptor

    def connect(self) -> Connection:
        """A lasting connection that writes. The caller is `exclusive`, also to close it."""
        connection = self._writer.connect()
        status = self.path.stat()
        self._file = (status.st_dev, status.st_ino)
        return connection

    def check_place(self) -> None:
        """Raises `FileNotFoundError` if the file was moved or replaced under a lasting connection.

        SQLite would go on and write into a file that nobody ever finds again.
        """
        status = self.path.stat()
        if self._file != (status.st_dev, status.st_ino):
            raise FileNotFoundError(f"{self.path} is not the file it was")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction of its own connection, for an operator's command beside a gateway."""
        self.prepare()
        with (
            self.explained(),
            self.exclusive(),
            self._guest.connect() as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads, and holds a snapshot no longer than a statement takes."""
        self.prepare()
        with self.explained(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Failures of the file, in a line for the operator: `LedgerError`."""
        try:
            yield
        except LedgerError:
            raise
        except (SQLAlchemyError, SchemaTooNew, OSError) as error:
            raise LedgerError(f"{self.path}: {describe(error)}") from error

    def _use_wal(self, connection: Connection) -> None:
        driver = connection.connection.cursor()
        (mode,) = driver.execute("PRAGMA journal_mode = WAL").fetchone()
        driver.close()
        if mode != "wal":
            raise LedgerError(
                f"{self.path}: SQLite cannot keep a write-ahead log there; use a local disk"
            )

    def _engine(self, mode: str, *pragmas: str) -> Engine:
        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}",
                uri=True,
                isolation_level=None,  # pysqlite would begin transactions by itself, and too late
                check_same_thread=False,
            )
            for pragma in (*_PRAGMAS, *pragmas):
                connection.execute(pragma)
            return connection

        return create_engine(
            URL.create("sqlite", database=str(self.path)),
            creator=connect,
            poolclass=NullPool,
            hide_parameters=True,  # no digest or address of a user in an error's text
        )


class Changes:
    """Tells whether a database was written to, for a thirtieth of what it takes to open and read it.
    For one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._place: tuple[int, int] | None = None
        self._version: object = None

    def seen(self) -> bool:
        """Whether there may be any since the last look: also where that cannot be told."""
        try:
            status = self._path.stat()
            if self._connection is None or self._place != (status.st_dev, status.st_ino):
                self._open()
                self._place = status.st_dev, status.st_ino
            assert self._connection is not None
            version: object = self._connection.execute("PRAGMA data_version").fetchone()
        except (OSError, sqlite3.Error):
            self.close()
            return True
        changed, self._version = version != self._version, version
        return changed

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = self._place = self._version = None

    def _open(self) -> None:
        self.close()
        self._connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)


def begin_immediately(engine: Engine) -> None:
    """Has its transactions lock out other writers from the beginning: one that reads first and wants to write
    later is refused at once, whatever the timeout."""
    engine.dialect.do_begin = _begin  # type: ignore[method-assign, assignment]  # an event took three times as long


def _begin(connection: PoolProxiedConnection) -> None:
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    cursor.close()


def file_of(url: str) -> Path:
    """The file that a URL names, as it is written: nothing in it is decoded, so that any path can be put
    into a URL. Raises `ValueError`."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite" or not path or path == ":memory:" or "?" in path:
        raise ValueError("the URL has to name a file like this: sqlite:///data/sluice.db")
    return Path(path).expanduser()


def make_directory(path: Path) -> None:
    """The directory and those above it, for this user alone where they are new."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=0o700, exist_ok=True)


def _holder(path: Path) -> str:
    try:
        return path.read_text() or "unknown"
    except OSError:
        return "unknown"


def describe(error: Exception) -> str:
    """The driver's words, without statement, values and links."""
    return str(getattr(error, "orig", None) or error)
