"""Anthropic's Messages API, and servers that speak it, as a provider.

The SDK keeps connections, headers and error classes; the body and the stream pass it as bytes, since
its models cost more than all the rest. What is said in them is in `anthropic_request` and
`anthropic_stream`.
"""

import asyncio
import logging
import math
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Annotated

import aiohttp
import httpx2
import orjson
from anthropic import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
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

from adapters.providers.anthropic_request import Style, Thinking, translate
from adapters.providers.anthropic_stream import Failure, MessageReader
from adapters.providers.splitter import EventSplitter, EventTooLarge
from gateway.errors import (
    InvalidRequest,
    ProviderFailed,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnreachable,
)
from gateway.ports import Events
from gateway.request import ChatRequest
from gateway.sse import dump

log = logging.getLogger(__name__)

_HOME = "https://api.anthropic.com"
_VERSION = "2023-06-01"
"""Pinned, since the SDK's moves with its releases, and this one is known to compatible servers."""

_LONGEST_MESSAGE = 1000
_LARGEST_BODY = 16 << 20
_LAST_BYTES = 0.05
"""Seconds to wait for what may follow the end of a message: a connection read to its end is kept."""
_MODELS_TIMEOUT = 10.0

# Anthropic's words, which are also all that an error within a stream has instead of a status.
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
_SECRETS = re.compile(r"\bsk-[\w-]{4,}|\bBearer\s+\S+", re.IGNORECASE)

_HeaderName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", to_lower=True)
]
_HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\x20-\x7e]*$", strip_whitespace=True)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    api_key: SecretStr | None = None
    base_url: str = _HOME
    headers: dict[_HeaderName, _HeaderValue] = Field(default_factory=dict)
    connect_timeout: float = Field(default=5.0, gt=0)
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
        self._style = Style(
            max_tokens=self._config.max_tokens,
            sampling=self._config.send_sampling,
            thinking=self._config.thinking,
        )
        self._client: AsyncAnthropic | None = None

    async def stream(self, request: ChatRequest, /) -> Events:
        body = translate(request, self._style)
        try:
            content = dump(body)
        except (TypeError, RecursionError) as error:
            raise InvalidRequest("The request is nested too deeply.", param="messages") from error
        response = await self._post(content)
        try:
            media_type = response.headers.get("content-type", "").lower()
            if "json" in media_type:
                answer = self._read_whole(response)
            elif "html" in media_type:
                raise self._fail(Failure("api_error", "a web page instead of an answer"))
            else:
                answer = self._read(response)
            async with aclosing(answer):
                async for batch in answer:
                    yield batch
        finally:
            await response.aclose()

    async def models(self) -> Sequence[str]:
        """As the server lists them; nothing from a server that does not."""
        client = self._open()
        try:
            response = await client.get(
                "/v1/models?limit=1000",
                cast_to=httpx2.Response,
                options={"timeout": self._timeout(read=_MODELS_TIMEOUT)},
            )
            listed = orjson.loads(response.content)
        except (APIStatusError, APIConnectionError, orjson.JSONDecodeError) as error:
            log.warning("provider %s lists no models: %s", self.name, type(error).__name__)
            return ()
        data = listed.get("data") if isinstance(listed, dict) else None
        rows = [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
        return [name for row in rows if isinstance(name := row.get("id"), str)]

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # Asking

    def _open(self) -> AsyncAnthropic:
        if self._client is not None:
            return self._client
        # The SDK writes whole requests, prompts and all, into its log at the level DEBUG.
        logging.getLogger("anthropic").setLevel(logging.INFO)
        key = self._config.api_key
        # The old form of the key. Anthropic takes both, compatible servers often only this one; and
        # not both at once, for some refuse a bearer that they do not know. A bearer that is wanted
        # can be had from `headers`.
        headers: dict[str, str | Omit] = {"authorization": Omit(), "anthropic-version": _VERSION}
        if key is not None:
            headers["x-api-key"] = key.get_secret_value()
        headers.update(self._config.headers)
        timeout = self._timeout(read=None)
        self._client = AsyncAnthropic(
            api_key=key.get_secret_value() if key else "none",  # else it looks in the environment
            base_url=self._config.base_url,
            max_retries=0,
            timeout=timeout,
            open_telemetry=False,
            default_headers=headers,  # type: ignore[arg-type]  # Omit is taken, but not declared
            http_client=DefaultAioHttpClient(
                timeout=timeout,
                # A redirect would carry the key to wherever it points.
                follow_redirects=False,
                limits=httpx2.Limits(max_connections=1000),
            ),
        )
        return self._client

    def _timeout(self, read: float | None) -> httpx2.Timeout:
        """How long an answer may take is the engine's to say: it cancels."""
        connect = self._config.connect_timeout
        return httpx2.Timeout(connect=connect, pool=connect, read=read, write=None)

    async def _post(self, content: bytes) -> httpx2.Response:
        try:
            return await self._open().post(
                "/v1/messages",
                content=content,
                cast_to=httpx2.Response,
                # Not compressed: that holds events back, to save what nobody misses.
                options={"headers": {"accept-encoding": "identity"}},
                stream=True,
                stream_cls=AsyncStream[object],  # named for the types, not used
            )  # type: ignore[return-value]  # what `cast_to` says, despite `stream_cls`
        except APIStatusError as error:
            raise self._refuse(error) from error
        except APITimeoutError as error:
            raise ProviderTimedOut(
                f"The provider {self.name!r} could not be connected to in time."
            ) from error
        except APIConnectionError as error:
            raise self._disconnect(error) from error

    # Reading

    async def _read(self, response: httpx2.Response) -> Events:
        reader = MessageReader()
        splitter = EventSplitter()
        async with aclosing(response.aiter_bytes()) as reads:
            try:
                async for data in reads:
                    batch = reader.read(splitter.feed(data))
                    if batch:
                        yield batch
                    if reader.failure:
                        raise self._fail(reader.failure)
                    if reader.complete:
                        return
            except httpx2.RequestError as error:
                raise self._truncate() from error
            except EventTooLarge as error:
                raise self._fail(Failure("api_error", str(error))) from error
            finally:
                if reader.complete:
                    await _read_on(reads)
        raise self._truncate()

    async def _read_whole(self, response: httpx2.Response) -> Events:
        """An answer that is not streamed though it was asked for: some compatible servers do that."""
        body = bytearray()
        try:
            async with aclosing(response.aiter_bytes()) as reads:
                async for data in reads:
                    body += data
                    if len(body) > _LARGEST_BODY:
                        raise self._fail(Failure("api_error", "the answer is too large"))
            message = orjson.loads(body)
        except (httpx2.RequestError, orjson.JSONDecodeError) as error:
            raise self._truncate() from error
        reader = MessageReader()
        batch = reader.read_whole(message if isinstance(message, dict) else {})
        if reader.failure:
            raise self._fail(reader.failure)
        yield batch

    # Failing

    def _refuse(self, error: APIStatusError) -> ProviderFailed:
        response = error.response
        message = error.api_message
        if not isinstance(message, str) or not message.strip():
            message = f"HTTP status {response.status_code}"
        log.info(
            "provider %s answered %d (%.60r), request %.60r",
            self.name,
            response.status_code,
            error.type,
            error.request_id,
        )
        return self._failure(response.status_code, message, _retry_after(response.headers))

    def _fail(self, failure: Failure) -> ProviderFailed:
        log.info("provider %s failed within the stream (%.60r)", self.name, failure.type)
        return self._failure(_STATUSES.get(failure.type, 500), failure.message)

    def _failure(
        self, status: int, message: str, retry_after: float | None = None
    ) -> ProviderFailed:
        """What the client is told. The statuses of its own mistakes stay, those of ours do not."""
        message = self._scrub(message)
        whose = f"The provider {self.name!r}"
        if status in (401, 403):
            # Its words are left out: they may quote the key, and concern only the operator.
            return ProviderFailed(
                f"{whose} refused the gateway's credentials.",
                code="upstream_auth",
                retryable=False,
            )
        if status == 402 or _NO_CREDIT.search(message):
            return ProviderFailed(
                f"{whose} has no credit left.", code="upstream_quota", retryable=False
            )
        if status == 429:
            return ProviderFailed(
                f"{whose} is at its rate limit: {message}",
                status=429,
                code="rate_limit_exceeded",
                retry_after=retry_after,
            )
        if status in (503, 529):
            return ProviderFailed(
                f"{whose} is overloaded: {message}",
                status=503,
                code="server_is_overloaded",
                retry_after=retry_after,
            )
        if status in (408, 504):
            return ProviderTimedOut(f"{whose} took too long: {message}")
        if 400 <= status < 500:
            return _reject(status, message)
        return ProviderFailed(f"{whose} failed: {message}", retry_after=retry_after)

    def _disconnect(self, error: APIConnectionError) -> ProviderFailed:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, aiohttp.ClientConnectorError):
                return ProviderUnreachable(f"The provider {self.name!r} cannot be reached.")
            cause = cause.__cause__
        # Anything else may have happened after the request had gone out.
        return ProviderTruncated(
            f"The provider {self.name!r} closed the connection before it answered."
        )

    def _truncate(self) -> ProviderTruncated:
        return ProviderTruncated(
            f"The provider {self.name!r} ended the stream before the answer was whole."
        )

    def _scrub(self, message: str) -> str:
        if key := self._config.api_key:
            message = message.replace(key.get_secret_value(), "***")
        message = _SECRETS.sub("***", message)
        if len(message) > _LONGEST_MESSAGE:
            message = message[: _LONGEST_MESSAGE - 1] + "…"
        return message


def _read_config(config: Mapping[str, object]) -> _Config:
    try:
        return _Config.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"] if part != "[key]")
        reason = first["msg"].removeprefix("Value error, ")
        # Without its cause, which quotes the values.
        raise ValueError(f"{field}: {reason}" if field else reason) from None


def _reject(status: int, message: str) -> ProviderFailed:
    if _TOO_LONG.search(message):
        return ProviderFailed(message, status=400, code="context_length_exceeded", param="messages")
    if status == 404:
        return ProviderFailed(message, status=404, code="model_not_found", param="model")
    if status == 413:
        return ProviderFailed(message, status=413, code="request_too_large")
    if status == 409:
        return ProviderFailed(message, status=409)
    return ProviderFailed(message, status=400, code="invalid_value")


def _retry_after(headers: httpx2.Headers) -> float | None:
    """Seconds, from any of the three forms."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with suppress(ValueError):
            seconds = float(headers.get(name, "")) / unit
            if math.isfinite(seconds):
                return max(seconds, 0.0)
    with suppress(ValueError):
        when = parsedate_to_datetime(headers.get("retry-after", ""))
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return max((when - datetime.now(UTC)).total_seconds(), 0.0)
    return None


async def _read_on(reads: AsyncGenerator[bytes, None]) -> None:
    with suppress(TimeoutError, httpx2.RequestError):
        async with asyncio.timeout(_LAST_BYTES):
            async for _ in reads:
                pass
