"""Which tool calls of ours a caller may see, and how much of them. How they look is the wire's."""

import re
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

LONGEST = 4096
"""Characters of arguments or of a result that are shown."""

_TOOL_EVENTS = frozenset(
    {ToolCallStart, ToolCallDelta, ToolCallReady, ToolCallProgress, ToolCallResult}
)

# What a tool returns may be a page that somebody wrote to occupy us: no alternative may look far
# ahead from a place that the text can repeat. A slug (`sk-learn-for-beginners`) is no key: those have
# digits or capitals.
_SECRETS = re.compile(
    r"""\b(?:sk|pk|rk|gsk|xai|gh[oprsu]|xox[abeprs]|glpat|github_pat)[-_]
        (?=[-_a-z]{0,60}[A-Z0-9])[-_A-Za-z0-9]{12,}                # keys by their prefix
      | \b(?:AIza|AKIA|ASIA)[-_A-Za-z0-9]{12,}
      | \bBearer\s{1,8}[-._~+/A-Za-z0-9]{12,}=*
      | (?<![-_A-Za-z0-9])eyJ[-_A-Za-z0-9]{8,}\.[-_A-Za-z0-9]{8,}\.[-_A-Za-z0-9]{8,}   # a JWT
      | -----BEGIN[ A-Z]{0,40}PRIVATE\ KEY-----.*?(?:-----END[ A-Z]{0,40}PRIVATE\ KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
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
    text = _SECRETS.sub("[secret]", text)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
