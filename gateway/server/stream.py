"""The response of a streamed call."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Protocol, TypedDict

from sse_starlette.sse import AppStatus, EventSourceResponse
from starlette.types import Message, Receive, Scope, Send

from gateway.lane import Lane, divert
from gateway.sse import HEARTBEAT

log = logging.getLogger(__name__)

# On SIGTERM the library would cut every stream. Calls are ended one by one instead, with an error that
# their clients see (`gateway.server.calls`).
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # theirs is untyped

ABORT = "sluice.abort"
"""An extension of the scope whose `call` closes the connection at once, with what was not sent yet."""

PUSH = "sluice.push"
"""An extension of the scope: `call` sends a piece of the body at once, three coroutines less for a chunk than
`send`. Only for a body without a length that has begun, and while `flow` is not `write_paused`: then the
client has to be waited for."""

_HEADERS = tuple(EventSourceResponse(iter(())).raw_headers)
"""Those that the library gives to every response. Making one of its own for each took 48 µs."""


class _Flow(Protocol):
    write_paused: bool


class _Dammed:
    write_paused = True


class _Push(TypedDict):
    flow: _Flow
    call: Callable[[bytes], None]


_CANNOT: _Push = {"flow": _Dammed(), "call": lambda piece: None}

_CLOSE_LOOK = 1.0
"""Seconds between looks at a client that is waited for."""


class CallStream:
    """Server-sent events with our heartbeat, which drops a client that does not read.

    The library's headers and guarantees, but not its way of sending: that takes four tasks for a
    response and a cancel scope for each chunk, a quarter of what a paced chunk cost. Here the task of
    the request sends, a chunk notes when it went, and one timer for the response looks at that when
    a limit could have passed. It also begins the response when no frame has come in good time, so
    that nobody has to wait for the first one in a task apart.
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        begin: Callable[[], Awaitable[Mapping[str, str]]],
        opening: bytes = b"",
        patience: float,
        heartbeat: float,
        send_timeout: float,
        drop: Callable[[], None],
        last: Callable[[], bool],
    ) -> None:
        """`begin` is told when the response begins, and gives its headers: with the first frame, or
        after `patience` seconds without one. What it raises instead is the end of the response; where no
        frame has come, somebody has to end `frames`, too. `opening` is sent before all frames. `drop` ends
        the request of a client that does not read. `last`: whether nothing may come after the frame that
        came."""
        self._frames = frames
        self._begin = begin
        self._opening = opening
        self._patience = patience
        self._drop = drop
        self._is_last = last
        self._heartbeat = heartbeat
        self._send_timeout = send_timeout
        self._begun = False
        self._early: asyncio.Task[None] | None = None
        """Begins the response before there is a frame."""
        self._sending = False
        self._since = 0.0
        """When the last frame was handed over, or began to wait for the client."""
        self._beat: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what `frames` does."""
        self._send = send
        extensions = scope.get("extensions", {})
        self._abort = extensions.get(ABORT)
        push: _Push = extensions.get(PUSH, _CANNOT)
        self._flow, self._push = push["flow"], push["call"]
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer = self._loop.call_later(self._patience, self._begin_early)
        frames = divert(self._frames, Lane(self._is_clear, self._take))
        ended = False
        try:
            async with aclosing(frames):
                async for frame in frames:
                    if not self._begun:
                        frame = await self._start() + frame
                    elif self._early is not None:
                        await self._early
                        self._early = None
                    if not self._is_clear():
                        await self._put_body(frame)
                    elif self._is_last():
                        # The end goes with it, in one packet, before the engine has closed. Only where
                        # nobody has to be waited for: to other servers than ours, a client that has all
                        # of it is gone.
                        await self._put_body(frame, more=False)
                        ended = True
                    else:
                        self._take(frame)
            if not ended:
                await self._finish()
        finally:
            self._timer.cancel()
            self._stop_beat()
            if self._early is not None:
                self._early.cancel()

    def _is_clear(self) -> bool:
        """Whether a frame may be sent at once."""
        return (
            self._begun
            and self._early is None
            and not self._sending
            and not self._flow.write_paused
        )

    def _take(self, frame: bytes) -> None:
        self._push(frame)
        self._since = self._loop.time()

    async def _finish(self) -> None:
        rest = b""
        if not self._begun:
            rest = await self._start()
        elif self._early is not None:
            await self._early
        await self._put_body(rest, more=False)

    async def _start(self) -> bytes:
        """Sends the headers. What goes first is left to the caller to send."""
        self._begun = True
        self._timer.cancel()
        given = await self._begin()
        self._since = self._loop.time()  # a silence before this is no reason for a heartbeat
        self._look()
        headers = [
            *_HEADERS,
            *((name.encode(), value.encode("latin-1")) for name, value in given.items()),
        ]
        await self._put({"type": "http.response.start", "status": 200, "headers": headers})
        return self._opening

    def _begin_early(self) -> None:
        self._early = self._loop.create_task(self._start_early())
        self._early.add_done_callback(_hear)

    async def _start_early(self) -> None:
        if self._begun:
            return
        if opening := await self._start():
            await self._put_body(opening)

    async def _put_body(self, piece: bytes, *, more: bool = True) -> None:
        await self._put({"type": "http.response.body", "body": piece, "more_body": more})

    async def _put(self, message: Message) -> None:
        self._stop_beat()
        if not self._sending:
            self._sending, self._since = True, self._loop.time()
        await self._send(message)
        self._sending = False

    def _stop_beat(self) -> None:
        """A heartbeat that still waits for its client need not go out: something else does. What the
        client was waited for so far counts all the same."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def _look(self) -> None:
        """Keep the limits, and look again when the next one could have passed."""
        now = self._loop.time()
        quiet = now - self._since
        if self._sending and quiet >= self._send_timeout:
            self._give_up()
            return
        if not self._sending and quiet >= self._heartbeat and not self._is_last():
            self._sending, self._since, quiet = True, now, 0.0
            self._beat = self._loop.create_task(self._send_heartbeat())
        if self._sending:
            wait = min(self._send_timeout - quiet, self._heartbeat, _CLOSE_LOOK)
        else:  # a wait for the client may begin at any time; who is silent at the end stays so
            silence = self._heartbeat - quiet
            wait = min(self._send_timeout, silence if silence > 0 else self._heartbeat)
        self._timer = self._loop.call_at(now + wait, self._look)

    async def _send_heartbeat(self) -> None:
        await self._send({"type": "http.response.body", "body": HEARTBEAT, "more_body": True})
        self._sending, self._beat = False, None

    def _give_up(self) -> None:
        log.info("client dropped: it read nothing for %g s", self._send_timeout)
        if self._abort is not None:
            self._abort["call"]()
        self._drop()


def _hear(early: asyncio.Task[None]) -> None:
    """What it raised is raised again where it is awaited, if it is."""
    if not early.cancelled():
        early.exception()
