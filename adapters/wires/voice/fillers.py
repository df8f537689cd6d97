"""A sentence for the silence in which a model thinks or a tool runs."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing

from gateway.events import Complete, Delta, Error, Event
from gateway.ports import Batch, Events, Interceptor
from gateway.records import Call

PAUSE = 10.0
"""Seconds from one to the next in a conversation, at least."""
_MOST_REMEMBERED = 10_000
_FLUSH = " <flush /> "
_ENDS = frozenset(".!?…:;。！？")


class Fillers:
    """The sentences in turn, for all calls of a wire."""

    def __init__(self, sentences: Sequence[str], after: float) -> None:
        """`after` is how many seconds of silence there have to be."""
        self._sentences = sentences
        self.after = after
        self._said: dict[tuple[str, str], float] = {}
        """When one was last said, by key and conversation."""
        self._count = 0

    def interceptor(self, flushes: bool) -> Interceptor:
        """Passes a stream on, and says something where it is silent. It has to stand outside of what is
        metered and stored: nobody pays for fillers, and nothing of them is kept."""

        async def fill(call: Call, events: Events) -> Events:
            silence = _Silence(self.after)
            async with aclosing(events):
                while not silence.over:
                    pending = asyncio.ensure_future(anext(events))
                    try:
                        while not await silence.ends(pending, self._due(call)):
                            if sentence := self._take(call):
                                yield (Delta(sentence + (_FLUSH if flushes else " ")),)
                        batch = await pending
                    finally:
                        if not pending.done():
                            pending.cancel()
                            await asyncio.wait((pending,))
                    for event in batch:
                        silence.hear(event)
                    yield batch

        return fill

    def _due(self, call: Call) -> float:
        """When the next one may be said in this conversation."""
        return self._said.get(_conversation(call), -PAUSE) + PAUSE

    def _take(self, call: Call) -> str | None:
        """A sentence, unless another call of the conversation has just said one."""
        now = time.monotonic()
        if now < self._due(call):
            return None
        if len(self._said) >= _MOST_REMEMBERED:
            self._said = {who: at for who, at in self._said.items() if now - at < PAUSE}
        self._said[_conversation(call)] = now
        self._count += 1
        return self._sentences[(self._count - 1) % len(self._sentences)]


class _Silence:
    """How long a stream has said nothing, and whether it may be filled."""

    def __init__(self, bearable: float) -> None:
        self._bearable = bearable
        self._since = time.monotonic()
        self._last = ""
        """The last character of the text."""
        self.over = False

    def hear(self, event: Event) -> None:
        match event:
            case Delta():
                self._since = time.monotonic()
                if text := event.text.rstrip():
                    self._last = text[-1]
            case Complete() | Error():
                self.over = True
            case _:
                pass

    async def ends(self, pending: "asyncio.Future[Batch]", due: float) -> bool:
        """Waits for what comes next: whether it is there, or it is time to fill. Within a sentence a
        model is given all the time that it takes."""
        timeout = None
        if not self._last or self._last in _ENDS:
            timeout = max(due, self._since + self._bearable, time.monotonic()) - time.monotonic()
        await asyncio.wait((pending,), timeout=timeout)
        return pending.done()


def _conversation(call: Call) -> tuple[str, str]:
    return call.key.id, call.request.conversation or call.id
