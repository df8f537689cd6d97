"""Anthropic's Messages API, and servers that speak it, as a provider.

The SDK keeps connections, headers and error classes; the body and the stream pass it as bytes, since
its models cost more than all the rest. What is said in them is in `anthropic_request` and
`anthropic_stream`.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from typing import Annotated, cast

import aiohttp
import httpx2
import orjson
from anthropic import (
    APIConnectionError,
    APIStatusError,
    AsyncAnthropic,
    AsyncStream,
    DefaultAioHttpClient,
    Omit,
)
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from adapters.providers.anthropic_request import Style, Thinking, count, translate
from adapters.providers.anthropic_stream import MALFORMED, Failure, MessageReader
from adapters.providers.failures import Complaint, failure, read_complaint, truncated
from adapters.providers.rows import complain
from adapters.providers.splitter import EventSplitter, EventTooLarge
from gateway.errors import (
    GatewayError,
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderUnreachable,
)
from gateway.ports import Events
from gateway.request import ChatRequest
from gateway.sse import dump

log = logging.getLogger(__name__)

_HOME = "https://api.anthropic.com"
_VERSION = "2023-06-01"
"""Pinned, since the SDK's moves with its releases, and this one is known to compatible servers."""

_LARGEST_BODY = 16 << 20
_SETTLING = 0.05  # seconds that a finished answer's connection has to become reusable
_LISTING = 15.0  # seconds that a list of models or a count may take

# What reading a body can raise: the SDK translates errors only until the headers are there, and its
# transport not all of them.
_BODY_ERRORS = (httpx2.HTTPError, httpx2.StreamError, aiohttp.ClientError, OSError)

# Anthropic's words for errors, which are all that one within a stream has instead of a status.
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_TOO_LONG = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE)
_NO_CREDIT = re.compile(r"credit balance", re.IGNORECASE)

_HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", to_lower=True)
]
_HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", strip_whitespace=True)]


class _Config(BaseModel):
    """A row of `providers` in `sluice.yaml` whose type is `anthropic`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: SecretStr | None = None
    base_url: str = _HOME
    headers: dict[_HeaderName, _HeaderValue] = Field(default_factory=dict)
    connect_timeout: float = Field(default=5.0, gt=0, allow_inf_nan=False)
    max_tokens: int = Field(default=8192, ge=1)
    send_sampling: bool = False
    thinking: Thinking = "adaptive"

    @field_validator("api_key")
    @classmethod
    def _clean_key(cls, key: SecretStr | None) -> SecretStr | None:
        secret = key.get_secret_value().strip() if key else ""
        if not re.fullmatch(r"[\x21-\x7e]*", secret):
            raise ValueError("expected printable ASCII without spaces")
        return SecretStr(secret) if secret else None

    @field_validator("base_url")
    @classmethod
    def _clean_url(cls, url: str) -> str:
        url = url.strip().rstrip("/").removesuffix("/v1")  # the paths begin with it
        if not re.fullmatch(r"https?://[^/\s@]+(/\S*)?", url):
            raise ValueError("expected an http(s) address without credentials")
        return url

    @model_validator(mode="after")
    def _need_key(self) -> "_Config":
        if self.base_url == _HOME and not self.api_key and "authorization" not in self.headers:
            raise ValueError("api_key: expected a key, as Anthropic answers nobody without")
        return self


class AnthropicProvider:
    """One account at Anthropic, or one server that speaks its Messages API.

    `config`: `api_key`; `base_url`; `headers`, sent with every request and before our own;
    `connect_timeout`; `max_tokens`, where the client gives none; `send_sampling`, whether the models
    take `temperature` and `top_p`; `thinking`, how they are told a `reasoning_effort`: `adaptive`,
    `budget` for older ones, or `off`.
    """

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        self.name = name
        self._config = _read_config(config)
        key = self._config.api_key
        self._key = key.get_secret_value() if key else ""
        self._style = Style(
            max_tokens=self._config.max_tokens,
            sampling=self._config.send_sampling,
            thinking=self._config.thinking,
            unsigned=self._config.base_url != _HOME,
        )
        self._client: AsyncAnthropic | None = None

    async def stream(self, request: ChatRequest, /) -> Events:
        response = await self._post(_dump(translate(request, self._style)))
        try:
            media_type = response.headers.get("content-type", "").lower()
            if "html" in media_type:
                raise self._mistaken("a web page")
            read = self._read_whole if "json" in media_type else self._read
            async with aclosing(read(response)) as batches:
                async for batch in batches:
                    yield batch
        finally:
            await response.aclose()

    async def count(self, request: ChatRequest, /) -> int:
        with self._translated():
            response = await self._connected().post(
                "/v1/messages/count_tokens",
                content=_dump(count(request, self._style)),
                cast_to=httpx2.Response,
                options={"timeout": self._timeout(read=_LISTING)},
            )
        try:
            answer: object = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise self._mistaken("a count that is not JSON") from error
        match answer:
            case {"input_tokens": int(tokens)}:
                return tokens
            case _:
                raise self._mistaken("something else than a count")

    async def models(self) -> Sequence[str]:
        """As the server lists them; nothing where it does not know that path."""
        try:
            with self._translated():
                response = await self._connected().get(
                    "/v1/models?limit=1000",
                    cast_to=httpx2.Response,
                    options={"timeout": self._timeout(read=_LISTING)},
                )
            listing: object = orjson.loads(response.content)
        except ProviderFailed as error:
            if error.status == 404:
                return ()
            raise
        except orjson.JSONDecodeError as error:
            raise self._mistaken("a list of models that is not JSON") from error
        match listing:
            case {"data": list(rows)}:
                names = [row.get("id") for row in rows if isinstance(row, dict)]
                return [name for name in names if isinstance(name, str)]
            case _:
                raise self._mistaken("something else than a list of models")

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # Asking

    def _connected(self) -> AsyncAnthropic:
        """The client, made on first use: it belongs to the loop that it is made in."""
        if self._client is not None:
            return self._client
        # The SDK writes whole requests, prompts and all, into its log at the level DEBUG.
        logging.getLogger("anthropic").setLevel(logging.INFO)
        timeout = self._timeout(read=None)
        self._client = AsyncAnthropic(
            api_key=self._key or "none",  # or it would be looked for in the environment
            base_url=self._config.base_url,
            # Omit is allowed, but only the type of a request's headers says so.
            default_headers=cast("dict[str, str]", self._headers()),
            max_retries=0,
            timeout=timeout,
            open_telemetry=False,
            http_client=DefaultAioHttpClient(
                timeout=timeout,
                limits=httpx2.Limits(max_connections=0),  # none: admission has limited the calls
                follow_redirects=False,  # the key would go wherever a redirect points
            ),
        )
        return self._client

    def _headers(self) -> dict[str, str | Omit]:
        # The key goes out in its old form. Anthropic takes both forms, many compatible servers only
        # this one, and some refuse a bearer that they do not know beside it. A bearer that is
        # wanted, for an OAuth token say, can be had from `headers`.
        ours: dict[str, str | Omit] = {"authorization": Omit(), "anthropic-version": _VERSION}
        if self._key:
            ours["x-api-key"] = self._key
        return {**_uninvited(), **ours, **self._config.headers}

    def _timeout(self, read: float | None) -> httpx2.Timeout:
        """How long an answer may take is for the engine to say: it cancels. `pool` bounds all of
        connecting, name resolution included."""
        connect = self._config.connect_timeout
        return httpx2.Timeout(read, connect=connect, pool=connect)

    async def _post(self, content: bytes) -> httpx2.Response:
        with self._translated():
            response = await self._connected().post(
                "/v1/messages",
                content=content,
                cast_to=httpx2.Response,
                options={"headers": {"accept-encoding": "identity"}},  # compression holds back
                stream=True,
                stream_cls=AsyncStream[object],
            )
        assert isinstance(response, httpx2.Response)  # the signature speaks of `stream_cls` only
        return response

    # Reading

    async def _read(self, response: httpx2.Response) -> Events:
        reader = MessageReader()
        splitter = EventSplitter()
        async with aclosing(response.aiter_bytes()) as reads:
            try:
                async for read in reads:
                    if batch := reader.read(splitter.feed(read)):
                        yield batch
                    if reader.failure:
                        raise self._fail(reader.failure)
                    if reader.complete:
                        return
            except EventTooLarge as error:
                raise self._fail(Failure(MALFORMED, "an event that is too large")) from error
            except _BODY_ERRORS as error:
                raise truncated(self.name) from error
            finally:
                if reader.complete:
                    await _settle(reads)
        raise truncated(self.name)

    async def _read_whole(self, response: httpx2.Response) -> Events:
        """An answer that is not streamed though it was asked for: some compatible servers do that."""
        body = bytearray()
        try:
            async with aclosing(response.aiter_bytes()) as reads:
                async for read in reads:
                    body += read
                    if len(body) > _LARGEST_BODY:
                        raise self._fail(Failure(MALFORMED, "a body that is too large"))
            message = orjson.loads(body)
        except (*_BODY_ERRORS, orjson.JSONDecodeError) as error:
            raise truncated(self.name) from error
        reader = MessageReader()
        batch = reader.read_whole(message if isinstance(message, dict) else {})
        if reader.failure:
            raise self._fail(reader.failure)
        yield batch

    # Failing

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors until the headers are there, as errors of the gateway."""
        try:
            yield
        except APIStatusError as error:
            raise self._refused(error) from error
        except (APIConnectionError, *_BODY_ERRORS) as error:
            raise self._unanswered(error) from error

    def _refused(self, error: APIStatusError) -> ProviderFailed:
        status, headers = error.status_code, error.response.headers
        log.info("provider %s answered %d, request %.60r", self.name, status, error.request_id)
        if status < 400:
            return self._mistaken("a redirect")
        # A page says nothing to the client of an API.
        body = error.body if isinstance(error.body, dict) else None
        complaint = read_complaint(body)
        return self._complain(status, complaint.type, complaint.message, headers)

    def _fail(self, failed: Failure) -> ProviderFailed:
        log.info("provider %s failed while it answered: %.60r", self.name, failed.type)
        if failed.type == MALFORMED:
            message = f"The provider {self.name!r} sent {failed.message}."
            return ProviderFailed(message, code="upstream_malformed")
        return self._complain(_STATUSES.get(failed.type, 500), failed.type, failed.message)

    def _complain(
        self,
        status: int,
        kind: str | None,
        message: str,
        headers: Mapping[str, str] | None = None,
    ) -> ProviderFailed:
        """Says in OpenAI's words what Anthropic says only to people."""
        code = param = None
        if _NO_CREDIT.search(message):
            # A 400 to Anthropic; but not what the client could mend. Said without the operator's links.
            status, message = 402, f"The provider {self.name!r} has no credit left."
        elif status in (400, 413) and _TOO_LONG.search(message):
            status, code, param = 400, "context_length_exceeded", "messages"
        elif status == 404 and message.startswith("model:"):
            code, param = "model_not_found", "model"
        return failure(self.name, status, Complaint(message, kind, param, code), headers, self._key)

    def _unanswered(self, error: BaseException) -> GatewayError:
        """Tells by its causes whether a request got through; the SDK tells it of few."""
        causes: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None:
            causes.append(cause)
            cause = cause.__cause__
        unreached = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError)
        if any(isinstance(cause, unreached) for cause in causes):
            # For the operator: clients are not told where a server is.
            log.warning("provider %s cannot be reached: %.300s", self.name, causes[-1])
            return ProviderUnreachable(f"The provider {self.name!r} cannot be reached.")
        if any(isinstance(cause, aiohttp.ServerTimeoutError) for cause in causes):
            return ProviderTimedOut(f"The provider {self.name!r} did not answer in time.")
        return truncated(self.name, " before it began")

    def _mistaken(self, what: str) -> ProviderFailed:
        return ProviderFailed(
            f"The provider {self.name!r} sent {what}; its base_url may be wrong.",
            code="upstream_malformed",
            retryable=False,
        )


def _dump(body: Mapping[str, object]) -> bytes:
    try:
        return dump(body)
    except (TypeError, RecursionError) as error:
        raise InvalidRequest("The request is nested too deeply.", param="messages") from error


def _uninvited() -> dict[str, Omit]:
    """What the SDK would add from the environment, meant for Anthropic, to requests to anyone."""
    lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
    return {line.partition(":")[0].strip().lower(): Omit() for line in lines if ":" in line}


def _read_config(config: Mapping[str, object]) -> _Config:
    try:
        return _Config.model_validate(dict(config))
    except ValidationError as error:
        raise ValueError(complain(error, _Config)) from None  # its cause quotes the values


async def _settle(reads: AsyncGenerator[bytes, None]) -> None:
    """What is left of a whole answer is a few bytes of framing, here already or on their way. Read
    to its end, a connection serves the next call."""
    with suppress(TimeoutError, *_BODY_ERRORS):
        async with asyncio.timeout(_SETTLING):
            async for _ in reads:
                pass
