"""A stream that is not ours, iterated in a task of its own.

Frameworks of agents hold tasks and cancel scopes across their events. They want to be iterated and
closed by one and the same task, and to finish what they do when they are cancelled. The tasks that
serve a call give them neither: the first event is awaited in another one than the rest, and when a
client leaves, everything that is awaited from then on is cancelled again and again.
"""

import asyncio
import logging
from contextlib import aclosing

from gateway.ports import Batch, Events

log = logging.getLogger(__name__)

_PATIENCE = 3.0
"""Seconds to wait for the end of a stream that is closed. Then it ends by itself, or never."""

_closing: set[asyncio.Task[None]] = set()
"""Kept until they are done: the loop itself forgets tasks that nobody holds."""


async def apart(events: Events) -> Events:
    """The same events, one batch for each that is asked for."""
    wanted = asyncio.Semaphore(0)
    heard: asyncio.Queue[Batch | None] = asyncio.Queue()
    task = asyncio.create_task(_iterate(events, wanted, heard))
    task.add_done_callback(lambda _: heard.put_nowait(None))
    try:
        while True:
            wanted.release()
            batch = await heard.get()
            if batch is None:
                break
            yield batch
    finally:
        if not task.done():
            await _stop(task)
        elif not task.cancelled():
            task.exception()  # taken note of, should nobody ask any more
    task.result()  # or what was raised


async def _iterate(
    events: Events, wanted: asyncio.Semaphore, heard: asyncio.Queue[Batch | None]
) -> None:
    async with aclosing(events):
        await wanted.acquire()
        async for batch in events:
            heard.put_nowait(batch)
            await wanted.acquire()


async def _stop(task: asyncio.Task[None]) -> None:
    _closing.add(task)
    task.add_done_callback(_forget)
    task.cancel()
    await asyncio.wait((task,), timeout=_PATIENCE)
    if not task.done():
        log.warning("an engine does not stop")


def _forget(task: asyncio.Task[None]) -> None:
    _closing.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the engine failed while it was closed", exc_info=error)
