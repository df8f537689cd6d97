"""Connections to providers: TLS, proxies, reuse, and servers that do not keep to the protocol."""

import asyncio
import datetime
import gzip
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.providers.connection import Answer, CannotConnect, Origin
from adapters.providers.decoding import decoded
from adapters.providers.openai import OpenAIProvider
from gateway.errors import ProviderUnreachable
from gateway.events import Complete, Delta
from gateway.request import ChatRequest
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    UNTIL_CLOSED,
    Exchange,
    Script,
    ScriptedUpstream,
    answer,
    chunk,
    frames,
    replay,
    scripted,
)

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "Hi"}])
STORY = frames({"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}, b"[DONE]")


@asynccontextmanager
async def reached(script: Script) -> AsyncGenerator[tuple[ScriptedUpstream, Origin], None]:
    async with scripted(script) as upstream:
        origin = Origin(f"{upstream.url}/v1/", {"x-key": "k"}, 5)
        try:
            yield upstream, origin
        finally:
            await origin.aclose()


async def whole(answer: Answer) -> bytes:
    body = b""
    ended = False
    try:
        while read := await answer.read():
            body += read
        ended = True
    finally:
        await answer.leave(whole=ended)
    return body


async def asked(origin: Origin) -> bytes:
    async with asyncio.timeout(10):
        return await whole(await origin.ask("POST", "/chat", "text/event-stream", b"{}"))


async def test_a_request_says_what_it_has_to() -> None:
    async with reached(replay(ANSWER)) as (upstream, origin):
        assert await asked(origin) == b"ok"
        assert await whole(await origin.ask("GET", "/models", "application/json")) == b"ok"
    post, get = upstream.exchanges
    assert (post.method, post.path, post.body) == ("POST", "/v1/chat", b"{}")
    assert post.headers == {
        "host": upstream.url.removeprefix("http://"),
        "x-key": "k",
        "accept": "text/event-stream",
        "content-length": "2",
    }
    assert (get.method, get.path) == ("GET", "/v1/models")
    assert upstream.connections == 1


async def test_interim_answers_are_passed_over() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with reached(replay(interim + interim + ANSWER)) as (upstream, origin):
        reply = await origin.ask("POST", "/chat", "*/*", b"{}")
        assert (reply.status, dict(reply.headers)) == (200, {"content-length": "2"})
        assert await whole(reply) == b"ok"
        assert await asked(origin) == b"ok"
        assert upstream.connections == 1


async def test_trailers_are_no_headers() -> None:
    data = CHUNKED + chunk(b"ok") + b"0\r\nx-late: 1\r\n\r\n"
    async with reached(replay(data)) as (upstream, origin):
        assert await asked(origin) == await asked(origin) == b"ok"
        assert upstream.connections == 1


@pytest.mark.parametrize(
    "data",
    [ANSWER + ANSWER, ANSWER + b"junk"],
    ids=["a second answer", "junk"],
)
async def test_what_nobody_asked_for_is_never_the_next_answer(data: bytes) -> None:
    async with reached(replay(data)) as (upstream, origin):
        for _ in range(3):
            assert await asked(origin) == b"ok"
        assert upstream.connections == 3


async def test_what_comes_on_an_idle_connection_ends_it() -> None:
    async def chatter(exchange: Exchange) -> None:
        await exchange.send(ANSWER)
        await asyncio.sleep(0.05)
        await exchange.send(b"HTTP/1.1 408 Too late\r\ncontent-length: 0\r\n\r\n")

    async with reached(chatter) as (upstream, origin):
        assert await asked(origin) == b"ok"
        await asyncio.wait_for(upstream.idle.wait(), 5)
        assert await asked(origin) == b"ok"
        assert upstream.connections == 2


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
    ids=["told to close", "HTTP/1.0"],
)
async def test_a_connection_that_does_not_last_is_closed(data: bytes) -> None:
    async with reached(replay(data)) as (upstream, origin):
        assert await asked(origin) == b"ok"
        await asyncio.wait_for(upstream.idle.wait(), 5)


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    async with reached(replay(UNTIL_CLOSED + b"ok", close=True)) as (_, origin):
        assert await asked(origin) == b"ok"


async def test_a_free_connection_is_not_kept_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.providers.connection._IDLE", 0.1)
    async with reached(replay(ANSWER)) as (upstream, origin):
        assert await asked(origin) == b"ok"
        await asyncio.wait_for(upstream.idle.wait(), 5)


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 20_000, b"HTTP/1.1 101 No\r\nupgrade: h2c\r\n\r\n"],
    ids=["headers without end", "another protocol"],
)
async def test_what_is_no_answer_ends_the_connection(data: bytes) -> None:
    async with reached(replay(data)) as (upstream, origin):
        with pytest.raises(ConnectionError):
            await asked(origin)
        await asyncio.wait_for(upstream.idle.wait(), 5)


async def test_a_server_that_floods_waits_for_who_reads_slowly() -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(CHUNKED)
        for _ in range(400):
            await exchange.send(chunk(b"x" * 65536))
            sent += 65536
        await exchange.send(LAST_CHUNK)

    async with reached(flood) as (_, origin):
        reply = await origin.ask("POST", "/chat", "*/*", b"{}")
        await asyncio.sleep(0.5)
        assert sent < 16 << 20  # what the kernel takes, and a little more
        assert len(await whole(reply)) == 400 * 65536


async def test_an_answer_that_came_compressed_is_read_all_the_same() -> None:
    packed = gzip.compress(STORY)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with reached(replay(head + packed)) as (upstream, origin):
        for _ in range(2):
            reply = decoded(await origin.ask("POST", "/chat", "*/*", b"{}"))
            assert await whole(reply) == STORY
        assert upstream.connections == 1


# TLS


def certificate(folder: Path) -> tuple[Path, Path]:
    """One for 127.0.0.1, which vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


@asynccontextmanager
async def secure(folder: Path) -> AsyncGenerator[str, None]:
    cert, key = certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_is_vouched_for_is_spoken_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with secure(tmp_path) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        origin = Origin(url, {}, 5)
        assert await asked(origin) == await asked(origin) == b"ok"
        await origin.aclose()


async def test_a_server_that_nobody_vouches_for_is_not_told_anything(tmp_path: Path) -> None:
    async with secure(tmp_path) as url:
        origin = Origin(url, {}, 5)
        with pytest.raises(CannotConnect, match="certificate"):
            await asked(origin)


# The way through the SDK


async def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(replay(CHUNKED + chunk(STORY) + LAST_CHUNK)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        provider = OpenAIProvider("up", {"base_url": "http://api.example.org/v1", "api_key": "k"})
        events = [event async for batch in provider.stream(REQUEST) for event in batch]
        assert events == [Delta("Hi"), Complete("stop")]
        proxy.script = replay(answer(200, b'{"data":[{"id":"a"}]}'))
        assert await provider.models() == ["a"]
        await provider.aclose()
    paths = [exchange.path for exchange in proxy.exchanges]
    assert paths == [
        "http://api.example.org/v1/chat/completions",
        "http://api.example.org/v1/models",
    ]
    assert {exchange.headers["authorization"] for exchange in proxy.exchanges} == {"Bearer k"}


async def test_a_proxy_that_is_not_there_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(replay(b"")) as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone.url)
    provider = OpenAIProvider("up", {"base_url": "http://api.example.org/v1"})
    with pytest.raises(ProviderUnreachable):
        await anext(provider.stream(REQUEST))
    await provider.aclose()


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        pytest.param(
            CHUNKED[:-2]
            + b"".join(b"x-pad-%d: %s\r\n" % (n, b"a" * 1000) for n in range(40))
            + b"\r\n",
            chunk(b"ok") + LAST_CHUNK,
            id="a long head",
        ),
        pytest.param(
            CHUNKED + chunk(b"o"),
            b"1;" + b"x" * 40_000 + b"\r\nk\r\n" + LAST_CHUNK,
            id="a long extension of a chunk",
        ),
    ],
)
async def test_much_that_is_no_body_stops_nobody(head: bytes, rest: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head)
        for at in range(0, len(rest), 10_000):
            await asyncio.sleep(0.02)
            await exchange.send(rest[at : at + 10_000])

    async with reached(script) as (_, origin):
        assert await asked(origin) == b"ok"
