"""OpenAI, and every server that speaks its chat completions: Ollama, llama.cpp, vLLM, Groq, DeepSeek."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from adapters.providers.chunks import ChunkReader
from adapters.providers.connection import Answer, CannotConnect, Connection, Origin, framed
from adapters.providers.decoding import FAILURES, decoded
from adapters.providers.failures import failure, read_complaint, truncated
from adapters.providers.profiles import PROFILES, LimitField, guess
from adapters.providers.rows import complain
from adapters.providers.thoughts import ThoughtsInText, ThoughtSplitter
from adapters.providers.vectors import read_vectors
from gateway import sse
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderUnreachable,
)
from gateway.lane import Lane, Stream
from gateway.ports import Batch, Events
from gateway.records import Embeddings
from gateway.request import ChatRequest, EmbeddingRequest, plain

log = logging.getLogger(__name__)

_STREAM, _JSON = "text/event-stream", "application/json"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LISTING = 15.0  # seconds that a list of models may take
_LONGEST_COMPLAINT = 1 << 20
_OURS = frozenset({"model", "messages", "stream"})  # of a request, which none can go without
_LARGEST_ANSWER = 256 << 20  # vectors for 2048 inputs are 150 MB at most


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http:// or https:// address")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("expected an address without credentials, ? and #")
    return value


def _check_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not _sendable(key):
        raise ValueError("expected printable ASCII; leave the field out if no key is needed")
    return SecretStr(key)


def _check_headers(value: dict[str, str]) -> dict[str, str]:
    for name, content in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"expected the name of a header instead of {name!r}")
        if not _sendable(content):
            raise ValueError(f"expected printable ASCII in {name!r}")
    return value


def _check_profile(value: str) -> str:
    if value not in PROFILES:
        raise ValueError(f"expected one of {', '.join(PROFILES)}")
    return value


def _sendable(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable()


class _Config(BaseModel):
    """A row of `providers` in `sluice.yaml` whose type is `openai`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    base_url: Annotated[
        str, StringConstraints(strip_whitespace=True), AfterValidator(_check_url)
    ] = "https://api.openai.com/v1"
    api_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = None
    headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = Field(default_factory=dict)
    connect_timeout: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    profile: Annotated[str, AfterValidator(_check_profile)] | None = None
    """How the server deviates; None to tell it by its address."""
    stream_usage: bool = True
    """Ask for token counts. Off for servers that refuse `stream_options`."""
    max_tokens_field: LimitField | None = None
    """The one that the server knows, whichever of the two the client sent."""
    omit: frozenset[str] = frozenset()
    """Options that the server refuses, besides those of its profile."""
    thoughts_in_text: ThoughtsInText | None = None
    ask_whole: bool = False
    """Ask in one piece for what the client wants in one piece."""


class OpenAIProvider:
    """One upstream that speaks chat completions. It is asked for streams, whatever the client asked for,
    unless its row has `ask_whole`: so time limits hold between tokens, and a cut answer is counted."""

    most_inputs = 2048

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        self.name = name
        try:
            self._config = _Config.model_validate(dict(config))
        except ValidationError as error:
            raise ValueError(complain(error, _Config)) from None
        key = self._config.api_key
        self._key = key.get_secret_value() if key else ""
        self.asks_whole = self._config.ask_whole
        self._way: _Way | None = None
        profile = PROFILES[self._config.profile or guess(self._config.base_url)]
        self._profile = replace(
            profile,
            max_tokens_field=self._config.max_tokens_field or profile.max_tokens_field,
            omit=(profile.omit | self._config.omit) - _OURS,
        )
        self._left_out: set[str] = set()

    def stream(self, request: ChatRequest, /) -> Events:
        return Stream(partial(self._stream, request))

    async def _stream(self, request: ChatRequest, lane: Lane[Batch] | None) -> Events:
        streamed = request.stream or not self.asks_whole
        # The body is not kept: an answer may take minutes, and its request be megabytes.
        answer = await self._ask(
            "POST",
            "/chat/completions",
            _STREAM if streamed else _JSON,
            self._body(request, stream=streamed),
        )
        is_framed = framed(answer.headers)
        reader = ChunkReader(self.name, self._key)
        how = self._config.thoughts_in_text
        split = None if how is None else ThoughtSplitter(how).split
        if lane is not None and split is None and isinstance(answer, Connection):
            answer.listener = listener(reader, lane)
        try:
            while read := await answer.read():
                batch = reader.feed(read)
                if split is not None:
                    batch = split(batch)
                if batch:
                    yield batch
                if reader.failure:
                    raise reader.failure
                if reader.ended:
                    return
            batch = reader.finish(is_framed)
            if split is not None:
                batch = split(batch)
            if batch:
                yield batch
            if reader.failure:
                raise reader.failure
        except FAILURES as error:
            raise truncated(self.name) from error
        finally:
            await answer.leave(whole=reader.ended)

    async def models(self) -> Sequence[str]:
        try:
            async with asyncio.timeout(_LISTING):
                content = await self._whole(await self._ask("GET", "/models", _JSON))
        except TimeoutError as error:
            raise self._late() from error
        try:
            listing: object = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            raise self._malformed("a list of models that is not JSON") from error
        match listing:
            case {"data": list(rows)} | {"models": list(rows)} | list(rows):
                names = [row.get("id") for row in rows if isinstance(row, dict)]
                return [name for name in names if isinstance(name, str)]
            case _:
                raise self._malformed("something else than a list of models")

    async def embed(self, request: EmbeddingRequest, /) -> Embeddings:
        body = sse.dump({**request.options, "model": request.model, "input": request.inputs})
        content = await self._whole(await self._ask("POST", "/embeddings", _JSON, body))
        made = read_vectors(content)
        if made is None:
            raise self._malformed("something else than embeddings")
        return made

    async def aclose(self) -> None:
        way, self._way = self._way, None
        if way is not None:
            await way.aclose()

    def _connected(self) -> "_Way":
        """The way to the server, made on first use: it belongs to the loop that it is made in."""
        if self._way is None:
            config = self._config
            headers = {
                "accept-encoding": "identity",  # compression holds events back
                "content-type": "application/json",
                "user-agent": "sluice",
            }
            if self._key:
                headers["authorization"] = f"Bearer {self._key}"
            headers |= {name.lower(): value for name, value in config.headers.items()}
            if getproxies().keys() & {"http", "https", "all"}:
                # Not at the top: it takes a second to import, and is not needed without a proxy.
                from adapters.providers.sdk import SDK

                self._way = SDK(config.base_url, headers, config.connect_timeout)
            else:
                self._way = Origin(config.base_url, headers, config.connect_timeout)
        return self._way

    def _body(self, request: ChatRequest, *, stream: bool) -> bytes:
        history, request = request.messages, plain(request)
        body: dict[str, object] = {
            **request.options,
            "model": request.model,
            "messages": self._profile.unseal(history, request.messages),
            "stream": stream,
        }
        if request.tools:
            body["tools"] = request.tools
        if request.n > 1:
            body["n"] = request.n
        asked = body.pop("stream_options", None)
        if stream and self._config.stream_usage:
            body["stream_options"] = {
                **(asked if isinstance(asked, dict) else {}),
                "include_usage": True,
            }
        self._profile.fit(body, self._leave_out)
        try:
            return orjson.dumps(body)
        except TypeError:
            pass  # half of a surrogate pair, most likely
        try:
            return sse.dump(body)
        except TypeError as error:
            raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from error

    def _leave_out(self, name: str) -> None:
        if name not in self._left_out:
            self._left_out.add(name)
            log.info("requests to %s go without %s, which it does not take", self.name, name)

    async def _ask(self, method: str, path: str, accept: str, body: bytes = b"") -> Answer:
        """The answer as soon as its headers are there. Raises what they say, if that is an error."""
        try:
            answer = await self._connected().ask(method, path, accept, body)
        except CannotConnect as error:
            # For the operator: clients are not told where a server is.
            log.warning("provider %s cannot be reached: %.300s", self.name, error)
            raise ProviderUnreachable(f"The provider {self.name!r} cannot be reached.") from error
        except TimeoutError as error:
            raise self._late() from error
        except OSError as error:
            raise truncated(self.name, " before it began") from error
        answer = decoded(answer)
        if not 200 <= answer.status < 300:
            raise await self._refused(answer)
        if "text/html" in answer.headers.get("content-type", ""):
            await answer.leave(whole=False)
            raise self._malformed("a web page; its base_url may be wrong")
        return answer

    async def _whole(self, answer: Answer, limit: int = _LARGEST_ANSWER) -> bytes:
        content = bytearray()
        whole = False
        try:
            while read := await answer.read():
                content += read
                if len(content) > limit:
                    raise self._malformed("a body that is too large")
            whole = True
        except FAILURES as error:
            raise truncated(self.name) from error
        finally:
            await answer.leave(whole=whole)
        return bytes(content)

    async def _refused(self, answer: Answer) -> GatewayError:
        status, headers = answer.status, answer.headers
        content = await self._whole(answer, _LONGEST_COMPLAINT)
        if status < 400:
            return self._malformed("a redirect; its base_url may be wrong")
        try:
            body: object = orjson.loads(content)
        except orjson.JSONDecodeError:
            # Plain text may say something; a web page says nothing to the client of an API.
            plain = "text/plain" in headers.get("content-type", "")
            body = content.decode(errors="replace") if plain else None
        return failure(self.name, status, read_complaint(body), headers, self._key)

    def _late(self) -> ProviderTimedOut:
        return ProviderTimedOut(f"The provider {self.name!r} did not answer in time.")

    def _malformed(self, what: str) -> ProviderFailed:
        return ProviderFailed(
            f"The provider {self.name!r} sent {what}.", code="upstream_malformed", retryable=False
        )


def listener(reader: ChunkReader, lane: Lane[Batch]) -> Callable[[bytes], bool]:
    """Puts what a read says into the lane, if it is text and the lane is clear."""

    def listen(read: bytes) -> bool:
        if not lane.is_clear() or (batch := reader.hear(read)) is None:
            return False
        lane.put(batch)
        return True

    return listen


class _Way(Protocol):
    """How the server is reached. Raises as `Origin` does."""

    async def ask(self, method: str, path: str, accept: str, body: bytes = ..., /) -> Answer: ...

    async def aclose(self) -> None: ...
