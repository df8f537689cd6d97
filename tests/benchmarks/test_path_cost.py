"""What a chunk costs, counted and not timed: it is the same on every machine, however busy.

Python's own instructions are counted, and memory blocks that are still held. Whoever makes the path
dearer sees it here, and writes down the new figure if it is worth it; whoever makes it cheaper, too.
"""

import asyncio
import gc
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from tests.benchmarks.path import PATHS, reads

# Instructions a chunk, of Python 3.11: a path, and how many chunks a read holds.
COSTS = {
    ("translate", 1): 226,
    ("translate", 20): 108,
    ("deliver", 1): 418,
    ("deliver", 20): 154,
    ("pass on", 1): 272,
    ("pass on", 20): 136,
}
EXACT = sys.version_info[:2] == (3, 11)
ALLOWED = 0.1 if EXACT else 0.5
"""Other versions have other instructions."""


def instructions(work: Callable[[], object]) -> int:
    count = 0

    def follow(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return follow

    before = sys.gettrace()
    gc.disable()
    sys.settrace(follow)
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def cost(path: str, each: int, chunks: int) -> float:
    """Of a chunk, without what an answer costs besides."""
    few, many = reads(chunks, each), reads(2 * chunks, each)
    work = PATHS[path]
    work(few)  # fills caches
    return (instructions(lambda: work(many)) - instructions(lambda: work(few))) / chunks


@pytest.mark.parametrize(("path", "each"), COSTS, ids=lambda value: str(value))
async def test_a_chunk_costs_what_is_written_here(path: str, each: int) -> None:
    measured, expected = cost(path, each, 200), COSTS[path, each]
    assert measured == pytest.approx(expected, rel=ALLOWED), (
        f"{path}, {each} a read: {measured:.0f} instructions a chunk instead of {expected}"
    )


@pytest.mark.parametrize("path", PATHS)
async def test_a_chunk_costs_the_same_wherever_it_stands(path: str) -> None:
    assert cost(path, 1, 800) == pytest.approx(cost(path, 1, 100), rel=0.02)


@pytest.mark.parametrize("path", PATHS)
async def test_what_was_sent_is_not_kept(path: str) -> None:
    work, few, many = PATHS[path], reads(100, 1), reads(2000, 1)
    work(many)

    def held(received: list[bytes]) -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        made = work(received)
        gc.collect()
        held = sys.getallocatedblocks() - before
        assert made
        return held

    assert held(many) - held(few) < 100


@pytest.mark.parametrize("path", PATHS)
async def test_the_path_is_the_one_that_answers_take(path: str) -> None:
    """Or its cost would be nobody's."""
    assert asyncio.get_running_loop().is_running()
    sent = PATHS[path](reads(3, 2))
    assert [sent.count(b"w%d " % number) for number in range(3)] == [1, 1, 1]
    assert sent.endswith(b"data: [DONE]\n\n")
