"""What an engine says while it answers: a closed set of events, and their grammar.

    stream = { any event } , ( Complete | Error )          nothing after the last one

Every tool call that the server or a provider starts gets exactly one `ToolCallResult`, also when the
stream is cancelled or fails. `gateway.server.pipeline.seal` enforces both rules once; encoders and
interceptors rely on them. Events travel in batches (`gateway.ports.Batch`): what arrived together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Literal, TypeAlias

from gateway.frozen import frozen

Json: TypeAlias = Mapping[str, object]
"""A JSON object whose members nobody here looks into."""

Executor: TypeAlias = Literal["server", "client", "provider"]
"""Who runs a tool call: this gateway, the caller, or the model's own provider."""

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]
ToolStatus: TypeAlias = Literal["ok", "error", "denied", "cancelled", "timeout"]
Counted: TypeAlias = Literal["reported", "estimated", "partial"]
"""Where token counts come from: the provider, an estimate of a whole answer, or of a cut one."""


@frozen()
class Usage:
    """Tokens of one round, or of several added up."""

    input_tokens: int = 0
    """All of the prompt, the cached part and the part written to a cache included."""
    output_tokens: int = 0
    """All that the model wrote, reasoning included."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.cached_tokens - other.cached_tokens,
            self.cache_write_tokens - other.cache_write_tokens,
            self.reasoning_tokens - other.reasoning_tokens,
        )


@frozen()
class Step:
    """What one model round of a finished answer was, for the account."""

    number: int
    model: str
    provider: str
    usage: Usage | None
    """None when the provider reported none."""


@frozen()
class Delta:
    """A piece of the answer's text. `choice` matters only when a client asked for several."""

    text: str
    choice: int = 0
    logprobs: Sequence[Json] | None = None


@frozen()
class ReasoningDelta:
    """A piece of the model's thinking, never part of the answer.

    `signature` and `redacted` are opaque data of the provider that has to be replayed to it with
    the thinking they belong to; a delta may carry only one of them and no text.
    """

    text: str
    choice: int = 0
    signature: str | None = None
    redacted: str | None = None


@frozen()
class RefusalDelta:
    """A piece of a refusal, which OpenAI's API keeps apart from the text."""

    text: str
    choice: int = 0
    logprobs: Sequence[Json] | None = None


@frozen()
class Citation:
    """A source of what was just said. `start` and `end` are indices into the choice's text."""

    url: str
    title: str = ""
    start: int = 0
    end: int = 0
    choice: int = 0


@frozen()
class ToolCallStart:
    """A tool call was announced. `call_id` is unique within the stream."""

    call_id: str
    name: str
    executor: Executor = "client"
    choice: int = 0
    server: str | None = None
    """Which server of the gateway's settings the tool is of, where it is not the gateway's own."""


@frozen()
class ToolCallDelta:
    """A fragment of the arguments' JSON text, as the model writes it."""

    call_id: str
    fragment: str


@frozen()
class ToolCallReady:
    """The arguments are complete. `arguments` is the exact text the model wrote, `{}` for none."""

    call_id: str
    arguments: str


@frozen()
class ToolCallProgress:
    """A running tool reports. `progress` of `total` where the tool knows them."""

    call_id: str
    message: str
    progress: float | None = None
    total: float | None = None


@frozen()
class ToolCallResult:
    """A server or provider tool call ended. `duration` is in seconds."""

    call_id: str
    status: ToolStatus
    output: str
    duration: float = 0.0


@frozen()
class StepStart:
    """A model round began to answer. Comes together with that round's first events.

    `spent` is what the rounds before it used, so that a stream cut later is still accounted right.
    """

    number: int
    model: str
    provider: str
    agent: str | None = None
    spent: Usage = field(default_factory=Usage)
    attempts: tuple[str, ...] = ()
    """Those that failed before this one answered, `provider/model: why` each. For the account alone."""


@frozen()
class Complete:
    """The answer is whole.

    `usage` is None when it was not reported for every round; `further` has the finish reasons of the choices
    after the first, in order, when a client asked for several.
    """

    finish_reason: FinishReason = "stop"
    provider_reason: str | None = None
    usage: Usage | None = None
    steps: tuple[Step, ...] = ()
    further: tuple[FinishReason, ...] = ()
    stop_sequence: str | None = None
    """Which of the client's own words for an end was met, where the provider says so."""


@frozen()
class Error:
    """The answer failed. Made by `GatewayError.event`; `status` is the HTTP status that suits it."""

    type: str
    code: str | None
    message: str
    status: int = 500
    param: str | None = None
    retryable: bool = False
    retry_after: float | None = None
    """Seconds after which the client may try again, where known."""
    attempts: tuple[str, ...] = ()
    """As those of `StepStart`, where there was more than one."""


Event: TypeAlias = (
    Delta
    | ReasoningDelta
    | RefusalDelta
    | Citation
    | ToolCallStart
    | ToolCallDelta
    | ToolCallReady
    | ToolCallProgress
    | ToolCallResult
    | StepStart
    | Complete
    | Error
)
