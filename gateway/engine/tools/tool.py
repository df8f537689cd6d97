"""What a tool is: the one interface that the tool loop knows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gateway.events import Json


class ToolFailed(Exception):
    """A tool could not do it. The message goes to the model, and to callers who may see results."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the call that it works for."""

    request_id: str
    call_id: str
    email: str
    report: Callable[[str, float | None, float | None], None]
    """Tell the caller how far it is: message, progress, total. Safe to call at any rate."""


class Tool(Protocol):
    """Runs on this server, for a model. Cancelled when the caller leaves or `timeout` has passed."""

    name: str
    description: str
    parameters: Json
    """JSON schema of the arguments, an object."""
    timeout: float
    """Seconds."""

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        """Text for the model. `arguments` is what the model wrote, parsed, not checked against the
        schema. Raises `ToolFailed`; anything else is a fault of the tool, logged and hidden."""
        ...


@runtime_checkable
class Closable(Protocol):
    """What a tool is besides when it holds connections."""

    async def aclose(self) -> None: ...
