"""The short way of text: from a provider's socket to the client's, without waking anybody.

An answer is a chain of generators, and the task that delivers it waits for the outermost. To wake that
task, and all of the chain with it, was a third of what a piece of text cost, and all that they do then
is to hand it on. So whoever waits may open a lane, and whoever is waited for may put there what has come,
as long as it is `Delta`s and nothing else. Each part of the chain adds to the lane what it does with
text. Where one does not know of lanes, and where an item is no text, the long way is taken.

A lane knows nothing of the order. Put only while your own generator is what is waited for: not before its
first batch, and not while a batch that it yielded is on its way. What a step raises is to be raised from
the generator.
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
    """A generator that has not begun, and may be given a lane. Who knows of none iterates it as it is."""

    __slots__ = ("_items", "_run")

    def __init__(self, run: Callable[[Lane[T] | None], AsyncGenerator[T, None]]) -> None:
        """`run` makes the generator, which may put items into the lane instead of yielding them, while one
        is waited for."""
        self._run = run
        self._items: AsyncGenerator[T, None] | None = None

    def begin(self, lane: Lane[T] | None = None) -> AsyncGenerator[T, None]:
        """The generator itself, which is to be closed instead of this."""
        if self._items is None:
            self._items = self._run(lane)
        return self._items

    def __anext__(self) -> Coroutine[object, object, T]:
        return self.begin().__anext__()

    def asend(self, value: None, /) -> Coroutine[object, object, T]:
        return self.begin().asend(value)

    def athrow(self, *error: object) -> Coroutine[object, object, T]:
        return self.begin().athrow(*error)  # type: ignore[call-overload,no-any-return]  # as they came

    def aclose(self) -> Coroutine[object, object, None]:
        return self.begin().aclose()


def divert(items: AsyncGenerator[T, None], lane: Lane[T] | None) -> AsyncGenerator[T, None]:
    """What is to be iterated and closed in the place of `items`, of which some may go into the lane."""
    return items.begin(lane) if isinstance(items, Stream) else items
