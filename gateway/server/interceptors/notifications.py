"""Which tool calls of ours a caller may see, and how much of them. How they look is the wire's."""

from dataclasses import replace

from gateway.events import (
    Event,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.ports import Batch
from gateway.records import Detail
from gateway.secrets import conceal
from gateway.server.pipeline import Filter

LONGEST = 4096
"""Characters of arguments or of a result that are shown."""

_TOOL_EVENTS = frozenset(
    {ToolCallStart, ToolCallDelta, ToolCallReady, ToolCallProgress, ToolCallResult}
)


class ToolFilter(Filter):
    """Shows the tool calls of one answer. Those of the client's own tools pass untouched: they are its
    to run."""

    hears_text = False

    def __init__(self, detail: Detail) -> None:
        self._detail = detail
        self._ours: set[str] = set()
        """Ids of the calls that the client does not run, as they are announced."""

    def take(self, batch: Batch, /) -> Batch:
        if _TOOL_EVENTS.isdisjoint(map(type, batch)):
            return batch
        shown = [
            _show(self._detail, event, self._ours) if type(event) in _TOOL_EVENTS else event
            for event in batch
        ]
        return [event for event in shown if event is not None]


def _show(detail: Detail, event: Event, ours: set[str]) -> Event | None:
    """`ours`: as in `ToolFilter`; a call is added when it is announced."""
    if isinstance(event, ToolCallStart):
        if event.executor == "client":
            return event
        ours.add(event.call_id)
        return event if detail >= Detail.NAMES else None
    if not isinstance(event, ToolCallDelta | ToolCallReady | ToolCallProgress | ToolCallResult):
        return event
    if event.call_id not in ours:
        return event
    match event:
        case _ if detail < Detail.NAMES:
            return None
        case ToolCallDelta():
            # A fragment cannot be scrubbed, and the whole follows.
            return None
        case ToolCallReady():
            return replace(
                event, arguments=scrub(event.arguments) if detail >= Detail.ARGUMENTS else ""
            )
        case ToolCallProgress():
            return replace(event, message=scrub(event.message) if detail >= Detail.RESULTS else "")
        case ToolCallResult():
            return replace(event, output=scrub(event.output) if detail >= Detail.RESULTS else "")


def scrub(text: str) -> str:
    """Without anything that looks like a credential, and not longer than people read."""
    text = conceal(text, "[secret]")
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
