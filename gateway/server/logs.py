"""Log lines: one JSON object each, with the id of the call they belong to. Never a key or a prompt."""

import functools
import logging
import logging.config
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

import orjson

from gateway.secrets import conceal

_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)

_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "color_message"}
"""Attributes that every record has; whatever else there is was given by `extra`."""

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
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _shown(record.getMessage())[:_LONGEST],
    }
    if (request_id := _request_id.get()) is not None:
        line["request_id"] = request_id
    line |= {
        name: _shown(value) if isinstance(value, str) else value
        for name, value in record.__dict__.items()
        if name not in _OWN
    }
    if record.exc_info:
        line["error"] = conceal(formatter.formatException(record.exc_info))[:_LONGEST]
    return line


def _shown(text: str) -> str:
    return _conceal_short(text) if len(text) <= _SHORT else conceal(text)


_conceal_short = functools.lru_cache(1024)(conceal)
"""The search took a third of the time of a line."""


def configure(level: str, form: Literal["json", "text"]) -> None:
    """All log lines of the process, those of uvicorn and the SDKs included, go to stderr like this."""
    # Our lines do not say where in the code they come from, which costs more than all the rest.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
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
