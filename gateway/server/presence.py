"""Whether a call's client is still there. A server tells nobody that one left: somebody has to listen."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from starlette.types import Receive, Scope

from gateway.server.body import ClientGone

DEPARTURE = "sluice.departure"
"""An extension of the scope: `tell` takes what is to be called once the client is gone, `forget` takes
it back."""


class Presence:
    """A block that is cancelled when the client leaves, and raises `ClientGone` then.

    The request must have been read, and nothing may be waited for after the response's last byte: to
    a server, a client that has all of it is gone. The block runs in the task that enters it. Our own
    server tells who asks; with another one a second task has to listen, which costs a call 25 µs.
    """

    def __init__(
        self, scope: Scope, receive: Receive, on_departure: Callable[[], None] | None = None
    ) -> None:
        """`on_departure` is called first: who swallows a cancellation can still be told by it."""
        self._receive = receive
        self._server = scope.get("extensions", {}).get(DEPARTURE)
        self._watch: asyncio.Task[None] | None = None
        self._on_departure = on_departure
        self._gone = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a request has a task"
        self._task = task
        self._cancelled_before = task.cancelling()
        if self._server is None:
            self._watch = asyncio.create_task(self._listen())
        else:
            self._server["tell"](self.dismiss)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
        elif self._server is not None:
            self._server["forget"](self.dismiss)
        ours = self._gone and self._task.uncancel() <= self._cancelled_before
        if ours and kind is asyncio.CancelledError:
            raise ClientGone from None

    def dismiss(self) -> None:
        """As if the client had left."""
        if not self._gone:
            self._gone = True
            if self._on_departure is not None:
                self._on_departure()
            self._task.cancel()

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.dismiss()
