"""What is kept and passed around about keys, calls and usage."""

import enum
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Literal, TypeAlias

from gateway.events import Counted, Usage
from gateway.frozen import frozen
from gateway.request import ChatRequest


class Dialect(enum.StrEnum):
    """How a `tool_notification` is written on a wire that was not made for it (docs/notifications.md)."""

    NAMED = "named"
    INLINE = "inline"
    OPENWEBUI = "openwebui"
    BARE = "bare"
    OFF = "off"


class Detail(enum.IntEnum):
    """How much of a server tool call a caller may see; each level includes those before it."""

    OFF = 0
    NAMES = 1
    ARGUMENTS = 2
    RESULTS = 3


@frozen(kw_only=True)
class ApiKey:
    """A key as the gateway knows it. The secret itself is nowhere: only its digest and a masked form."""

    id: str
    email: str
    name: str
    tier: str
    masked: str
    """Enough of the secret to recognise it by, `sk-Ab3…9xQ2`."""
    created_at: datetime
    revoked_at: datetime | None = None
    notes: str = ""
    notifications: Dialect | None = None
    """Dialect for this key's requests, where they do not name one."""
    last_used_at: datetime | None = None
    requests: int = 0
    tokens: int = 0

    @property
    def revoked(self) -> bool:
        return self.revoked_at is not None


@frozen()
class MintedKey:
    """A new key together with its secret: the only time that the secret exists outside its holder."""

    key: ApiKey
    secret: str = field(repr=False)


@frozen(kw_only=True)
class Call:
    """One request being served, with its key and id."""

    id: str
    """UUIDv7; the `x-request-id` of the response and the id of the usage row."""
    key: ApiKey
    request: ChatRequest
    created: int
    """Unix seconds, as the chunks carry it."""
    dialect: Dialect = Dialect.NAMED
    detail: Detail = Detail.RESULTS


@frozen(kw_only=True)
class Document:
    """Something kept for a client that comes back to it: an answer, a conversation."""

    owner: str
    """E-mail address of the user, whose keys may change."""
    kind: str
    id: str
    """Unique for its owner and kind."""
    about: str = field(default="", repr=False)
    """What a list shows of it: text or JSON."""
    data: bytes = field(default=b"", repr=False)
    """JSON."""
    created_at: datetime
    updated_at: datetime


@frozen()
class Embeddings:
    """The vectors that a provider made of texts."""

    vectors: Sequence[Sequence[float] | str]
    """In the order of the inputs; as base64 of little-endian 32-bit floats where that was asked for."""
    usage: Usage | None = None
    """None when the provider told none."""


RowStatus: TypeAlias = Literal["open", "ok", "refused", "error", "cancelled", "interrupted"]
"""`open` while it runs; `refused` for a request that was at fault; `cancelled` when the client left;
`interrupted` when the process died under it."""


@frozen(kw_only=True)
class ReceiptLine:
    """What one round of a model, or one call of a tool, came to."""

    kind: Literal["round", "tool"]
    name: str
    """`provider/model`, or the tool's name."""
    usage: Usage | None = None
    """Of a round; None when its provider told none."""
    cost_nanos: int | None = None
    """None when no price is known."""
    duration_ms: int = 0
    status: str = "ok"


@frozen(kw_only=True)
class UsageRow:
    """One line of account. Opened before the response's first byte, settled at its end."""

    id: str
    started_at: datetime
    key_id: str
    email: str
    type: str
    """The wire: `chat`, `native`, …"""
    model: str = ""
    """As the client named it."""
    stream: bool = False
    provider: str = ""
    upstream_model: str = ""
    usage: Usage = field(default_factory=Usage)
    counted: Counted = "reported"
    cost_nanos: int | None = None
    """Billionths of a US dollar; None when no price is known."""
    duration_ms: int = 0
    first_token_ms: int | None = None
    steps: int = 0
    tool_calls: int = 0
    """Calls that the server or a provider ran."""
    status: RowStatus = "open"
    http_status: int | None = None
    finish_reason: str | None = None
    error_code: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    """Room for what later parts add (conversation, caller's number), without a new column each."""
    receipt: Sequence[ReceiptLine] = ()
    """Line by line, in the order that things happened. The costs add up to the row's."""
