"""respx for the SDKs' HTTP client, whichever transport it has: respx itself knows `httpx` only."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import httpx2
import respx
from respx.mocks import AbstractRequestMocker


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except httpx.TransportError as error:
            raise _translate(error) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


class Httpx2Mocker(AbstractRequestMocker):
    """Known to respx as "httpx2" once this module is imported."""

    name = "httpx2"
    targets: ClassVar[list[str]] = [
        "httpx2.AsyncHTTPTransport",
        "openai._vendor.httpx_aiohttp.transport.AiohttpTransport",
        "anthropic._vendor.httpx_aiohttp.transport.AiohttpTransport",
    ]
    target_methods: ClassVar[list[str]] = ["handle_async_request"]

    @classmethod
    def to_httpx_request(cls, **given: Any) -> httpx.Request:
        request: httpx2.Request = given["request"]
        return httpx.Request(
            request.method,
            str(request.url),
            headers=request.headers.raw,
            stream=request.stream,
            extensions=request.extensions,
        )

    @classmethod
    async def async_handler(cls, httpx_request: httpx.Request) -> httpx.Response:
        try:
            response: httpx.Response = await super().async_handler(httpx_request)
        except httpx.TransportError as error:
            raise _translate(error) from error
        return response

    @classmethod
    async def from_async_httpx_response(
        cls, httpx_response: httpx.Response, target: object, **given: Any
    ) -> httpx2.Response:
        assert isinstance(httpx_response.stream, httpx.AsyncByteStream)
        return httpx2.Response(
            httpx_response.status_code,
            headers=httpx_response.headers.raw,
            stream=_Body(httpx_response.stream),
        )


def _translate(error: httpx.TransportError) -> httpx2.TransportError:
    kind = getattr(httpx2, type(error).__name__, httpx2.TransportError)
    translated: httpx2.TransportError = kind(str(error))
    return translated


def mocked_http() -> respx.MockRouter:
    """A router that sees all requests of the SDKs, and fails those that it has no route for."""
    return respx.MockRouter(using="httpx2")
