"""`tool_notification`: a server tool's life, told inside a stream that has no word for it.

The frame is a whole chunk with an empty delta, so that an SDK which knows nothing of it takes it for
one. Which clients break on which form was found by running them (docs/notifications.md).
"""

from dataclasses import dataclass

import orjson

from gateway.events import Citation, ToolCallProgress, ToolCallResult, ToolStatus
from gateway.records import Dialect
from gateway.sse import dump, frame

EVENT = "tool_notification"

_LONGEST_QUERY = 200
"""Characters. It is a headline, and stands in every frame of its call."""

_STATUS: dict[ToolStatus, str] = {
    "ok": "completed",
    "error": "failed",
    "timeout": "failed",
    "denied": "failed",
    "cancelled": "cancelled",
}


@dataclass(slots=True)
class _Told:
    tool: str
    server: str | None
    arguments: object = None
    query: str | None = None


class Notifications:
    """Those of one response: numbers them and remembers what each call was about."""

    def __init__(self, dialect: Dialect, chunk: bytes) -> None:
        """`chunk`: a chunk with an empty delta, without its closing brace."""
        self._dialect = dialect
        self._chunk = chunk
        self._seq = 0
        self._calls: dict[str, _Told] = {}
        self._running: set[str] = set()
        self._sources: set[str] = set()
        """Addresses that were told."""

    def announce(self, call_id: str, tool: str, server: str | None) -> None:
        self._calls[call_id] = _Told(tool, server)

    def knows(self, call_id: str) -> bool:
        return call_id in self._calls

    def started(self, call_id: str, arguments: str) -> bytes:
        told = self._calls[call_id]
        self._running.add(call_id)
        if arguments:
            told.arguments, told.query = _read(arguments)
        return self._tell(call_id, "started", {})

    def progress(self, event: ToolCallProgress) -> bytes:
        record: dict[str, object] = {"message": event.message} if event.message else {}
        if event.progress is not None:
            record["progress"] = event.progress
        if event.total is not None:
            record["total"] = event.total
        return self._tell(event.call_id, "progress", record)

    def ended(self, event: ToolCallResult) -> bytes:
        self._running.discard(event.call_id)
        record: dict[str, object] = {"duration_ms": round(event.duration * 1000)}
        if event.status not in ("ok", "error"):
            record["reason"] = event.status
        if event.output:
            record["result"] = event.output
        return self._tell(event.call_id, _STATUS[event.status], record)

    def close(self) -> bytes:
        """Ends what still runs, where an answer was broken off from outside: nobody else would."""
        left = [call_id for call_id in self._calls if call_id in self._running]
        self._running.clear()
        return b"".join(self._tell(each, "cancelled", {"reason": "cancelled"}) for each in left)

    def source(self, citation: Citation) -> bytes | None:
        """A source as its reader shows it, once; None where there is no word for it but OpenAI's."""
        if self._dialect is not Dialect.OPENWEBUI:
            return None
        if citation.url in self._sources:
            return b""
        self._sources.add(citation.url)
        name = citation.title or citation.url
        source = {
            "source": {"name": name, "url": citation.url},
            "document": [name],
            "metadata": [{"source": citation.url, "name": name}],
        }
        event = {"event": {"type": "source", "data": source}}
        return frame(self._chunk + b"," + dump(event)[1:])

    def _tell(self, call_id: str, status: str, more: dict[str, object]) -> bytes:
        if self._dialect is Dialect.OFF:
            return b""
        told = self._calls[call_id]
        self._seq += 1
        record: dict[str, object] = {"id": call_id, "tool": told.tool, "status": status}
        if told.server is not None:
            record["server"] = told.server
        if told.arguments is not None and status != "progress":
            record["arguments"] = told.arguments
        record |= more
        record["seq"] = self._seq
        if self._dialect is Dialect.BARE:
            return frame(dump(record), EVENT)
        top: dict[str, object] = {"tool": told.tool, "status": status}
        if told.query is not None:
            top["query"] = told.query[:_LONGEST_QUERY]
        if "result" in more:
            top["result"] = more["result"]
        if self._dialect is Dialect.OPENWEBUI:
            top["event"] = {"type": "status", "data": _describe(told, status, more)}
        top[EVENT] = record
        data = self._chunk + b"," + dump(top)[1:]
        return frame(data, EVENT if self._dialect is Dialect.NAMED else None)


def _read(arguments: str) -> tuple[object, str | None]:
    """The arguments as JSON where they are, and the one line that says what the call is about."""
    try:
        value = orjson.loads(arguments)
        # The parser takes four times the depth that can be written again, here within a chunk.
        orjson.dumps([[[value]]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return arguments, arguments
    if isinstance(value, dict):
        query = value.get("query")
        if isinstance(query, str):
            return value, query
        only = list(value.values())
        if len(only) == 1 and isinstance(only[0], str):
            return value, only[0]
        return value, arguments if value else None
    return value, arguments


def _describe(told: _Told, status: str, more: dict[str, object]) -> dict[str, object]:
    """Open WebUI's status line. Every one that is opened is closed with `done`: its shimmer never
    ends otherwise."""
    about = f": {told.query[:_LONGEST_QUERY]}" if told.query else ""
    match status:
        case "started":
            text = f"Running {told.tool}{about}"
        case "progress" if "message" in more:
            text = f"{told.tool}: {more['message']}"
        case "progress":
            text = f"Running {told.tool}{about}"
        case "completed":
            text = f"Ran {told.tool}{about}"
        case _:
            text = f"{told.tool} {status}{about}"
    return {"description": text, "done": status not in ("started", "progress")}
