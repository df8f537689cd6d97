"""A model that needs no account: what `make dev` talks to, and a stand-in with any temper you like.

It speaks one round like any provider: it asks for tools and puts their results into words, and the
engine runs them in between. The same request always gets the same answer, only the ids of calls are
new. See docs/demo.md.
"""

import asyncio
import hashlib
import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from types import MappingProxyType

from adapters.providers.demo_script import Script, write
from adapters.providers.demo_talk import prose
from adapters.providers.demo_turn import last_text, text_of
from adapters.providers.demo_vectors import WIDTH, place
from gateway.errors import InvalidRequest, ProviderFailed, ProviderTruncated, UnknownModel
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    FinishReason,
    Json,
    ReasoningDelta,
    RefusalDelta,
    ToolCallDelta,
    ToolCallReady,
    ToolCallStart,
    Usage,
)
from gateway.ports import Batch, Events
from gateway.records import Embeddings
from gateway.request import ChatRequest, EmbeddingRequest

LONG = 2_000
"""Words of an answer of `demo-long`."""


@dataclass(frozen=True, slots=True)
class Temper:
    """How a model of ours behaves."""

    pause: float | None = None
    """Seconds between two words; None for the configured ones."""
    wait: float = 0.0
    """Seconds before the first word."""


MODELS: Mapping[str, Temper] = MappingProxyType(
    {
        "demo": Temper(),
        "demo-fast": Temper(pause=0.0),
        "demo-slow": Temper(pause=0.3, wait=3.0),
        "demo-long": Temper(),
        "demo-echo": Temper(pause=0.0),
        "demo-fail": Temper(),
        "demo-limit": Temper(),
        "demo-break": Temper(),
        "demo-cut": Temper(),
        "demo-hang": Temper(),
    }
)

EMBEDDING_MODEL = "demo-embed"

_PAUSE_MS = 20.0
_BREAKS_AFTER = 5
_AT_ONCE = 8
"""Batches that a model without pauses puts together, before it lets others work."""


class DemoProvider:
    """The provider `demo`. Its one field is `pause_ms`, the time between two words."""

    most_inputs = 2048
    retries = 0  # what fails here is meant to, however often it is asked

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        for field in config:
            # Every provider is told how long it may take to connect; nothing connects here.
            if field not in ("pause_ms", "connect_timeout"):
                raise ValueError(f"{field}: no such field; a demo provider has only pause_ms")
        pause = config.get("pause_ms", _PAUSE_MS)
        if isinstance(pause, bool) or not isinstance(pause, int | float):
            raise ValueError(f"pause_ms: expected milliseconds, not {pause!r}")
        if not 0 <= pause <= 60_000:
            raise ValueError("pause_ms: expected milliseconds from 0 to 60000")
        self.name = name
        self._pause = pause / 1000

    async def stream(self, request: ChatRequest, /) -> Events:
        temper = MODELS.get(request.model)
        if temper is None:
            known = ", ".join(MODELS)
            raise UnknownModel(
                f"{self.name} has no model {request.model!r}; it has {known}.", param="model"
            )
        match request.model:
            case "demo-fail":
                raise ProviderFailed(
                    "demo-fail fails, as it is meant to.", status=503, retryable=False
                )
            case "demo-limit":
                raise ProviderFailed(
                    "demo-limit is over its limit, as it is meant to be.",
                    status=429,
                    code="rate_limit_exceeded",
                    retry_after=20,
                )
            case "demo-hang":
                await asyncio.Event().wait()
        await asyncio.sleep(temper.wait)
        pause = self._pause if temper.pause is None else temper.pause
        beats = perform(request)
        if request.model in ("demo-break", "demo-cut"):
            beats = _shorten(beats)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while batch := _gather(beats, 1 if pause else _AT_ONCE):
            yield batch
            if isinstance(batch[-1], Complete):
                return
            # From one word to the next, however long the reader took over the last.
            due = max(due + pause, loop.time())
            await asyncio.sleep(due - loop.time())
        if request.model == "demo-cut":
            raise ProviderTruncated("demo-cut ends before its answer does, as it is meant to.")
        raise ProviderFailed("demo-break breaks off, as it is meant to.", retryable=False)

    async def embed(self, request: EmbeddingRequest, /) -> Embeddings:
        if request.model != EMBEDDING_MODEL:
            raise InvalidRequest(
                f"The model {request.model!r} makes no embeddings; {EMBEDDING_MODEL} does.",
                param="model",
            )
        width = request.options.get("dimensions")
        vectors = [
            place(text, width if isinstance(width, int) else WIDTH) for text in request.inputs
        ]
        words = sum(
            len(re.findall(r"\w+", t)) if isinstance(t, str) else len(t) for t in request.inputs
        )
        return Embeddings(vectors, Usage(input_tokens=words))

    async def models(self) -> Sequence[str]:
        return tuple(MODELS)

    async def aclose(self) -> None:
        """Nothing is held."""


def perform(request: ChatRequest) -> Iterator[Batch]:
    """The answer as it is streamed: a batch for each word, and one with `Complete`."""
    limit = _limit(request.options)
    seed = _seed(request)
    parts = [
        _Part(request, index, script, limit, seed) for index, script in enumerate(_scripts(request))
    ]
    for beats in zip_longest(*(part.beats() for part in parts)):
        yield [event for beat in beats if beat for event in beat]
    reasons = [part.reason for part in parts]
    usage = Usage(
        input_tokens=sum(len(text_of(row.get("content")).split()) for row in request.messages),
        output_tokens=sum(part.tokens for part in parts),
        reasoning_tokens=sum(part.thoughts for part in parts),
    )
    yield [Complete(reasons[0], reasons[0], usage, further=tuple(reasons[1:]))]


def _scripts(request: ChatRequest) -> Sequence[Script]:
    """One for each choice. What it takes does not grow with their number: that is a stranger's."""
    count = max(request.n, 1)
    if request.model == "demo-echo":
        return [Script(text=last_text(request.messages))] * count
    if request.model == "demo-long":
        text = prose(LONG, last_text(request.messages))
        return [Script("This is meant to be long, so I begin right away.", text)] * count
    return write(request)


def _seed(request: ChatRequest) -> str:
    """Differs between conversations, and is the same each time."""
    rows = request.messages
    texts = [text_of(row.get("content")) for row in rows[-4:]]
    return hashlib.sha256(
        repr((request.model, len(rows), texts)).encode("utf-8", "replace")
    ).hexdigest()


class _Part:
    """One choice while it is streamed, and the count of what was streamed of it."""

    def __init__(
        self, request: ChatRequest, index: int, script: Script, limit: int | None, seed: str
    ) -> None:
        self.reason: FinishReason = "tool_calls" if script.calls else "stop"
        self.tokens = 0
        self.thoughts = 0
        self._request = request
        self._index = index
        self._script = script
        self._left = math.inf if limit is None else limit
        self._seed = f"{seed} {index}"

    def beats(self) -> Iterator[Batch]:
        text = _before(self._script.text, self._request.options.get("stop"))
        yield from self._think(text)
        if self._script.refusal:
            yield from self._refuse()
        elif self._script.calls:
            yield from self._call()
        else:
            yield from self._speak(text)

    def _spend(self) -> bool:
        """Whether there is room for one more token, which is then taken."""
        if self._left <= 0:
            self.reason = "length"
            return False
        self._left -= 1
        self.tokens += 1
        return True

    def _think(self, text: str) -> Iterator[Batch]:
        thoughts = list(_split(self._script.reasoning))
        if self._request.options.get("reasoning_effort") in ("none", "minimal"):
            return
        # A tight limit is kept for the answer: no thought is had that would displace a word.
        if self._left < math.inf:
            words = _split(text or self._script.refusal)
            if self._left < len(thoughts) + sum(1 for _ in islice(words, int(self._left) + 1)):
                return
        for thought in thoughts:
            self._spend()
            self.thoughts += 1
            yield [ReasoningDelta(thought, self._index)]

    def _refuse(self) -> Iterator[Batch]:
        for word in _split(self._script.refusal):
            if not self._spend():
                return
            yield [RefusalDelta(word, self._index, self._logprobs(word))]

    def _speak(self, text: str) -> Iterator[Batch]:
        written = 0
        sources = list(self._script.sources)
        for word in _split(text, halve=self._request.model == "demo-echo"):
            if not self._spend():
                return
            written += len(word)
            batch: list[Event] = [Delta(word, self._index, self._logprobs(word))]
            while sources and sources[0].end <= written:
                one = sources.pop(0)
                batch.append(Citation(one.url, one.title, one.start, one.end, self._index))
            yield batch

    def _call(self) -> Iterator[Batch]:
        for call in self._script.calls:
            # The one thing that is never the same twice: the engine tells calls apart by their ids.
            call_id = f"call_{uuid.uuid4().hex[:24]}"
            yield [ToolCallStart(call_id, call.name, choice=self._index)]
            for fragment in _FRAGMENT.findall(call.arguments):
                if not self._spend():
                    return
                yield [ToolCallDelta(call_id, fragment)]
            yield [ToolCallReady(call_id, call.arguments)]

    def _logprobs(self, word: str) -> Sequence[Json] | None:
        """As a model would report them, and as made up as everything here."""
        if self._request.options.get("logprobs") is not True:
            return None
        count = self._request.options.get("top_logprobs")
        seed = self._digest("logprob", self.tokens)
        chosen = -int(seed[:4], 16) / 65_536
        tops = [_logprob(word, chosen)]
        others = (other for other in _OTHERS if other != word)
        for other in islice(others, max(count - 1, 0) if isinstance(count, int) else 0):
            chosen -= 0.1 + int(seed[4:6], 16) / 256
            tops.append(_logprob(other, chosen))
        return [{**tops[0], "top_logprobs": tops if count else []}]

    def _digest(self, *parts: object) -> str:
        return hashlib.sha256(f"{self._seed} {parts}".encode()).hexdigest()


_WORD = re.compile(r"\S{1,24}\s*|\s+")
_FRAGMENT = re.compile(r"\{\}|[{\[\]},:\s]+|\"?[^{\[\]},:\s]{1,12}")
_OTHERS = tuple(
    f"{word} "
    for word in re.findall(
        r"\w+",
        "the a of and to in is it that for on with as was at by be or from an but not we they",
    )
)


def _split(text: str, *, halve: bool = False) -> Iterator[str]:
    """Words with the space after them: the tokens of this model."""
    if halve and len(text) > 1 and not re.search(r"\S\s+\S", text):
        yield text[: len(text) // 2]
        text = text[len(text) // 2 :]
    for match in _WORD.finditer(text):
        yield match[0]


def _before(text: str, stop: object) -> str:
    """The text up to the first stop sequence."""
    stops = stop if isinstance(stop, list | tuple) else [stop]
    ends = [text.find(one) for one in stops if isinstance(one, str) and one]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def _limit(options: Mapping[str, object]) -> int | None:
    limits = [options.get(name) for name in ("max_completion_tokens", "max_tokens")]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def _logprob(token: str, logprob: float) -> dict[str, object]:
    return {
        "token": token,
        "logprob": round(logprob, 6),
        "bytes": list(token.encode("utf-8", "replace")),
    }


def _gather(beats: Iterator[Batch], count: int) -> list[Event]:
    return [event for beat in islice(beats, count) for event in beat]


def _shorten(beats: Iterator[Batch]) -> Iterator[Batch]:
    """A few words of them, and never the end, however short the answer is."""
    said = 0
    for beat in beats:
        if said == _BREAKS_AFTER or isinstance(beat[-1], Complete):
            return
        said += any(isinstance(event, Delta | RefusalDelta | ToolCallDelta) for event in beat)
        yield beat
