"""HTTP/1.1 to one server, from the socket up.

Every token of every answer comes this way. Through the SDK and its transport a request cost 540 µs of
CPU and a chunk 18 µs; here it is 90 and 7, most of which is the kernel's. What a client of all servers
needs besides, such as proxies, redirects and cookies, is not here: `adapters.providers.sdk` has it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

import httpx2
from aiohappyeyeballs import start_connection
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_IDLE = 5.0
"""Seconds that a connection is kept for the next request. Many servers close it soon after that."""
SETTLING = 0.05
"""Seconds that a finished answer has for what is left of its framing, here already or on its way."""
_MOST_HELD = 32 << 10
"""Bytes of an answer that wait for a slow reader, after which its server waits, too."""
_buffer = memoryview(bytearray(32 << 10))
"""What is read from any socket, until it is parsed at once. A read of the loop's own takes eight times
as much, and a megabyte of events is made of it for a client that does not read."""
_LARGEST_HEAD = 64 << 10


class CannotConnect(OSError):
    """The server was not reached, so it has not got the request."""


class Answer(Protocol):
    """One answer, from its headers on. Reading it may raise `OSError` and `httpx2.HTTPError`."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in small letters."""

    async def read(self) -> bytes:
        """What has come since, at least a byte; nothing at the end."""

    async def leave(self, *, whole: bool) -> None:
        """Must be called. `whole`: the reader has all it wants, so that the connection may serve
        another request as soon as this answer has ended; otherwise it is closed."""


class Connection(asyncio.BufferedProtocol):
    """One connection: a request at a time, and its answer."""

    def __init__(self, rest: Callable[["Connection"], None]) -> None:
        """`rest` is called when it can take another request."""
        self._rest = rest
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._lost: OSError | None = None
        self._pieces: list[bytes] = []
        self._asked = self._paused = False
        self.rested_at = 0.0
        self.listener: Callable[[bytes], bool] | None = None
        """Is offered what has come while a read waits for it, and tells whether it took that."""
        self.on_body = self._pieces.append  # no call into Python for a piece of a body
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        self.status = 0
        self._pairs: list[tuple[bytes, bytes]] = []
        self._headers: dict[str, str] | None = None
        self._head_size = 0
        self._pieces.clear()
        self._held = 0
        self._extent = 0
        """Pieces of the answer, once it is whole. What comes after them is none of it."""
        self._begun = self._whole = self._lasting = False
        self._fault: Exception | None = None
        """Of the listener."""

    # What the caller does.

    @property
    def usable(self) -> bool:
        return self._lost is None and not self._transport.is_closing()

    @property
    def headers(self) -> Mapping[str, str]:
        if self._headers is None:
            self._headers = {}
            for raw_name, raw_value in self._pairs:
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                before = self._headers.get(name)
                self._headers[name] = value if before is None else f"{before}, {value}"
            self._pairs.clear()
        return self._headers

    async def ask(self, head: bytes, body: bytes) -> None:
        """Sends a request, and returns when the headers of its answer are here."""
        self._begin()
        self._asked = True
        try:
            self._transport.writelines((head, body))
            while not self._begun:
                if self._lost is not None:
                    raise ConnectionError(
                        "the connection was closed before an answer"
                    ) from self._lost
                await self._news()
        except BaseException:
            self.close()
            raise

    async def read(self) -> bytes:
        while not self._pieces or self._fault is not None:
            if self._fault is not None:
                raise self._fault
            if self._whole:
                return b""
            if self._lost is not None:
                if not self._framed():
                    return b""  # that is how such an answer ends
                raise ConnectionError("the connection was closed within an answer") from self._lost
            # As `_news`, without a coroutine of its own.
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._waiter = None
        data = self._joined()
        self._pieces.clear()
        self._held = 0
        self._go_on()
        return data

    async def leave(self, *, whole: bool) -> None:
        self.listener = None
        try:
            if whole and not self._whole:
                with suppress(TimeoutError, OSError):
                    async with asyncio.timeout(SETTLING):
                        while await self.read():
                            pass
        finally:
            self._asked = False
            if whole and self._whole and self._lasting and self.usable:
                self._rest(self)
            else:
                self.close()

    def close(self) -> None:
        self._transport.abort()

    async def _news(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _joined(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _framed(self) -> bool:
        return framed(self.headers)

    # What the loop calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # one of TCP
        self._transport = transport
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if not self._asked or self._parser is None:
            self.close()  # nothing was asked: what comes would be taken for the next answer
            return
        if self._whole:
            self._lasting = False  # nor was more than one answer
            return
        try:
            self._parser.feed_data(_buffer[:nbytes])
        except (HttpParserError, HttpParserUpgrade) as error:
            self._lose(ConnectionError(f"what was sent is no HTTP: {error}"))
            self.close()
        if self._whole:
            del self._pieces[self._extent :]
        # Of a head and of what frames a body nothing is left to be read, and so nothing waits.
        self._held = self._held + nbytes if self._pieces else 0
        if not self._begun:
            self._head_size += nbytes
            if self._head_size > _LARGEST_HEAD:
                self._lose(ConnectionError("the headers have no end"))
                self.close()
        elif self._held > _MOST_HELD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        elif (
            self.listener is not None
            and self._waiter is not None
            and not self._waiter.done()
            and self._pieces
            and not self._whole
            and self._offer(self.listener)
        ):
            return
        self._wake()

    def _offer(self, listener: Callable[[bytes], bool]) -> bool:
        """Whether the listener took what there is."""
        data = self._joined()
        self._pieces.clear()
        try:
            taken = listener(data)
        except Exception as error:  # of whoever the answer is for: it is raised where that is read
            self._fault, self.listener = error, None
            return False
        if taken:
            self._held = 0
        else:
            self._pieces.append(data)
        return taken

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc if isinstance(exc, OSError) else ConnectionError("the server closed it"))
        self._parser = None  # each knows the other
        self._wake()

    def _lose(self, error: OSError) -> None:
        if self._lost is None:
            self._lost = error

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._begun:  # the trailers of a chunked body are nobody's business
            self._pairs.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self._whole:
            self._lasting = False  # a second answer to one request
        elif status >= 200:
            self.status = status
            self._begun = True
        else:
            self._pairs.clear()  # an interim answer

    def on_message_complete(self) -> None:
        if self._begun and not self._whole:
            assert self._parser is not None
            self._whole = True
            self._extent = len(self._pieces)
            self._lasting = self._parser.should_keep_alive()


class Origin:
    """Requests to one server, each on a connection that is free, or else on a new one."""

    def __init__(self, base_url: str, headers: Mapping[str, str], patience: float) -> None:
        """`headers` go with every request. `patience`: seconds that all of connecting may take."""
        url = httpx2.URL(base_url.rstrip("/"))
        self._host = url.raw_host.decode("ascii")
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._path = url.raw_path.rstrip(b"/")
        self._secure = url.scheme == "https"
        self._context: ssl.SSLContext | None = None
        self._patience = patience
        self._free: list[Connection] = []
        self._sweeper: asyncio.TimerHandle | None = None
        lines = {"host": url.netloc.decode("ascii"), **headers}
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode()

    async def ask(self, method: str, path: str, accept: str, body: bytes = b"") -> Answer:
        """The answer as soon as its headers are here, whatever its status.

        Raises `CannotConnect`, `TimeoutError`, or another `OSError` when the connection broke after it
        was made: then the request may have been taken.
        """
        head = b"%b %b%b HTTP/1.1\r\n%baccept: %b\r\n" % (
            method.encode(),
            self._path,
            path.encode(),
            self._lines,
            accept.encode(),
        )
        if method != "GET":
            head += b"content-length: %d\r\n" % len(body)
        connection = self._take() or await self._connect()
        await connection.ask(head + b"\r\n", body)
        return connection

    async def aclose(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for connection in self._free:
            connection.close()
        self._free.clear()

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        if self._secure and self._context is None:
            self._context = await asyncio.to_thread(httpx2.create_ssl_context)
        try:
            async with asyncio.timeout(self._patience):
                places = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                connected = await start_connection(places, happy_eyeballs_delay=0.25, loop=loop)
                try:
                    _, connection = await loop.create_connection(
                        lambda: Connection(self._keep),
                        sock=connected,
                        ssl=self._context,
                        server_hostname=self._host if self._secure else None,
                    )
                except BaseException:
                    connected.close()
                    raise
        except TimeoutError:
            raise
        except (OSError, UnicodeError) as error:  # the latter of a name that no host can have
            raise CannotConnect(str(error)) from error
        return connection

    def _take(self) -> Connection | None:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        return None

    def _keep(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.rested_at = loop.time()
        self._free.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(_IDLE, self._sweep)

    def _sweep(self) -> None:
        """Closes what rested too long; runs as long as there is anything that rests."""
        loop = asyncio.get_running_loop()
        old = loop.time() - _IDLE
        stale = [connection for connection in self._free if connection.rested_at <= old]
        self._free = [connection for connection in self._free if connection.rested_at > old]
        for connection in stale:
            connection.close()
        self._sweeper = None
        if self._free:
            self._sweeper = loop.call_at(self._free[0].rested_at + _IDLE, self._sweep)


def framed(headers: Mapping[str, str]) -> bool:
    """Whether the body itself tells where it ends; then a cut one is an error of the transport."""
    return "content-length" in headers or "chunked" in headers.get("transfer-encoding", "").lower()
