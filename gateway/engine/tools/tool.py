"""What a tool is: the one interface that the tool loop knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from gateway.events import Json


class ToolFailed(Exception):
    """A tool could not do it. The message goes to the model, and to callers who may see results."""


class Report(Protocol):
    """Tells the caller how far a tool is. May be called at any rate."""

    def __call__(
        self, message: str, progress: float | None = None, total: float | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool may know of the call that it works for."""

    request_id: str
    call_id: str
    email: str
    """Of the key's user."""
    report: Report
    key_name: str = ""
    """What the key is called, so that one user's keys can be told apart."""
    caller: str | None = None
    """The telephone number of who speaks, where the client tells it."""
    conversation: str | None = None
    """The client's name for the conversation."""
    user: str | None = None
    """The person behind the client, where the client is trusted to say so."""


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


@runtime_checkable
class Foreign(Protocol):
    """What a tool is besides when a server runs it that is not the operator's own work."""

    server: str
    """Its name in the settings; callers see it with the tool's calls."""
    trusted: bool
    """Whether models may take its results as they are, without the words that warn of them."""


class Source(Protocol):
    """Tools that come and go while the gateway runs."""

    def tools(self) -> Sequence[Tool]:
        """Those there are at present."""
        ...


@runtime_checkable
class Toolbox(Source, Protocol):
    """A source that has to be started, as a server elsewhere has. Names of its tools begin with its own
    and an underscore."""

    name: str

    def status(self) -> Mapping[str, object]:
        """`state` (starting, up, down) and figures, for everybody to see; JSON. Does no I/O."""
        ...

    async def start(self) -> None:
        """Returns when it has tools, or will not have them soon. Called once."""
        ...

    async def aclose(self) -> None: ...
