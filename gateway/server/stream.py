"""The response of a streamed call."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping

import anyio
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.types import Message, Receive, Scope, Send

from gateway.sse import HEARTBEAT

log = logging.getLogger(__name__)

# The library would log every chunk, with the answer's text, at this level.
logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)

# On SIGTERM the library would cut every stream. Calls are ended one by one instead, with an error that
# their clients see (`gateway.server.calls`).
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # theirs is untyped

ABORT = "sluice.abort"
"""An extension of the scope whose `call` closes the connection at once, with what was not sent yet."""


class CallStream(EventSourceResponse):
    """Server-sent events with our heartbeat, which drops a client that does not read."""

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        headers: Mapping[str, str],
        heartbeat: float,
        send_timeout: float,
        on_disconnect: Callable[[], None],
        finished: Callable[[], bool],
    ) -> None:
        """`finished`: whether the last frame is out, after which nothing may come."""
        self._finished = finished

        async def tell(message: Message) -> None:
            on_disconnect()

        super().__init__(
            frames,
            headers=headers,
            ping=heartbeat,
            sep="\n",
            send_timeout=send_timeout,
            client_close_handler_callable=tell,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("client dropped: it read nothing for %g s", self.send_timeout or 0)
            abort = scope.get("extensions", {}).get(ABORT)
            if abort is not None:
                abort["call"]()

    async def _ping(self, send: Send) -> None:
        """As the library's, but without an empty line: some clients take that for an event."""
        message = {"type": "http.response.body", "body": HEARTBEAT, "more_body": True}
        while self.active:
            await anyio.sleep(self.ping_interval)
            async with self._send_lock:
                if self.active and not self._finished():
                    await self._send_with_timeout(send, message)
