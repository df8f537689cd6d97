"""The short way of text: from a provider's socket to the client's, without waking anybody.

An answer is a chain of generators, and the task that delivers it waits for the outermost. To wake that
task, and all of the chain with it, was a third of what a piece of text cost, and all that they do then
is to hand it on. So whoever waits may open a lane, and whoever is waited for may put there what has come,
as long as it is `Delta`s and nothing else. Each part of the chain adds to the lane what it does with
text. Where one does not know of lanes, and where an item is no text, the long way is taken.
"""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


class Lane(Generic[T]):
    """A way for items that come while the next one is waited for."""

    __slots__ = ("_steps", "is_clear")

    def __init__(self, is_clear: Callable[[], bool], *steps: Callable[[Any], object]) -> None:
        """`is_clear`: whether an item may go it now. To be asked for each, immediately before it is put. Each
        step makes of an item what the next one takes, or something empty, which goes no further."""
        self.is_clear = is_clear
        self._steps = steps

    def after(self, step: Callable[[S], T]) -> "Lane[S]":
        """The lane for what becomes an item of this one by `step`."""
        return Lane(self.is_clear, step, *self._steps)

    def put(self, item: T) -> None:
        # One loop instead of a call within a call: half as many objects to be touched for a token.
        passed: object = item
        for step in self._steps:
            passed = step(passed)
            if not passed:
                return


class Stream(AsyncGenerator[T, None]):
    """A generator that may put items into `lane` instead of yielding them, while one is waited for."""

    __slots__ = ("_items", "lane")

    def __init__(self, run: Callable[["Stream[T]"], AsyncGenerator[T, None]]) -> None:
        """`run` is given this, and finds its `lane` as soon as it is iterated."""
        self.lane: Lane[T] | None = None
        self._items = run(self)

    def __anext__(self) -> Coroutine[object, object, T]:
        return self._items.__anext__()

    def asend(self, value: None, /) -> Coroutine[object, object, T]:
        return self._items.asend(value)

    def athrow(self, *error: object) -> Coroutine[object, object, T]:
        return self._items.athrow(*error)  # type: ignore[call-overload,no-any-return]  # as they came

    async def aclose(self) -> None:
        self.lane = None  # it leads back to whoever holds this
        await self._items.aclose()


def divert(items: AsyncGenerator[T, None], lane: Lane[T]) -> None:
    """Opens a lane to whoever is going to iterate `items`. To be called before that begins."""
    if isinstance(items, Stream):
        items.lane = lane
