"""The HTTP server: uvicorn with limits on what a peer may hold, and an end that cuts no stream.

uvicorn sets no limit to a header's size or to the time it takes, and none to how long a vanished
peer is waited for. A proxy in front has such limits; a gateway without one needs its own.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator

import httptools
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.server import logs
from gateway.server.outlet import Outlet
from gateway.server.peers import give_up
from gateway.server.presence import DEPARTURE
from gateway.server.service import Service
from gateway.server.settings import Settings
from gateway.server.stream import ABORT, PUSH

_HEADER_TIMEOUT = 10.0
_MAX_HEADER = 64 * 1024
_WRITE_BUFFER = 64 * 1024
"""Bytes that wait in the process for a slow reader, after which its engine waits, too."""
_SEND_BUFFER = 256 * 1024
"""The same in the kernel, which would take 4 MiB."""


class _Parser(httptools.HttpRequestParser):
    """Declines every wish to go on in another protocol, as a server may.

    Java's HTTP client wishes for HTTP/2 in each request without TLS. What comes after such a head is
    no HTTP/1.1 to the parser: the body would be lost, and the request told to have none.
    """

    def __init__(self, protocol: "GuardedProtocol") -> None:
        super().__init__(protocol)
        self._protocol = protocol

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # bytes are what a transport has
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                if self.get_method() == b"CONNECT":
                    raise
                data = self._protocol.plain_head() + data[wish.args[0] :]
            else:
                return


class GuardedProtocol(HttpToolsProtocol):
    """One connection, with limits."""

    _timer: asyncio.TimerHandle | None = None
    _head = 0
    _departed: Callable[[], None] | None = None
    """What is to be called when the client leaves."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as theirs
        super().connection_made(transport)
        self.parser = _Parser(self)
        self.transport = self._outlet = Outlet(transport)
        transport.set_write_buffer_limits(_WRITE_BUFFER)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            _harden(connection)
        self._timer = self.loop.call_later(_HEADER_TIMEOUT, self._expire)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0
        if self._timer is None:
            self._timer = self.loop.call_later(_HEADER_TIMEOUT, self._expire)

    def on_headers_complete(self) -> None:
        self._disarm()
        if self._wishes():
            return
        self.scope["extensions"] = {
            ABORT: {"call": self.transport.abort},
            DEPARTURE: {"tell": self._tell_departure, "forget": self._forget},
            PUSH: {"flow": self.flow, "call": self._push},
        }
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._outlet.flush()
        super().on_response_complete()

    def on_message_complete(self) -> None:
        if not self._wishes():
            super().on_message_complete()

    def _wishes(self) -> bool:
        """Whether this head asks for another protocol. Then it is read again without that."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def plain_head(self) -> bytes:
        """The head that was read last, as if it wished for nothing."""
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._timer is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > _MAX_HEADER:
                self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        if self._departed is not None:
            self._departed()

    def _tell_departure(self, departed: Callable[[], None]) -> None:
        self._departed = departed
        if self.transport.is_closing():
            departed()

    def _forget(self, departed: Callable[[], None]) -> None:
        if self._departed == departed:  # and not that of the next request
            self._departed = None

    def _push(self, piece: bytes) -> None:
        """What a cycle's `send` does with a piece of a body that has no length, as long as writing is not
        paused."""
        self._outlet.push(b"%x\r\n%b\r\n" % (len(piece), piece))

    def _expire(self) -> None:
        if self._timer is not None:
            self._timer = None
            self.transport.close()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _harden(connection: socket.socket) -> None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    for name, value in (
        ("TCP_KEEPIDLE", 20),
        ("TCP_KEEPINTVL", 10),
        ("TCP_KEEPCNT", 4),
    ):
        option = getattr(socket, name, None)  # not on every platform
        if option is not None:
            connection.setsockopt(socket.IPPROTO_TCP, option, value)


class GatewayServer(uvicorn.Server):
    """Goes on with the streams that are open when it is told to stop, for as long as settings say."""

    def __init__(self, app: Starlette, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=GuardedProtocol,
            loop="uvloop",
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=65,
            timeout_graceful_shutdown=round(settings.drain) + 5,
        )
        super().__init__(config)
        self._service: Service = app.state.service
        self._drain = settings.drain
        self.listening = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._watch = asyncio.create_task(give_up(self._transports))
            self.listening.set()

    def _transports(self) -> Iterator[asyncio.Transport]:
        for connection in self.server_state.connections:
            if isinstance(connection, GuardedProtocol):
                yield connection.transport

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._service.calls.drain(self._drain)
        await super().shutdown(sockets)
        if self._watch is not None:
            self._watch.cancel()
        logs.flush()  # uvicorn lets the signal that stopped it end the process
