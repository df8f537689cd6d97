"""An upstream that does what a script says, byte by byte: the failures that no real server performs
on demand."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import orjson

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSED = HEAD + b"connection: close\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def sized(length: int) -> bytes:
    return HEAD + b"content-length: %d\r\n\r\n" % length


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


def frames(*payloads: object) -> bytes:
    """Server-sent events; bytes are taken as they are."""
    return b"".join(
        b"data: %s\n\n" % (load if isinstance(load, bytes) else orjson.dumps(load))
        for load in payloads
    )


def answer(status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    given = {"content-type": "application/json", **dict(headers)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    head = f"HTTP/1.1 {status} Said\r\n{lines}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass
class Exchange:
    """One request as it came, and the connection to answer it on."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader = field(repr=False)
    writer: asyncio.StreamWriter = field(repr=False)

    @property
    def json(self) -> object:
        return orjson.loads(self.body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def dribble(self, data: bytes) -> None:
        """One byte in a packet."""
        self.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            await self.send(bytes([byte]))
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """Returns when the peer has closed the connection."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


Script: TypeAlias = Callable[[Exchange], Awaitable[None]]


class ScriptedUpstream:
    """Keeps a connection for the next request if the script leaves it open."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.open = 0
        self.idle = asyncio.Event()
        """Set while no connection is open."""
        self.url = ""
        self._news = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.idle.clear()
        try:
            while exchange := await self._receive(reader, writer):
                async with self._news:
                    self.exchanges.append(exchange)
                    self._news.notify_all()
                await self.script(exchange)
                if writer.is_closing():
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()
            writer.close()

    async def received(self, number: int) -> None:
        """Returns when so many requests have come."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.exchanges) >= number)

    async def _receive(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> Exchange | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value for name, _, value in (li.partition(": ") for li in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Exchange(method, path, headers, body, reader, writer)


@asynccontextmanager
async def scripted(script: Script) -> AsyncGenerator[ScriptedUpstream, None]:
    upstream = ScriptedUpstream(script)
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        task.add_done_callback(handlers.discard)
        await upstream.serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=1024)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


def replay(*parts: bytes, close: bool = False) -> Script:
    """A script that sends the same bytes to everyone."""

    async def script(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)
        if close:
            exchange.writer.close()

    return script
