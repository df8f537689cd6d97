"""Which tool calls of ours a caller may see, and how much of them. How they look is the wire's."""

from contextlib import aclosing
from dataclasses import replace

from gateway.events import (
    Event,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.ports import Batch, Events
from gateway.records import Call, Detail
from gateway.secrets import conceal

LONGEST = 4096
"""Characters of arguments or of a result that are shown."""

_TOOL_EVENTS = frozenset(
    {ToolCallStart, ToolCallDelta, ToolCallReady, ToolCallProgress, ToolCallResult}
)


async def show_tools(call: Call, events: Events) -> Events:
    """Calls of the client's own tools pass untouched: they are its to run."""
    ours: set[str] = set()
    async with aclosing(events):
        async for batch in events:
            if len(batch) > 1 or type(batch[0]) in _TOOL_EVENTS:
                batch = _filter(call.detail, batch, ours)
                if not batch:
                    continue
            yield batch


def _filter(detail: Detail, batch: Batch, ours: set[str]) -> Batch:
    shown = [
        _show(detail, event, ours) if type(event) in _TOOL_EVENTS else event for event in batch
    ]
    return [event for event in shown if event is not None]


def _show(detail: Detail, event: Event, ours: set[str]) -> Event | None:
    """`ours`: ids of the calls that the client does not run, as they are announced."""
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
