"""What can be plugged in, and what an implementer has to promise.

Plug-ins import this module and the other contracts, nothing else of the gateway. They are found by
entry point (`gateway.providers`, `gateway.agents`, `gateway.wires`, `gateway.ledgers`,
`gateway.archives`, `gateway.mirrors`) or as `module:attribute`. `gateway.exports` are functions:
(ledger, path, email, since, until) to the number of rows written.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

from gateway.events import Error, Event, Json
from gateway.outcome import Outcome
from gateway.records import ApiKey, Call, Dialect, Document, Embeddings, MintedKey, UsageRow
from gateway.request import ChatRequest, EmbeddingRequest
from gateway.sse import dump

Batch: TypeAlias = Sequence[Event]
"""Events that arrived together, in order. Never empty, never held back to wait for more."""

Events: TypeAlias = AsyncGenerator[Batch, None]
"""A generator, so that it can be closed. Whoever iterates it closes it (`contextlib.aclosing`)."""

Interceptor: TypeAlias = Callable[[Call, Events], Events]
"""Wraps the stream of a call. Sees a sealed stream, and must keep to the grammar itself."""


class Engine(Protocol):
    """Answers a request, with as many model rounds and tool calls as that takes."""

    def stream(self, call: Call, request: ChatRequest, /) -> Events: ...


class Provider(Protocol):
    """Speaks one model round.

    `stream` yields the events of one round and ends with `Complete`; a failure is raised as a
    `GatewayError`, before or after events. An end without the provider's own sign of completion is
    `ProviderTruncated`, never `Complete`. Tool calls are announced with executor `client` (the engine
    knows which ones are its own) or `provider`; `ToolCallReady` only when the arguments are whole.
    Closing or cancelling the generator closes the connection to the model at once.

    Made once at start as `Class(name, config)`: `config` is a row of `providers` in `sluice.yaml`
    without what the engine itself takes care of (`type`, `retries`, `models`, all of `timeout` but
    `connect`, which is there as `connect_timeout` in seconds). Raises `ValueError` in one line that
    names the field and what is expected. Construction asks no network; it may
    look at files that the row names. It may have `retries`, for rows that name none, and `asks_whole`:
    true where a request that is no `stream` has no event before its answer is whole.
    """

    name: str

    def stream(self, request: ChatRequest, /) -> Events: ...

    async def models(self) -> Sequence[str]:
        """Names of the models to list, or nothing where that cannot be told. May ask the server."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Counter(Protocol):
    """What a provider is besides when it can tell a prompt's tokens without answering it."""

    async def count(self, request: ChatRequest, /) -> int:
        """Raises `GatewayError`."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """What a provider is besides when it has models that turn texts into vectors."""

    most_inputs: int
    """Texts in one request, at most. More are asked for in several."""

    async def embed(self, request: EmbeddingRequest, /) -> Embeddings:
        """One vector for each input, in their order. Raises `GatewayError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response that is not streamed."""

    body: bytes
    status: int = 200
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Encoder(Protocol):
    """Events to bytes, for one response. Sync and without I/O; owns what it emits. Inherit from it."""

    def begin(self) -> bytes:
        """Whole frames that open the stream, before its first event is there."""
        return b""

    def encode(self, batch: Batch, /) -> bytes:
        """Whole frames, or nothing. The batch with `Complete` or `Error` closes the stream."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A format for those who write clients: JSON schemas, and words, for `/openapi.json`."""

    summary: str
    request: Json = field(default_factory=lambda: {"type": "object"})
    answer: Json = field(default_factory=lambda: {"type": "object"})
    """What `render` gives."""
    error: Json = field(default_factory=lambda: {"type": "object"})
    """What `render_error` gives."""
    stream: str = "Server-sent events."
    """What a stream consists of."""


class Wire(Protocol):
    """One public API format, request and response. Inherit from it: most of it has a default.

    Made once at start as `Class()`, or as `Class(config)` where `sluice.yaml` has a row for it under
    `wires`; then it raises `ValueError` in one line that names the field and what is expected.
    """

    type: ClassVar[str]
    """The word for it in usage rows."""
    paths: ClassVar[Sequence[str]]
    """Where it is served, by POST."""
    shared_paths: ClassVar[Sequence[str]] = ()
    """Where, by POST, another wire is served as well, and this one is for the bodies that it `claims`."""
    probe_paths: ClassVar[Sequence[str]] = ()
    """Where a GET is answered that asks only whether anybody is there."""
    count_paths: ClassVar[Sequence[str]] = ()
    """Where it is told, by POST, how many tokens a request would send."""
    stored_paths: ClassVar[Sequence[str]] = ()
    """Where an answer that was stored is fetched and deleted; each has `{id}`, which is the `id` in the
    body that `render` made."""
    notifies: ClassVar[bool] = False
    """Whether it writes `tool_notification` in the call's dialect."""
    patience: ClassVar[float | None] = None
    """Seconds for which a stream's status waits for the first event, so that a failure before it is a
    status and no frame; None for what the settings say."""
    heartbeat: ClassVar[float | None] = None
    """Seconds of silence in a stream that its clients bear, where that is less than the settings say."""

    def claims(self, body: Mapping[str, object], key: ApiKey, /) -> bool:
        """Whether a body on `shared_paths` is in this format."""
        return False

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        """`size` is the body's in bytes. Raises `InvalidRequest` naming the parameter, or `Notice`."""
        ...

    def parse_count(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        """The same on `count_paths`, where some fields are not needed."""
        return self.parse(body, size)

    def encoder(self, call: Call, /) -> Encoder: ...

    def interceptors(self, call: Call, /) -> Sequence[Interceptor]:
        """What the format asks of the stream beyond its encoding; the nearest to the client."""
        return ()

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        """The body of an answer that is not streamed."""
        ...

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        """The body of a failure before the first byte; `error.status` is the response's status."""
        ...

    def render_count(self, tokens: int, /) -> Mapping[str, object]:
        """The body of an answer on `count_paths`."""
        return {"input_tokens": tokens}

    def refuse(self, error: Error, request: ChatRequest | None, /) -> Reply:
        """The response to a failure before the first byte. `request` is None where it was not understood."""
        return Reply(body=dump(self.render_error(error)), status=error.status)

    def headers(self, request_id: str, /) -> Mapping[str, str]:
        """Headers of every response to an accounted call, besides `x-request-id`."""
        return {}

    def describe(self) -> Description:
        return Description(summary=f"An answer, by the wire {self.type!r}")


class Ledger(Protocol):
    """Where keys and usage rows are kept.

    Made as `Class(url)`; `start` opens it for serving: takes it for this process alone where the
    medium allows no sharing, and closes the rows that a dead process left open as `interrupted`.
    Without `start` it serves the operator's commands, also beside a running gateway.
    """

    def start(self) -> None:
        """Once is enough; again changes nothing. Raises `OSError` in one line for the operator."""
        ...

    def close(self) -> None:
        """Writes what was handed over, then lets go. Blocks."""
        ...

    # On the way of a call: no blocking.

    def find(self, secret: str, /) -> ApiKey | None:
        """The key of a secret, from memory; None when unknown. A revoked key is returned as such."""
        ...

    async def find_new(self, secret: str, /) -> ApiKey | None:
        """The same for a secret that `find` does not know: another process may have made the key a
        moment ago, and a key works from the moment that it is shown."""
        ...

    def open(self, row: UsageRow, /) -> asyncio.Future[None]:
        """Hand over a new row, which is durable once the future is done. It is for looking at, not for
        cancelling, and nobody has to. Raises `LedgerUnavailable` at once if that is known already, or else
        the future does, within seconds; then the row may be written yet, and is to be settled."""
        ...

    def checkpoint(self, row: UsageRow, /) -> None:
        """Hand over what an open row counts so far; kept if the process dies."""
        ...

    def settle(self, row: UsageRow, /) -> None:
        """Hand over the final state of a row. Called in `finally` blocks: never blocks or raises.
        The first settlement of a row counts; later ones change nothing."""
        ...

    # For the operator: these block.

    def create_key(
        self,
        email: str,
        name: str = "",
        tier: str = "default",
        notifications: Dialect | None = None,
    ) -> MintedKey:
        """Raises `ValueError` for an e-mail or a name that cannot be."""
        ...

    def keys(self) -> Sequence[ApiKey]:
        """All keys, oldest first."""
        ...

    def key(self, reference: str, /) -> ApiKey:
        """By id, unique start of an id, masked form or secret. Raises `KeyError` with a reason."""
        ...

    def revoke_key(self, key_id: str, /) -> ApiKey:
        """Revoking twice keeps the first time."""
        ...

    def rotate_key(self, key_id: str, /) -> MintedKey:
        """A new key for the same user, name and tier; the old one is revoked."""
        ...

    def usage(
        self,
        *,
        email: str | None = None,
        key_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[UsageRow]:
        """Rows in order of their start. Constant memory, however many there are."""
        ...

    def row(self, request_id: str, /) -> UsageRow | None: ...


class Archive(Protocol):
    """Where answers and conversations are kept for clients that come back to them.

    Made as `Class(url)`, and started and closed with the ledger. A document belongs to its owner: to
    anybody else it is not there.
    """

    def start(self) -> None:
        """Raises `OSError` in one line for the operator."""
        ...

    def close(self) -> None:
        """Writes what was handed over, then lets go. Blocks."""
        ...

    async def get(self, owner: str, kind: str, document_id: str, /) -> Document | None: ...

    async def put(self, document: Document, /) -> None:
        """Durable when it returns; replaces one of the same owner, kind and id. Raises
        `LedgerUnavailable`."""
        ...

    def save(self, document: Document, /) -> None:
        """The same, handed over. Called in `finally` blocks: never blocks or raises."""
        ...

    async def delete(self, owner: str, kind: str, document_id: str, /) -> bool:
        """Whether there was one."""
        ...

    async def list(
        self, owner: str, kind: str, /, *, limit: int, after: str | None = None
    ) -> Sequence[Document]:
        """Last changed first, without their data; `after` is the id where the page before ended."""
        ...

    async def expire(self, before: datetime, /) -> int:
        """Deletes what was not changed since, and says how many."""
        ...


class Mirror(Protocol):
    """A copy of keys and rows where people look at them, whose edits of keys it takes back.

    Made as `Class(ledger, config)`, where config has what the settings say of it; raises `ValueError`
    in one line. Works in a thread of its own: the medium's outage is never the gateway's.
    """

    def start(self) -> None: ...

    def close(self) -> None:
        """Tries to write what is left, for a few seconds. Blocks."""
        ...

    def status(self) -> Mapping[str, object]:
        """`state` (ok, behind, down), `problems` in words, and figures; JSON. Does no I/O."""
        ...

    # For the operator: these block, most of them yield a line for each thing that they did or found,
    # and they raise `OSError` in one line.

    def remembered(self) -> Mapping[str, object]:
        """What the ledger alone tells, where no gateway can be asked: as `status`, with fewer figures."""
        ...

    def init(self) -> Iterator[str]:
        """Makes in the medium what is missing there. Again changes nothing."""
        ...

    def reconcile(self, *, repair: bool) -> Generator[str, None, bool]:
        """Compares the ids on both sides. Returns whether they are the same, or are by now."""
        ...

    def repair_dashboard(self) -> Iterator[str]:
        """Draws anew what shows the month, where somebody spoilt it."""
        ...

    def audit(self, reference: str | None, limit: int, /) -> Iterator[Mapping[str, object]]:
        """Changes of keys that people made in the medium, the newest last, as JSON; of one key, if it is
        named as in `Ledger.key`. Raises `KeyError` for a key that there is not."""
        ...
