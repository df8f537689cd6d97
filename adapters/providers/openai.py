"""OpenAI, and every server that speaks its chat completions: Ollama, llama.cpp, vLLM, Groq, DeepSeek."""

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Annotated, Literal, cast
from urllib.parse import urlsplit

import aiohttp
import httpx2
import openai
import orjson
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient, Omit
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
from adapters.providers.failures import failure, read_complaint, truncated
from adapters.providers.vectors import read_vectors
from gateway import sse
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderUnreachable,
)
from gateway.ports import Events
from gateway.records import Embeddings
from gateway.request import ChatRequest, EmbeddingRequest, plain

# What reading a body can raise: the SDK translates errors only until the headers are there, and its
# transport not all of them.
_BODY_ERRORS = (httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError, OSError)
_SETTLING = 0.05  # seconds that a finished answer's connection has to become reusable
_PIECE = 512 * 1024  # what is written of a body at once; aiohttp warns of more than twice as much
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LISTING = 15.0  # seconds that a list of models may take


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
    stream_usage: bool = True
    """Ask for token counts. Off for servers that refuse `stream_options`."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The one that the server knows, whichever of the two the client sent."""


class OpenAIProvider:
    """One upstream that speaks chat completions. Always streams, whatever the client asked for."""

    most_inputs = 2048

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        self.name = name
        try:
            self._config = _Config.model_validate(dict(config))
        except ValidationError as error:
            raise ValueError(_one_line(error)) from None
        key = self._config.api_key
        self._key = key.get_secret_value() if key else ""
        self._client: AsyncOpenAI | None = None
        self._headers: dict[str, str | Omit] = {
            "accept": "text/event-stream",
            "accept-encoding": "identity",  # compression holds events back
            "content-type": "application/json",
        }
        if not self._key and "authorization" not in map(str.lower, self._config.headers):
            self._headers["authorization"] = Omit()

    async def stream(self, request: ChatRequest, /) -> Events:
        response = await self._send(self._body(request))
        reader = ChunkReader(self.name, self._key)
        reads = response.aiter_bytes()
        try:
            async for read in reads:
                if batch := reader.feed(read):
                    yield batch
                if reader.failure:
                    raise reader.failure
                if reader.ended:
                    return
            if batch := reader.finish(_framed(response.headers)):
                yield batch
            if reader.failure:
                raise reader.failure
        except _BODY_ERRORS as error:
            raise truncated(self.name) from error
        finally:
            await _close(response, reads, reusable=reader.ended)

    async def models(self) -> Sequence[str]:
        with self._translated():
            response = await self._connected().get(
                "/models",
                cast_to=httpx2.Response,
                options={
                    "headers": {**self._headers, "accept": "application/json"},
                    "timeout": httpx2.Timeout(_LISTING, connect=self._config.connect_timeout),
                },
            )
        try:
            listing: object = orjson.loads(response.content)
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
        with self._translated():
            response = await self._connected().post(
                "/embeddings",
                content=body,
                cast_to=httpx2.Response,
                options={"headers": {**self._headers, "accept": "application/json"}},
            )
        made = read_vectors(response.content)
        if made is None:
            raise self._malformed("something else than embeddings")
        return made

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connected(self) -> AsyncOpenAI:
        """The client, made on first use: it belongs to the loop that it is made in."""
        if self._client is None:
            # `pool` bounds all of connecting, name resolution included: no call waits for a free
            # connection, because 0 means no limit to aiohttp and admission has limited the calls.
            connect = self._config.connect_timeout
            timeout = httpx2.Timeout(None, connect=connect, pool=connect)
            self._client = AsyncOpenAI(
                api_key=self._key or "none",  # or it would be looked for in the environment
                base_url=self._config.base_url,
                # Omit is allowed here too, but only the type of a request's headers says so.
                default_headers=cast("dict[str, str]", self._default_headers()),
                max_retries=0,
                timeout=timeout,
                http_client=DefaultAioHttpClient(
                    timeout=timeout,
                    limits=httpx2.Limits(max_connections=0),
                    follow_redirects=False,
                ),
            )
        return self._client

    def _default_headers(self) -> dict[str, str | Omit]:
        """What the configuration says, and nothing that the SDK would add from the environment,
        which is meant for OpenAI and not for every server that speaks its language."""
        lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
        strangers = [line.partition(":")[0].strip() for line in lines if ":" in line]
        headers: dict[str, str | Omit] = {
            name: Omit() for name in ("OpenAI-Organization", "OpenAI-Project", *strangers)
        }
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return {**headers, **self._config.headers}

    def _body(self, request: ChatRequest) -> bytes:
        config, request = self._config, plain(request)
        body: dict[str, object] = {
            **request.options,
            "model": request.model,
            "messages": request.messages,
            "stream": True,
        }
        if request.tools:
            body["tools"] = request.tools
        if request.n > 1:
            body["n"] = request.n
        asked = body.pop("stream_options", None)
        if config.stream_usage:
            body["stream_options"] = {
                **(asked if isinstance(asked, dict) else {}),
                "include_usage": True,
            }
        if config.max_tokens_field is not None:
            limits = [body.pop(field, None) for field in ("max_completion_tokens", "max_tokens")]
            limit = next((limit for limit in limits if limit is not None), None)
            if limit is not None:
                body[config.max_tokens_field] = limit
        try:
            return orjson.dumps(body)
        except TypeError:
            pass  # half of a surrogate pair, most likely
        try:
            return sse.dump(body)
        except TypeError as error:
            raise InvalidRequest(f"The request cannot be written as JSON: {error}.") from error

    async def _send(self, body: bytes) -> httpx2.Response:
        """The answer as soon as its headers are there. Bytes, because the SDK's own models would
        cost seven times the work for each chunk and drop fields that they do not know."""
        large = len(body) > _PIECE
        headers = {**self._headers, "content-length": str(len(body))} if large else self._headers
        with self._translated():
            response = await self._connected().post(
                "/chat/completions",
                content=_pieces(body) if large else body,
                cast_to=httpx2.Response,
                options={"headers": headers},
                stream=True,
                stream_cls=AsyncStream[object],
            )
        assert isinstance(response, httpx2.Response)  # the signature speaks of `stream_cls` only
        if "text/html" in response.headers.get("content-type", ""):
            await response.aclose()
            raise self._malformed("a web page; its base_url may be wrong")
        return response

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors until the headers are there, as errors of the gateway."""
        try:
            yield
        except openai.APIStatusError as error:
            raise self._refused(error.response) from error
        except (openai.APIConnectionError, *_BODY_ERRORS) as error:
            raise self._unanswered(error) from error

    def _refused(self, response: httpx2.Response) -> GatewayError:
        status = response.status_code
        if status < 400:
            return self._malformed("a redirect; its base_url may be wrong")
        try:
            body: object = orjson.loads(response.content)
        except orjson.JSONDecodeError:
            # Plain text may say something; a web page says nothing to the client of an API.
            plain = "text/plain" in response.headers.get("content-type", "")
            body = response.text if plain else None
        return failure(self.name, status, read_complaint(body), response.headers, self._key)

    def _unanswered(self, error: BaseException) -> GatewayError:
        """Tells by its causes whether a request got through. The SDK's transport shows refused
        connections, unknown hosts and dropped connections alike as timeouts."""
        causes = list(_causes(error))

        def among(*kinds: type[BaseException]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        if among(aiohttp.ClientConnectorError):
            return ProviderUnreachable(f"The provider {self.name!r} cannot be reached.")
        if among(aiohttp.ServerTimeoutError):
            return ProviderTimedOut(f"The provider {self.name!r} did not answer in time.")
        if not among(aiohttp.ClientError):  # another transport
            if among(httpx2.ConnectError):
                return ProviderUnreachable(f"The provider {self.name!r} cannot be reached.")
            if among(httpx2.TimeoutException):
                return ProviderTimedOut(f"The provider {self.name!r} did not answer in time.")
        return truncated(self.name, " before it began")

    def _malformed(self, what: str) -> ProviderFailed:
        return ProviderFailed(
            f"The provider {self.name!r} sent {what}.", code="upstream_malformed", retryable=False
        )


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def _framed(headers: Mapping[str, str]) -> bool:
    """Whether the body itself tells where it ends; then a cut one is an error of the transport."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()


async def _close(
    response: httpx2.Response, reads: AsyncGenerator[bytes, None], *, reusable: bool
) -> None:
    """Closes the connection, or leaves it to the next call if the answer was whole."""
    try:
        if reusable:  # what is left is a few bytes of framing, here already or on their way
            with suppress(TimeoutError, *_BODY_ERRORS):
                async with asyncio.timeout(_SETTLING):
                    async for _ in reads:
                        pass
    finally:
        await reads.aclose()
        await response.aclose()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _one_line(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'config'}: "
        + problem["msg"].removeprefix("Value error, ")
        for problem in error.errors()
    )
