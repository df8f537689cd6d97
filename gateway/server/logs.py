"""Log lines: one JSON object each, with the id of the call they belong to. Never a key or a prompt."""

import functools
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import islice
from typing import Literal, TextIO

import orjson

from gateway.secrets import conceal

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_OWN = len(logging.makeLogRecord({}).__dict__)
"""Attributes that every record has, before any others."""
_ADDED = frozenset({"message", "asctime", "color_message"})
"""Those that formatters may add; whatever else there is was given by `extra`."""

_PAUSE = 0.01
"""Seconds that lines wait for others, to be written with them."""
_PATIENCE = 2.0
"""Seconds to wait for a standard error that takes nothing, when all is to be written."""
_MOST = 4 << 20
"""Characters that wait at most."""

_LONGEST = 8192
_SHORT = 64
"""Most of what is logged is: names of models and providers, ids, statuses, again and again."""

_TALKATIVE = (
    "openai",
    "anthropic",
    "httpx2",
    "httpcore2",
    "sse_starlette",
    "aiohttp",
    "asyncio",
    "uvicorn.error",
)


@contextmanager
def request(request_id: str) -> Iterator[None]:
    """Log lines in this context carry the id."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


class Lines(logging.Handler):
    """Writes lines together, in a thread of its own.

    A write and a flush for each line took a tenth of a request's time on the event loop's thread,
    and would stop every stream where nobody reads standard error. Here what nobody reads is kept up
    to a bound, and then counted instead.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._size = 0
        self._dropped = 0
        self._urgent = self._writing = self._closed = False
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def createLock(self) -> None:
        # Ours suffices; and `logging.shutdown` would hold it while `flush` waits for the thread.
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
        except Exception:  # as in every handler: a line that cannot be told fails nobody's call
            self.handleError(record)
            return
        with self._changed:
            if self._closed:  # what is said while the interpreter ends: no thread runs any more
                self._write([line])
            elif self._size + len(line) > _MOST:
                self._dropped += 1
            else:
                self._lines.append(line)
                self._size += len(line)
                if record.levelno >= logging.ERROR:
                    self._urgent = True
                if len(self._lines) == 1 or self._urgent:
                    self._changed.notify_all()

    def flush(self) -> None:
        """Returns when all is written, or cannot be for a while."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._lines and not self._writing, _PATIENCE)

    def close(self) -> None:
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        super().close()

    def _run(self) -> None:
        while lines := self._take():
            self._write(lines)

    def _take(self) -> list[str]:
        """What waits to be written, as soon as there is something; nothing once closed."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._lines or self._closed)
            self._changed.wait_for(lambda: self._urgent, _PAUSE)
            lines, self._lines = self._lines, []
            if self._dropped:
                lines.append(self._tell_of_dropped())
            self._size = self._dropped = 0
            self._urgent, self._writing = False, True
            return lines

    def _tell_of_dropped(self) -> str:
        told: dict[str, object] = {
            "msg": "%d lines were dropped: nobody read standard error",
            "args": (self._dropped,),
            "name": __name__,
            "levelno": logging.WARNING,
            "levelname": "WARNING",
        }
        return self.format(logging.makeLogRecord(told)) + "\n"

    def _write(self, lines: list[str]) -> None:
        # Nobody is left to be told that standard error is gone.
        with suppress(OSError, ValueError):
            self._stream.write("".join(lines))
            self._stream.flush()


def flush() -> None:
    """Writes what waits to be written. Before the end of a process that a signal ends: no thread and
    no `atexit` runs after that."""
    for handler in logging.getLogger().handlers:
        handler.flush()


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return orjson.dumps(_line(self, record), default=str).decode()


class TextFormatter(logging.Formatter):
    """For people. What there is nothing to say of is left out. Control characters are escaped: a line
    is a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = _line(self, record)
        head = (
            f"{line.pop('time')} {line.pop('level'):7} {line.pop('logger')}: {line.pop('message')}"
        )
        error = line.pop("error", None)
        rest = "".join(
            f" {name}={value}" for name, value in line.items() if value is not None and value != ""
        )
        text = (head + rest).encode("unicode_escape").decode("ascii")
        return text if error is None else f"{text}\n{error}"


def _line(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, object]:
    line: dict[str, object] = {
        "time": _time(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _shown(record.getMessage())[:_LONGEST],
    }
    if (request_id := _request_id.get()) is not None:
        line["request_id"] = request_id
    line |= {
        name: _shown(value) if isinstance(value, str) else value
        for name, value in islice(record.__dict__.items(), _OWN, None)
        if name not in _ADDED
    }
    if record.exc_info:
        line["error"] = conceal(formatter.formatException(record.exc_info))[:_LONGEST]
    return line


def _time(created: float) -> str:
    second = int(created)
    return f"{_second(second)}.{int((created - second) * 1000):03}+00:00"


@functools.lru_cache(1)
def _second(second: int) -> str:
    """Of the hundreds of lines in a second, one pays for the calendar."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _shown(text: str) -> str:
    return _conceal_short(text) if len(text) <= _SHORT else conceal(text)


_conceal_short = functools.lru_cache(1024)(conceal)
"""The search took a third of the time of a line."""


def configure(level: str, form: Literal["json", "text"]) -> None:
    """All log lines of the process, those of uvicorn and the SDKs included, go to stderr like this."""
    # Our lines do not say where in the code they come from, which costs more than all the rest.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = Lines(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # At the debug level these write requests and answers, prompts and keys included; at the info
    # level a line for each request, where ours says more.
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
