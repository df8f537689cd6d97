"""OpenAI's chunks into events, and those of all the servers that speak almost the same.

What differs among servers and is understood here: reasoning under two names, tool calls in pieces
or whole and with or without index and id, usage in any chunk, errors in the middle of a stream, a
missing `[DONE]`, and a JSON body where a stream was asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias
from uuid import uuid4

import orjson

from adapters.providers.failures import failure, read_complaint, truncated
from adapters.providers.halves import Halves
from adapters.providers.mould import Mould, cast
from adapters.providers.sealed import SealedThoughts
from adapters.providers.splitter import EventSplitter, EventTooLarge, data, name_and_data, split
from gateway.errors import ProviderFailed
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
    Usage,
)

_DONE = b"[DONE]"
_BLANKS = b" \t\r\n\xef\xbb\xbf"  # the last three are a byte order mark
_GAPS = (b"\n\n", b"\r\n\r\n")
_MOST_CHOICES = 128
_LARGEST_BODY = 64 << 20

_Object: TypeAlias = Mapping[str, object]
_EMPTY: _Object = {}

_MOST_CASTS = 4  # in vain: some servers change more than the text in every chunk

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
    "safety": "content_filter",
    "sensitive": "content_filter",
    "recitation": "content_filter",
}
# Words by which servers say that they broke off. To a client that is no answer.
_BROKEN_OFF = {"error", "abort", "insufficient_system_resource", "network_error"}


class _Call:
    """A tool call while the model writes it."""

    __slots__ = ("call_id", "fragments", "name", "own_id", "ready")

    def __init__(self, call_id: str, own_id: str) -> None:
        self.call_id = call_id
        self.own_id = own_id  # as the provider has it; maybe empty, maybe not unique
        self.name = ""
        self.fragments: list[str] = []
        self.ready = False

    def whole(self) -> bool:
        """Whether the arguments so far are a JSON object, to which nothing can be added."""
        if not self.fragments or not self.fragments[-1].rstrip().endswith("}"):
            return False
        try:
            return isinstance(orjson.loads("".join(self.fragments)), dict)
        except orjson.JSONDecodeError:
            return False


class _Choice:
    """One of the answers, with its tool calls."""

    __slots__ = ("calls", "index", "numbered", "reason", "sealed")

    def __init__(self, index: int) -> None:
        self.index = index
        self.reason: str | None = None
        self.calls: list[_Call] = []
        self.numbered: dict[int, _Call] = {}
        self.sealed: SealedThoughts | None = None

    def find(
        self, piece: _Object, place: int, places: int, name: str, arguments: str
    ) -> _Call | None:
        """The call that a piece continues: by its index, else its id, else its place in the list."""
        own_id = _string(piece.get("id"))
        number = piece.get("index")
        call: _Call | None = None
        if isinstance(number, int):
            call = self.numbered.get(number)
        elif own_id:
            call = next((call for call in self.calls if call.own_id == own_id), None)
        elif places > 1:
            call = self.calls[place] if place < len(self.calls) else None
        elif self.calls:
            call = self.calls[-1]
        if call is None or not name:
            return call
        # A piece with a name may be another call in the place of the first one: some servers give
        # all of them the same index, or none.
        if own_id and call.own_id and own_id != call.own_id:
            return None
        if not isinstance(number, int) and not own_id and call.name and name != call.name:
            return None
        if arguments.lstrip().startswith("{") and call.whole():
            return None
        return call

    def finish_reason(self) -> FinishReason:
        reason = _REASONS.get((self.reason or "stop").lower(), "stop")
        return "tool_calls" if reason == "stop" and self.calls else reason

    def cut(self) -> bool:
        """Whether the model was stopped, so that its last tool call may be a fragment."""
        return _REASONS.get((self.reason or "").lower()) in ("length", "content_filter")


class ChunkReader:
    """Reads the body of one answer.

    Feed it every read; then ask `failure`, which is to be raised after the events that came before
    it, and `ended`, which is true once `Complete` was among the events.
    """

    def __init__(self, provider: str, secret: str = "") -> None:
        self.failure: ProviderFailed | None = None
        self.ended = False
        self._provider = provider
        self._secret = secret
        self._splitter = EventSplitter()
        self._halves = Halves()
        self._body: bytearray | None = None  # set when the body turns out to be JSON
        self._begun = False
        self._choices: dict[int, _Choice] = {}
        self._call_ids: set[str] = set()
        self._usage: _Object | None = None
        self._timings: object = None
        self._mould: Mould | None = None
        self._casts = 0  # since one was of use

    def feed(self, read: bytes) -> list[Event]:
        """The events of what came in one read."""
        events: list[Event] = []
        if not self._begun:
            self._begin(read)
        if self._body is not None:
            self._body += read
            if len(self._body) > _LARGEST_BODY:
                self._malformed("a body that is too large")
            return events
        try:
            told = self._splitter.feed(read)
        except EventTooLarge:
            self._malformed("an event that is too large")
            return events
        if len(told) == 1 and (said := self._take_text(told[0])) is not None:
            return said
        alike: list[bytes] = []
        """Events in a row that differ in their text only."""
        for event in told:
            mould = self._mould
            if mould is not None and mould.fits(event):
                alike.append(event)
                continue
            if mould is not None and alike:
                self._take_alike(mould, alike, events)
                alike = []
            taken = len(events)
            if not (self.ended or self.failure):
                self._take_event(event, events)
            if self.ended or self.failure:
                return events
            if self._casts < _MOST_CASTS and len(events) == taken + 1:
                self._cast_mould(event, events[taken])
        if self._mould is not None and alike:
            self._take_alike(self._mould, alike, events)
        return events

    def hear(self, read: bytes) -> Sequence[Event] | None:
        """What a read says that is whole events with text and nothing else. None, with nothing taken, for
        another one: that is to be fed."""
        mould = self._mould
        if mould is None or self._splitter.pieces or not read.endswith(_GAPS):
            return None
        if len(read) < mould.least_of_two:
            return self._take_text(read.rstrip(b"\r\n"))
        told = split(read)[:-1]
        return self._read_all(mould, told) if all(map(mould.fits, told)) else None

    def _take_text(self, event: bytes) -> list[Event] | None:
        """Nearly all reads of a model that writes hold one event with text and nothing else. None for
        another one."""
        said = None if self._mould is None else self._mould.read(event)
        if said is not None:
            self._casts = 0
        return said

    def _take_alike(self, mould: Mould, alike: Sequence[bytes], events: list[Event]) -> None:
        said = self._read_all(mould, alike)
        if said is not None:
            events += said
            return
        for event in alike:
            self._take_event(event, events)
            if self.ended or self.failure:
                return

    def _read_all(self, mould: Mould, alike: Sequence[bytes]) -> list[Event] | None:
        said = mould.read_all(alike)
        if said is not None:
            self._casts = 0
        return said

    def _cast_mould(self, event: bytes, said: Event) -> None:
        if isinstance(said, Delta):
            self._casts += 1
            if self._casts > 1:  # the first text may be the only one
                self._mould = cast(event, said.text) or self._mould

    def finish(self, framed: bool) -> list[Event]:
        """The last events, when the body has ended.

        `framed` tells that the body said by itself where it ends. A body that merely stopped may
        have been cut anywhere, and is complete only with the provider's own mark of the end.
        """
        events: list[Event] = []
        if self._body is not None:
            framed = True  # what parses as a JSON object was not cut
            self._take_last(bytes(self._body).lstrip(_BLANKS), events)
        elif rest := self._splitter.rest.strip():
            payload = data(rest)
            if payload is not None:
                self._take_last(payload, events)
            elif not rest.startswith(b":"):
                self._truncated()
        if not self.ended and self.failure is None:
            if framed:
                self._complete(events)
            else:
                self._truncated()
        return events

    def _begin(self, read: bytes) -> None:
        start = read.lstrip(_BLANKS)
        if start:
            self._begun = True
            if start.startswith(b"{"):
                self._body = bytearray()

    def _take_last(self, payload: bytes, events: list[Event]) -> None:
        if payload.strip() == _DONE:
            self._complete(events)
            return
        chunk: object
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            chunk = self._halves.parse(payload)
        if isinstance(chunk, dict):
            self._take_chunk(chunk, events)
        else:
            self._truncated()

    def _take_event(self, event: bytes, events: list[Event]) -> None:
        payload = data(event)
        if payload is None:
            return
        if payload == _DONE:
            self._complete(events)
            return
        chunk: object
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            chunk = self._halves.parse(payload)
            if chunk is None:
                self._take_odd_event(event, payload, events)
                return
        if isinstance(chunk, dict):
            self._take_chunk(chunk, events)
            if "choices" not in chunk and name_and_data(event)[0] == "error":
                self._fail(chunk)

    def _take_odd_event(self, event: bytes, payload: bytes, events: list[Event]) -> None:
        name, _ = name_and_data(event)
        if name == "error":
            self._fail(payload.decode(errors="replace"))
        elif payload.strip() == _DONE:
            self._complete(events)
        elif not name:  # one with a name of its own is none of ours, `event: ping` say
            self._malformed("a frame that is not JSON")

    def _take_chunk(self, chunk: _Object, events: list[Event]) -> None:
        if chunk.get("error"):
            self._fail(chunk)
            return
        groq = chunk.get("x_groq")
        if isinstance(groq, dict):
            if groq.get("error"):
                self._fail(groq)
                return
            self._take_usage(groq.get("usage"))
        choices = chunk.get("choices")
        if isinstance(choices, list):
            for place, choice in enumerate(choices):
                if isinstance(choice, dict):
                    self._take_choice(choice, place, events)
        elif chunk.get("object") == "error":
            self._fail(chunk)
            return
        if "usage" in chunk:
            self._take_usage(chunk["usage"])
        if "timings" in chunk:
            self._timings = chunk["timings"]

    def _take_usage(self, usage: object) -> None:
        if usage and isinstance(usage, dict):
            self._usage = usage

    def _take_choice(self, raw: _Object, place: int, events: list[Event]) -> None:
        index = raw.get("index")
        if not isinstance(index, int):
            index = place
        choice = self._choices.get(index)
        if choice is None:
            if not 0 <= index < _MOST_CHOICES:
                self._malformed("a choice that was not asked for")
                return
            choice = self._choices[index] = _Choice(index)
        delta = raw.get("delta")
        if delta is None:
            delta = raw.get("message")
        logprobs = raw.get("logprobs")
        if isinstance(delta, dict):
            content = delta.get("content")
            if len(delta) == 1 and isinstance(content, str) and not logprobs:
                if content:  # by far the most frequent
                    events.append(Delta(content, index))
            else:
                self._take_delta(choice, delta, logprobs, events)
        reason = raw.get("finish_reason")
        if reason and isinstance(reason, str):
            self._take_finish(choice, reason, raw, events)

    def _take_delta(
        self, choice: _Choice, delta: _Object, logprobs: object, events: list[Event]
    ) -> None:
        index = choice.index
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")
        if reasoning and isinstance(reasoning, str):
            events.append(ReasoningDelta(reasoning, index))
        if details := _objects(delta.get("reasoning_details")):
            choice.sealed = choice.sealed or SealedThoughts()
            choice.sealed.add(details)
        probabilities = logprobs if isinstance(logprobs, dict) else _EMPTY
        content = delta.get("content")
        if isinstance(content, list):
            self._take_parts(choice, content, events)
            content = None
        odds = _objects(probabilities.get("content"))
        if odds or (content and isinstance(content, str)):
            events.append(Delta(_string(content), index, odds))
        refusal = delta.get("refusal")
        odds = _objects(probabilities.get("refusal"))
        if odds or (refusal and isinstance(refusal, str)):
            events.append(RefusalDelta(_string(refusal), index, odds))
        annotations = delta.get("annotations")
        if isinstance(annotations, list):
            events.extend(_citation(note, index) for note in annotations if _cites(note))
        function = delta.get("function_call")
        if isinstance(function, dict):  # OpenAI's form of 2023, one call at most
            self._take_piece(choice, {"index": 0, "function": function}, 0, 1, events)
        pieces = delta.get("tool_calls")
        if isinstance(pieces, list):
            for place, piece in enumerate(pieces):
                if isinstance(piece, dict):
                    self._take_piece(choice, piece, place, len(pieces), events)

    def _take_parts(self, choice: _Choice, parts: list[object], events: list[Event]) -> None:
        """Content as a list of parts, as Mistral's reasoning models send it."""
        for part in parts:
            match part:
                case {"type": "text", "text": str(text)} if text:
                    events.append(Delta(text, choice.index))
                case {"type": "thinking", "thinking": list(thoughts)}:
                    for thought in thoughts:
                        match thought:
                            case {"text": str(text)} if text:
                                events.append(ReasoningDelta(text, choice.index))

    def _take_piece(
        self, choice: _Choice, piece: _Object, place: int, places: int, events: list[Event]
    ) -> None:
        function = piece.get("function")
        if not isinstance(function, dict):
            function = _EMPTY
        name = _string(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        call = choice.find(piece, place, places, name, arguments)
        if call is None:
            if not (name or arguments or piece.get("id")):
                return
            if choice.calls and choice.calls[-1].whole():
                self._ready(choice.calls[-1], events)
            call = self._new_call(choice, piece)
        if call.ready:
            return  # only blanks can follow a whole object
        if name and not call.name:
            call.name = name
            events.append(ToolCallStart(call.call_id, name, "client", choice.index))
            early = "".join(call.fragments)
            if early:
                events.append(ToolCallDelta(call.call_id, early))
        if arguments:
            call.fragments.append(arguments)
            if call.name:
                events.append(ToolCallDelta(call.call_id, arguments))

    def _new_call(self, choice: _Choice, piece: _Object) -> _Call:
        own_id = _string(piece.get("id"))
        call_id = own_id if own_id and own_id not in self._call_ids else f"call_{uuid4().hex[:24]}"
        self._call_ids.add(call_id)
        call = _Call(call_id, own_id)
        choice.calls.append(call)
        number = piece.get("index")
        if isinstance(number, int):
            choice.numbered[number] = call
        return call

    def _ready(self, call: _Call, events: list[Event]) -> None:
        if not call.ready:
            call.ready = True
            text = "".join(call.fragments)
            events.append(ToolCallReady(call.call_id, text if text.strip() else "{}"))

    def _take_finish(self, choice: _Choice, reason: str, raw: _Object, events: list[Event]) -> None:
        if reason.lower() in _BROKEN_OFF:
            if raw.get("error"):
                self._fail(raw)
            else:
                self._truncated(f" ({reason})")
            return
        choice.reason = reason
        if choice.sealed is not None and (sealed := choice.sealed.sealed()) is not None:
            events.append(ReasoningDelta("", choice.index, redacted=sealed))
        choice.sealed = None
        self._finish_calls(choice, events)

    def _finish_calls(self, choice: _Choice, events: list[Event]) -> None:
        for call in choice.calls:
            if not call.name:
                self._malformed("a tool call without a name")
                return
            if not choice.cut() or call.whole():
                self._ready(call, events)

    def _complete(self, events: list[Event]) -> None:
        if not self._choices or any(choice.reason is None for choice in self._choices.values()):
            self._truncated()
            return
        for choice in self._choices.values():
            self._finish_calls(choice, events)  # those that came after the reason
        if self.failure:
            return
        ordered = [
            self._choices.get(index) or _Choice(index) for index in range(max(self._choices) + 1)
        ]
        first, *further = (choice.finish_reason() for choice in ordered)
        own_reason = ordered[0].reason
        counts = {**_timed(self._timings), **(self._usage or {})}
        self.ended = True
        events.append(
            Complete(
                first,
                provider_reason=own_reason if own_reason != first else None,
                usage=_usage(counts) if counts else None,
                further=tuple(further),
            )
        )

    def _fail(self, body: object) -> None:
        complaint = read_complaint(body)
        if not complaint.message:
            said = f"The provider {self._provider!r} reported an error."
            complaint = replace(complaint, message=said)
        self.failure = failure(self._provider, complaint.status, complaint, secret=self._secret)

    def _malformed(self, what: str) -> None:
        self.failure = ProviderFailed(
            f"The provider {self._provider!r} sent {what}.", code="upstream_malformed"
        )

    def _truncated(self, why: str = "") -> None:
        self.failure = truncated(self._provider, why)


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    """A fragment as text; some servers send the whole object as an object."""
    match value:
        case str():
            return value
        case dict():
            return orjson.dumps(value).decode()
        case _:
            return ""


def _objects(value: object) -> list[_Object] | None:
    return value if value and isinstance(value, list) else None


def _cites(note: object) -> bool:
    match note:
        case {"type": "url_citation", "url_citation": {"url": str()}}:
            return True
        case _:
            return False


def _citation(note: Mapping[str, _Object], choice: int) -> Citation:
    cited = note["url_citation"]
    return Citation(
        url=_string(cited.get("url")),
        title=_string(cited.get("title")),
        start=_count(cited.get("start_index")),
        end=_count(cited.get("end_index")),
        choice=choice,
    )


def _count(value: object) -> int:
    return max(0, min(int(value), _MOST)) if isinstance(value, int | float) else 0


_MOST = 10**12
"""What is more is no count, and would not fit where counts are added up and written."""


def _timed(timings: object) -> _Object:
    """llama-server's own counts, which it sends unasked, under the names of usage."""
    match timings:
        case {"prompt_n": int(read), "predicted_n": int(written), **further}:
            cached = _count(further.get("cache_n"))
            return {
                "prompt_tokens": read + cached,
                "completion_tokens": written,
                "cached_tokens": cached,
            }
        case _:
            return _EMPTY


def _usage(raw: _Object) -> Usage:
    prompt = raw.get("prompt_tokens_details")
    prompt = prompt if isinstance(prompt, dict) else _EMPTY
    completion = raw.get("completion_tokens_details")
    completion = completion if isinstance(completion, dict) else _EMPTY
    read = _count(raw.get("prompt_tokens"))
    written = _count(raw.get("completion_tokens"))
    reasoning = _count(completion.get("reasoning_tokens"))
    if reasoning and _count(raw.get("total_tokens")) == read + written + reasoning:
        written += reasoning  # xAI counts them apart
    return Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=_count(prompt.get("cached_tokens"))
        or _count(raw.get("prompt_cache_hit_tokens"))  # DeepSeek
        or _count(raw.get("cached_tokens")),  # Moonshot
        cache_write_tokens=_count(prompt.get("cache_write_tokens")),
        reasoning_tokens=reasoning,
    )
