"""The tool calls of one run, told as the grammar of events wants it."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from gateway.events import (
    Event,
    Executor,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    ToolStatus,
)

_MESSAGES = ("message", "msg", "text", "status")
_DONE = ("progress", "done", "current", "step")


@dataclass(slots=True)
class _OpenCall:
    call_id: str
    """Ours."""
    name: str
    ready: bool = False
    started: float = field(default_factory=time.monotonic)


class Calls:
    """Frameworks name a call by the model's id, which may come again in a later round: each call gets
    one of its own where it must, and is open from its start to its result."""

    def __init__(self) -> None:
        self._open: dict[str, _OpenCall] = {}
        """By the framework's id."""
        self._taken: set[str] = set()

    def start(self, call_id: str, name: str, executor: Executor = "server") -> list[Event]:
        """Nothing where it was started before."""
        if call_id in self._open:
            return []
        own = f"call_{uuid.uuid4().hex}" if not call_id or call_id in self._taken else call_id
        self._taken.add(own)
        self._open[call_id] = _OpenCall(own, name)
        return [ToolCallStart(own, name, executor)]

    def write(self, call_id: str, fragment: str) -> list[Event]:
        """A piece of the arguments."""
        call = self._open.get(call_id)
        return [ToolCallDelta(call.call_id, fragment)] if call is not None and fragment else []

    def ready(self, call_id: str, name: str, arguments: str) -> list[Event]:
        """All of the arguments; it begins to run."""
        events = self.start(call_id, name)
        call = self._open[call_id]
        if call.ready:
            return events
        call.ready, call.started = True, time.monotonic()
        return [*events, ToolCallReady(call.call_id, arguments or "{}")]

    def report(self, fields: Mapping[str, object], call_id: object = None) -> list[Event]:
        """What a tool said of its progress, in an event of its own making. Without the id of a call
        it is taken for the only one that runs."""
        running = [call for call in self._open.values() if call.ready]
        call = self._open.get(call_id) if isinstance(call_id, str) else None
        if call is None and len(running) == 1:
            call = running[0]
        if call is None:
            return []
        message = next((text for name in _MESSAGES if (text := _text(fields.get(name)))), None)
        done = next(
            (number for name in _DONE if (number := _number(fields.get(name))) is not None), None
        )
        said = message or orjson.dumps(dict(fields), default=str).decode()
        return [ToolCallProgress(call.call_id, said, done, _number(fields.get("total")))]

    def finish(self, call_id: str, status: ToolStatus, output: str) -> list[Event]:
        """Nothing for a call that is not open."""
        call = self._open.pop(call_id, None)
        if call is None:
            return []
        duration = time.monotonic() - call.started if call.ready else 0.0
        return [ToolCallResult(call.call_id, status, output, duration)]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
