"""What may go past those who wait, and what becomes of it on the way."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

import pytest

from gateway.lane import Lane, Stream, divert


async def numbers(closed: list[str], lane: Lane[int] | None) -> AsyncGenerator[int, None]:
    """Puts even ones into the lane, where there is a clear one, and yields the others."""
    try:
        for number in range(4):
            if number % 2 == 0 and lane is not None and lane.is_clear():
                lane.put(number)
            else:
                yield number
    finally:
        closed.append("numbers")


def counting(closed: list[str] | None = None) -> Stream[int]:
    return Stream(partial(numbers, [] if closed is None else closed))


async def test_an_item_goes_through_every_step_in_their_order() -> None:
    heard: list[str] = []
    lane = Lane[str](lambda: True, heard.append).after(lambda text: f"{text}!").after(str)
    lane.put(7)
    assert heard == ["7!"]


async def test_what_a_step_makes_nothing_of_goes_no_further() -> None:
    heard: list[bytes] = []
    lane = Lane[bytes](lambda: True, heard.append).after(lambda batch: b"".join(batch))
    lane.put([])
    lane.put([b"a"])
    assert heard == [b"a"]


async def test_without_a_lane_everything_is_yielded() -> None:
    assert [number async for number in counting()] == [0, 1, 2, 3]


async def test_with_a_lane_items_go_there_and_the_others_are_yielded() -> None:
    taken: list[int] = []
    items = divert(counting(), Lane(lambda: True, taken.append))
    assert [number async for number in items] == [1, 3]
    assert taken == [0, 2]


async def test_a_lane_that_is_not_clear_takes_nothing() -> None:
    taken: list[int] = []
    items = divert(counting(), Lane(lambda: False, taken.append))
    assert [number async for number in items] == [0, 1, 2, 3]
    assert taken == []


async def test_a_generator_that_knows_of_no_lane_goes_on_without() -> None:
    async def plain() -> AsyncGenerator[int, None]:
        yield 1

    taken: list[int] = []
    items = divert(plain(), Lane(lambda: True, taken.append))
    assert [number async for number in items] == [1]
    assert taken == []


async def test_to_close_a_stream_is_to_close_its_generator() -> None:
    for lane in (None, Lane[int](lambda: True, lambda number: None)):
        closed: list[str] = []
        stream = counting(closed)
        async with aclosing(divert(stream, lane)) as items:
            assert await anext(items) == (0 if lane is None else 1)
        assert closed == ["numbers"]
        assert [number async for number in items] == []
        assert [number async for number in stream] == []


async def test_a_stream_may_be_closed_before_it_begins() -> None:
    closed: list[str] = []
    stream = counting(closed)
    await stream.aclose()
    assert [number async for number in stream] == []
    assert closed == []


async def test_an_error_is_thrown_into_the_generator() -> None:
    closed: list[str] = []
    items = counting(closed)
    assert await items.asend(None) == 0
    with pytest.raises(ValueError, match="no"):
        await items.athrow(ValueError("no"))
    assert closed == ["numbers"]
