"""Behind a proxy: a server that was not reached is told from one that is slow, or that broke off."""

import asyncio
from collections.abc import Callable

import pytest

from adapters.providers.anthropic import AnthropicProvider
from adapters.providers.openai import OpenAIProvider
from gateway.errors import (
    GatewayError,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnreachable,
)
from gateway.ports import Provider
from gateway.request import ChatRequest
from tests.servers.scripted import Exchange, replay, scripted

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Hi"}])


def openai() -> Provider:
    row = {"base_url": "https://api.example.org/v1", "api_key": "k", "connect_timeout": 0.5}
    return OpenAIProvider("up", row)


def anthropic() -> Provider:
    row = {"base_url": "https://api.example.org", "api_key": "k", "connect_timeout": 0.5}
    return AnthropicProvider("up", row)


BOTH = pytest.mark.parametrize("make", [openai, anthropic])


async def failure(
    monkeypatch: pytest.MonkeyPatch, proxy: str, make: Callable[[], Provider]
) -> GatewayError:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    provider = make()
    try:
        with pytest.raises(GatewayError) as caught:
            await anext(provider.stream(REQUEST))
    finally:
        await provider.aclose()
    assert caught.value.retryable
    return caught.value


async def hang(exchange: Exchange) -> None:
    await exchange.until_closed()


@BOTH
async def test_a_proxy_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Provider]
) -> None:
    error = await failure(monkeypatch, "http://127.0.0.1:9", make)
    assert type(error) is ProviderUnreachable


@BOTH
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", ProviderUnreachable),
        (b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n", ProviderUnreachable),
        (b"", ProviderTruncated),
    ],
    ids=["unreachable", "refused", "dropped"],
)
async def test_a_proxy_that_does_not_get_there(
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[], Provider],
    said: bytes,
    kind: type[GatewayError],
) -> None:
    async with scripted(replay(said, close=True)) as proxy:
        error = await failure(monkeypatch, proxy.url, make)
    assert type(error) is kind
    assert proxy.exchanges[0].method == "CONNECT"


@BOTH
async def test_a_proxy_that_never_gets_there(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Provider]
) -> None:
    async with scripted(hang) as proxy, asyncio.timeout(10):
        error = await failure(monkeypatch, proxy.url, make)
    assert type(error) is ProviderTimedOut
