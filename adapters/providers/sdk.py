"""The way to an OpenAI-compatible server through OpenAI's SDK: what `connection` does not know, it does.

That is proxies for now, which the environment names. It costs several times the work for each request
and each chunk, and a second to import: a process that needs no proxy never loads it.
"""

import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import aiohttp
import httpx2
import openai
from openai import AsyncOpenAI, AsyncStream, DefaultAioHttpClient, Omit
from openai._types import RequestOptions

from adapters.providers.connection import Answer, CannotConnect
from adapters.providers.decoding import Decoded

# The transport translates errors until the headers are there only, and not all of them.
_FAILURES = (
    openai.APIConnectionError,
    httpx2.HTTPError,
    httpx2.StreamError,
    aiohttp.ClientError,
    OSError,
)
_PIECE = 512 * 1024  # what is written of a body at once; aiohttp warns of more than twice as much


class SDK:
    """Requests to one server, as `connection.Origin` makes them."""

    def __init__(self, base_url: str, headers: Mapping[str, str], patience: float) -> None:
        # `pool` bounds all of connecting, name resolution included: no call waits for a free
        # connection, because 0 means no limit to aiohttp and admission has limited the calls.
        timeout = httpx2.Timeout(None, connect=patience, pool=patience)
        # Among the headers of the client the SDK would overlook it.
        self._omitted: dict[str, str | Omit] = {}
        if "authorization" not in headers:
            self._omitted["authorization"] = Omit()
        self._client = AsyncOpenAI(
            api_key="none",  # or it would be looked for in the environment
            base_url=base_url,
            # Omit is allowed here too, but only the type of a request's headers says so.
            default_headers=cast("dict[str, str]", _only(headers)),
            max_retries=0,
            timeout=timeout,
            http_client=DefaultAioHttpClient(
                timeout=timeout,
                limits=httpx2.Limits(max_connections=0),
                follow_redirects=False,
            ),
        )

    async def ask(self, method: str, path: str, accept: str, body: bytes = b"") -> Answer:
        headers = {**self._omitted, "accept": accept}
        options: RequestOptions = {"headers": headers}
        response: object
        with _translated():
            try:
                if method == "GET":
                    response = await self._client.get(
                        path, cast_to=httpx2.Response, options=options
                    )
                else:
                    # Bytes, because the SDK's own models would cost seven times the work for each
                    # chunk and drop fields that they do not know.
                    if len(body) > _PIECE:
                        headers["content-length"] = str(len(body))
                    response = await self._client.post(
                        path,
                        content=_pieces(body) if len(body) > _PIECE else body,
                        cast_to=httpx2.Response,
                        options=options,
                        stream=True,
                        stream_cls=AsyncStream[object],
                    )
            except openai.APIStatusError as error:
                response = error.response
        assert isinstance(response, httpx2.Response)  # the signature speaks of `stream_cls` only
        return _Answer(response)

    async def aclose(self) -> None:
        await self._client.close()


class _Answer(Decoded):
    async def read(self) -> bytes:
        with _translated():
            return await super().read()


def _only(headers: Mapping[str, str]) -> dict[str, str | Omit]:
    """These headers and none that the SDK would add from the environment, which is meant for OpenAI
    and not for every server that speaks its language."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").split("\n")
    strangers = [line.partition(":")[0].strip() for line in lines if ":" in line]
    omitted: dict[str, str | Omit] = {
        name: Omit() for name in ("OpenAI-Organization", "OpenAI-Project", *strangers)
    }
    return {**omitted, **headers}


async def _pieces(body: bytes) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


@contextmanager
def _translated() -> Iterator[None]:
    """Errors as `connection` raises them."""
    try:
        yield
    except _FAILURES as error:
        raise _kind(error)(str(error)) from error


def _kind(error: BaseException) -> type[OSError]:
    """Tells by its causes whether a request got through. The SDK's transport shows refused
    connections, unknown hosts and dropped connections alike as timeouts."""
    causes = list(_causes(error))

    def among(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if among(aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError):  # the latter by a proxy
        return CannotConnect
    if among(aiohttp.ServerTimeoutError):
        return TimeoutError
    if not among(aiohttp.ClientError):  # another transport
        if among(httpx2.ConnectError):
            return CannotConnect
        if among(httpx2.TimeoutException):
            return TimeoutError
    return ConnectionError


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
