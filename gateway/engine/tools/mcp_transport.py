"""Connections to MCP servers, a child process or streamable HTTP, that say when they have ended."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import TracebackType
from typing import Generic, Protocol, Self, TextIO, TypeAlias, TypeVar

import anyio
import httpx2
from mcp import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

_CONNECT = 10.0
_SILENCE = 300.0
"""Seconds that a response may be silent. Calls have time limits of their own."""
_LINES = 20
_LONGEST_LINE = 500
_AT_ONCE = 64 * 1024
"""Bytes: as much as a pipe holds."""


class Reading(Protocol[T_co]):
    """What the SDK's session reads from."""

    async def receive(self) -> T_co: ...
    async def aclose(self) -> None: ...
    def __aiter__(self) -> "Reading[T_co]": ...
    async def __anext__(self) -> T_co: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> bool | None: ...


class Writing(Protocol[T_contra]):
    """What it writes to."""

    async def send(self, item: T_contra, /) -> None: ...
    async def aclose(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> bool | None: ...


Streams: TypeAlias = tuple[Reading[SessionMessage | Exception], Writing[SessionMessage]]


class _Watched(Generic[T]):
    """The same stream, and word of its end: otherwise a dead server is noticed by the next call."""

    def __init__(self, inner: Reading[T], ended: Callable[[], None]) -> None:
        self._inner = inner
        self._ended = ended

    async def receive(self) -> T:
        try:
            return await self._inner.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._ended()
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._inner.__anext__()
        except (StopAsyncIteration, anyio.ClosedResourceError):
            self._ended()
            raise

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> bool | None:
        return await self._inner.__aexit__(kind, error, trace)


@asynccontextmanager
async def child(
    server: StdioServerParameters, said: deque[str], ended: Callable[[], None]
) -> AsyncGenerator[Streams, None]:
    """A server that is a process of ours. The last lines that it writes to stderr are kept in `said`."""
    with _kept(said) as sink:
        async with stdio_client(server, errlog=sink) as (read, write):
            sink.close()  # the child has its own, whose end is the end
            yield _Watched(read, ended), write


@contextmanager
def _kept(said: deque[str]) -> Iterator[TextIO]:
    """A file for a child to write to.

    No transport reads it: one of uvloop closes the descriptor that its file closes as well, and by
    then it may be another's, the database's for example.
    """
    loop = asyncio.get_running_loop()
    out, in_ = os.pipe()
    with os.fdopen(out, "rb", buffering=0) as source, os.fdopen(in_, "w") as sink:
        os.set_blocking(out, False)
        lines = _Lines(said)

        def read() -> None:
            data = source.read(_AT_ONCE)
            if data:
                lines.add(data)
            elif data is not None:  # its end; None is nothing for now
                loop.remove_reader(out)

        loop.add_reader(out, read)
        try:
            yield sink
        finally:
            loop.remove_reader(out)
            read()  # what it said at last


class _Lines:
    """Keeps the last lines of a stream, and little of each."""

    def __init__(self, kept: deque[str]) -> None:
        self._kept = kept
        self._rest = b""

    def add(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:_LONGEST_LINE]
        for line in lines[-_LINES:]:
            if text := line[:_LONGEST_LINE].decode("utf-8", "replace").strip():
                self._kept.append(text)
        while len(self._kept) > _LINES:
            self._kept.popleft()


@asynccontextmanager
async def http(
    url: str, headers: Mapping[str, str], said: deque[str], ended: Callable[[], None]
) -> AsyncGenerator[Streams, None]:
    """A server elsewhere. Follows redirects within its origin only, and no proxy of the environment.
    The last status that refuses something is kept in `said`, since the SDK does not tell it."""

    async def hear(response: httpx2.Response) -> None:
        if response.status_code >= 400 and response.request.method == "POST":
            said.append(f"{response.status_code} {response.reason_phrase}")
            while len(said) > _LINES:
                said.popleft()

    timeout = httpx2.Timeout(_CONNECT, read=_SILENCE)
    async with (
        httpx2.AsyncClient(
            headers=dict(headers),
            timeout=timeout,
            trust_env=False,
            event_hooks={"response": [hear]},
        ) as client,
        streamable_http_client(url, http_client=client) as (read, write),
    ):
        yield _Watched(read, ended), write
