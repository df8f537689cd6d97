"""An answer of Anthropic's Messages API, event by event, into ours. Pure: no I/O, no SDK.

The stream is a message being put together: blocks are opened, written and closed, one after the
other, and `message_stop` says that the message is whole. Events and blocks of unknown types are
passed over, as Anthropic asks of its readers.
"""

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import orjson

from adapters.providers.halves import Halves
from adapters.providers.splitter import name_and_data
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    Executor,
    FinishReason,
    Json,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    ToolStatus,
    Usage,
)
from gateway.sse import dump

log = logging.getLogger(__name__)

LARGEST_OUTPUT = 16 * 1024
"""Bytes kept of what a tool of Anthropic's returned: enough to show, and it is never sent back."""

_REASONS: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "stop",
}
_CUT_SHORT = ("max_tokens", "model_context_window_exceeded", "refusal")
_MOST = 10**12
"""What is more is no count of tokens, and would not fit where they are added up and written."""
_NO_JSON = b"[DONE]"  # some compatible servers end with OpenAI's last word


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there will be no more. `type` is Anthropic's word (`overloaded_error`), or `MALFORMED`."""

    type: str
    message: str


MALFORMED = "malformed"
"""What came is no answer; the message says what it is instead."""


@dataclass(slots=True)
class _Block:
    """A block being written."""

    call: "_ToolCall | None" = None
    start: int = 0
    """Where in the text it starts."""
    citations: list[Json] = field(default_factory=list)
    signature: str = ""


@dataclass(slots=True)
class _ToolCall:
    call_id: str
    given: Json
    """Arguments that came with the start, from servers that write them at once."""
    fragments: list[str] = field(default_factory=list)
    ready: bool = False
    since: float = 0.0
    done: bool = False

    def arguments(self) -> str:
        written = "".join(self.fragments)
        if written.strip():
            return written
        return dump(self.given).decode() if self.given else "{}"


class MessageReader:
    """Reads one message. `complete` once it is whole, `failure` once the server gave up on it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.complete = False
        self.failure: Failure | None = None
        self._clock = clock
        self._halves = Halves()
        self._blocks: dict[int, _Block] = {}
        self._calls: dict[str, _ToolCall] = {}
        """Those that Anthropic runs, by its id: their results come in later blocks."""
        self._taken: set[str] = set()
        self._doubtful: list[_ToolCall] = []
        """Closed with arguments that are no JSON; whether they were cut is told at the end."""
        self._text = 0
        self._usage: Usage | None = None
        self._counts: dict[str, int] = {}
        self._reason: str | None = None
        self._stop_sequence: str | None = None

    def read(self, events: Iterable[bytes]) -> list[Event]:
        """`events` as `splitter.EventSplitter` cuts them. Stops at the end of the message."""
        batch: list[Event] = []
        for event in events:
            if self.complete or self.failure:
                break
            name, data = name_and_data(event)
            if data is None or data == _NO_JSON:
                continue
            value: object
            try:
                value = orjson.loads(data)
            except orjson.JSONDecodeError:
                value = self._halves.parse(data)
                if value is None:
                    self.failure = Failure(MALFORMED, "an event that is not JSON")
                    break
            if isinstance(value, dict):
                self._take(value.get("type") or name, value, batch)
        return batch

    def read_whole(self, message: Json) -> list[Event]:
        """A message that was not streamed, or the error in its place."""
        batch: list[Event] = []
        if message.get("type") == "error" or "error" in message:
            self._fail(message)
            return batch
        if not isinstance(message.get("content"), list):
            self.failure = Failure(MALFORMED, "something else than a message")
            return batch
        self._count(message.get("usage"))
        for index, block in enumerate(_objects(message["content"])):
            self._open(index, block, batch)
            self._close(index, batch)
        self._end(message, batch)
        self._stop(batch)
        return batch

    def _take(self, kind: object, event: Json, batch: list[Event]) -> None:
        match kind:
            case "content_block_delta":
                self._write(_index(event), _object(event, "delta"), batch)
            case "content_block_start":
                self._open(_index(event), _object(event, "content_block"), batch)
            case "content_block_stop":
                self._close(_index(event), batch)
            case "message_start":
                self._count(_object(event, "message").get("usage"))
            case "message_delta":
                self._count(event.get("usage"))
                self._end(_object(event, "delta"), batch)
            case "message_stop":
                self._stop(batch)
            case "error":
                self._fail(event)
            case _:
                pass  # ping, and what is yet to be invented

    # Blocks

    def _open(self, index: int, start: Json, batch: list[Event]) -> None:
        kind = _string(start, "type")
        block = _Block(start=self._text)
        match kind:
            case "text":
                self._say(_string(start, "text"), batch)
                citations = start.get("citations")
                block.citations += _objects(citations)
            case "thinking":
                if text := _string(start, "thinking"):
                    batch.append(ReasoningDelta(text))
                block.signature = _string(start, "signature")
            case "redacted_thinking":
                if data := _string(start, "data"):
                    batch.append(ReasoningDelta("", redacted=data))
            case "tool_use":
                block.call = self._announce(start, "client", batch)
            case "server_tool_use" | "mcp_tool_use":
                block.call = self._announce(start, "provider", batch)
            case _ if kind.endswith("_tool_result"):
                self._result(start, batch)
            case _:
                pass
        self._blocks[index] = block

    def _write(self, index: int, delta: Json, batch: list[Event]) -> None:
        block = self._blocks.get(index)
        match delta.get("type"):
            case "text_delta":
                self._say(_string(delta, "text"), batch)
            case "thinking_delta":
                if text := _string(delta, "thinking"):
                    batch.append(ReasoningDelta(text))
            case "input_json_delta" if block and block.call:
                if fragment := _string(delta, "partial_json"):
                    block.call.fragments.append(fragment)
                    batch.append(ToolCallDelta(block.call.call_id, fragment))
            case "signature_delta" if block:
                block.signature = _string(delta, "signature")
            case "citations_delta" if block:
                block.citations.append(_object(delta, "citation"))
            case _:
                pass

    def _close(self, index: int, batch: list[Event]) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if block.signature:
            batch.append(ReasoningDelta("", signature=block.signature))
        # Only now is it known what the citations stand behind: they may come before the text.
        for citation in block.citations:
            if url := _string(citation, "url") or _string(citation, "source"):
                title = _string(citation, "title")
                batch.append(Citation(url, title, start=block.start, end=self._text))
        if (call := block.call) is None:
            return
        if _is_json(call.arguments()):
            self._ready(call, batch)
        else:
            self._doubtful.append(call)

    def _say(self, text: str, batch: list[Event]) -> None:
        if text:
            self._text += len(text)
            batch.append(Delta(text))

    # Tool calls

    def _announce(self, start: Json, executor: Executor, batch: list[Event]) -> _ToolCall:
        given_id = _string(start, "id")
        call_id = given_id
        if not call_id or call_id in self._taken:
            call_id = f"toolu_{uuid.uuid4().hex}"
        self._taken.add(call_id)
        call = _ToolCall(call_id, _object(start, "input"))
        if executor == "provider":
            self._calls[given_id] = call
        batch.append(ToolCallStart(call_id, _string(start, "name"), executor))
        return call

    def _ready(self, call: _ToolCall, batch: list[Event]) -> None:
        if not call.ready:
            call.ready, call.since = True, self._clock()
            batch.append(ToolCallReady(call.call_id, call.arguments()))

    def _result(self, block: Json, batch: list[Event]) -> None:
        call = self._calls.get(_string(block, "tool_use_id"))
        if call is None or call.done:
            return  # of a call in an earlier turn
        self._ready(call, batch)
        call.done = True
        content = block.get("content")
        failed = block.get("is_error") is True or (
            isinstance(content, dict) and _string(content, "type").endswith("_error")
        )
        status: ToolStatus = "error" if failed else "ok"
        duration = self._clock() - call.since
        batch.append(ToolCallResult(call.call_id, status, _show(content), duration))

    # The end

    def _end(self, delta: Json, batch: list[Event]) -> None:
        if reason := _string(delta, "stop_reason"):
            self._reason = reason
        if sequence := _string(delta, "stop_sequence"):
            self._stop_sequence = sequence
        if explanation := _string(_object(delta, "stop_details"), "explanation"):
            batch.append(RefusalDelta(explanation))

    def _stop(self, batch: list[Event]) -> None:
        for index in list(self._blocks):
            self._close(index, batch)
        if self._reason not in _CUT_SHORT:
            for call in self._doubtful:
                self._ready(call, batch)
        reason = _REASONS.get(self._reason or "")
        if reason is None:
            log.warning("unknown stop reason %.40r", self._reason)
            reason = "stop"
        end = Complete(reason, self._reason, self._usage, stop_sequence=self._stop_sequence)
        batch.append(end)
        self.complete = True

    def _fail(self, event: Json) -> None:
        error = _object(event, "error")
        self.failure = Failure(
            _string(error, "type") or "api_error", _string(error, "message") or "no reason given"
        )

    def _count(self, usage: object) -> None:
        """Counts are totals so far, repeated, left out or zero at will: the largest one is right."""
        if not isinstance(usage, dict):
            return
        counts = {**usage, **_object(usage, "output_tokens_details")}
        for name, count in counts.items():
            if isinstance(count, int) and not isinstance(count, bool):
                self._counts[name] = max(min(count, _MOST), self._counts.get(name, 0))
        read = self._counts.get("cache_read_input_tokens", 0)
        written = self._counts.get("cache_creation_input_tokens", 0)
        self._usage = Usage(
            input_tokens=self._counts.get("input_tokens", 0) + read + written,
            output_tokens=self._counts.get("output_tokens", 0),
            cached_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=self._counts.get("thinking_tokens", 0),
        )


def _show(content: object) -> str:
    """For people to read: without what only Anthropic can, and not too much of it."""
    data = dump(_legible(content))
    if len(data) <= LARGEST_OUTPUT:
        return data.decode()
    cut = data[:LARGEST_OUTPUT].decode(errors="ignore")
    return f"{cut}\n[cut: {len(data) - LARGEST_OUTPUT} bytes more]"


def _legible(value: object, depth: int = 32) -> object:
    match value:
        case dict() | list() if not depth:
            return "…"
        case dict():
            return {
                key: _legible(item, depth - 1)
                for key, item in value.items()
                if not key.startswith("encrypted_")
            }
        case list():
            return [_legible(item, depth - 1) for item in value]
        case _:
            return value


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _index(event: Json) -> int:
    value = event.get("index")
    return value if isinstance(value, int) else -1


def _string(owner: Json, name: str) -> str:
    value = owner.get(name)
    return value if isinstance(value, str) else ""


def _object(owner: Json, name: str) -> Json:
    value = owner.get(name)
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
