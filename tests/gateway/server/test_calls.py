import asyncio
import re
import time
from datetime import UTC, datetime
from uuid import RFC_4122, UUID

import pytest

from gateway.events import Complete, Delta, StepStart, Usage
from gateway.ports import Batch
from gateway.records import UsageRow
from gateway.server.account import CLIENT_GONE, Account
from gateway.server.calls import Calls, LiveCall, new_id
from gateway.server.interceptors.meter import Meter
from gateway.server.pipeline import Delivery, seal
from gateway.server.prices import Prices
from tests.samples import a_call
from tests.scripted_model import Part, ScriptedModel, until


class Book:
    """A ledger that keeps what it is handed."""

    def __init__(self) -> None:
        self.opened: list[UsageRow] = []
        self.checkpoints: list[UsageRow] = []
        self.settled: list[UsageRow] = []

    def open(self, row: UsageRow, /) -> asyncio.Future[None]:
        self.opened.append(row)
        opening = asyncio.get_running_loop().create_future()
        opening.set_result(None)
        return opening

    def checkpoint(self, row: UsageRow, /) -> None:
        self.checkpoints.append(row)

    def settle(self, row: UsageRow, /) -> None:
        self.settled.append(row)


def _live(book: Book, *script: Part) -> LiveCall:
    row = UsageRow(
        id=new_id(), started_at=datetime.now(UTC), key_id="key_1", email="a@b.example", type="chat"
    )
    meter = Meter(lambda: 10)
    account = Account(row, meter, book, Prices({}))  # type: ignore[arg-type]  # only what a call needs
    call = a_call()
    events = seal(ScriptedModel(script).stream(call.request), [meter])

    def note(error: object) -> None:
        meter.end = error  # type: ignore[assignment]  # an Error

    return LiveCall(account, Delivery(events, note))


def test_an_id_is_a_uuid_of_version_7() -> None:
    for _ in range(1000):
        text = new_id()
        value = UUID(text)
        assert str(value) == text
        assert (value.version, value.variant) == (7, RFC_4122)


def test_an_id_tells_its_time_and_sorts_by_it() -> None:
    before = time.time_ns() // 1_000_000
    ids = []
    for _ in range(5):
        ids.append(new_id())
        time.sleep(0.002)
    after = time.time_ns() // 1_000_000
    assert ids == sorted(ids)
    assert all(before <= UUID(text).int >> 80 <= after for text in ids)


def test_ids_are_not_guessed_and_not_met_twice() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert len(set(ids)) == len(ids)
    assert len({re.sub("-", "", text)[13:] for text in ids}) == len(ids)


async def test_a_call_is_settled_on_every_way_out() -> None:
    for error in (None, ValueError(), asyncio.CancelledError()):
        book, calls = Book(), Calls()
        live = _live(book)
        try:
            with calls.track(live):
                assert len(calls) == 1
                assert not await calls.wait_until_empty(0.01)
                if error is not None:
                    raise error
        except BaseException as caught:
            if caught is not error:
                raise
        assert len(calls) == 0
        assert await calls.wait_until_empty(0.01)
        assert [row.status for row in book.settled] == ["cancelled"]
        assert book.settled[0].http_status == CLIENT_GONE


async def test_a_call_that_was_settled_already_is_not_settled_again() -> None:
    book, calls = Book(), Calls()
    live = _live(book, [Delta("Hi"), Complete(usage=Usage(3, 1))])
    with calls.track(live):
        await live.delivery.collect()
        live.account.delivered = True
        live.account.http_status = 200
        row = live.account.settle()
    assert book.settled == [row]
    assert (row.status, row.http_status, row.usage) == ("ok", 200, Usage(3, 1))
    assert live.account.settle() == row


async def test_open_calls_are_counted_until_the_last_one_ends() -> None:
    book, calls = Book(), Calls()
    first, second = _live(book), _live(book)
    with calls.track(first):
        with calls.track(second):
            assert len(calls) == 2
        assert len(calls) == 1
        assert not await calls.wait_until_empty(0.01)
    assert await calls.wait_until_empty(0.01)


STEP = StepStart(1, "m", "demo")


async def test_an_interruption_ends_every_call_with_an_error_that_is_told() -> None:
    book, calls = Book(), Calls()

    async def serve(live: LiveCall) -> str | None:
        with calls.track(live):
            outcome = await live.delivery.collect()
            return getattr(outcome.end, "code", None)

    lives = [_live(book, [STEP, Delta("Hi")], 60.0) for _ in range(3)]
    tasks = [asyncio.create_task(serve(live)) for live in lives]
    await until(lambda: all(live.account.meter.step is not None for live in lives))
    calls.interrupt()
    assert calls.draining
    async with asyncio.timeout(5):
        assert await asyncio.gather(*tasks) == ["server_is_shutting_down"] * 3
    assert await calls.wait_until_empty(1)
    assert {row.status for row in book.settled} == {"error"}
    assert {row.error_code for row in book.settled} == {"server_is_shutting_down"}
    assert {row.usage.output_tokens for row in book.settled} == {1}


async def test_draining_lets_calls_go_on_for_a_while() -> None:
    book, calls = Book(), Calls()
    quick, endless = _live(book, [STEP], 0.05, [Complete()]), _live(book, [STEP], 60.0)

    async def serve(live: LiveCall) -> object:
        with calls.track(live):
            return (await live.delivery.collect()).end

    tasks = [asyncio.create_task(serve(live)) for live in (quick, endless)]
    await until(lambda: len(calls) == 2)
    calls.drain(0.4)
    calls.drain(0.0)
    assert calls.draining
    ended, cut = await asyncio.gather(*tasks)
    assert isinstance(ended, Complete)
    assert getattr(cut, "status", None) == 503


async def test_checkpoints_hand_over_what_open_rows_count_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.server.calls.CHECKPOINT", 0.01)
    book, calls = Book(), Calls()
    go_on = asyncio.Event()
    script: list[Batch | asyncio.Event | float] = [[STEP, Delta("Hi")], go_on, [Delta("you")], 60.0]
    live = _live(book, *script)
    checkpoints = asyncio.create_task(calls.checkpoint())
    with calls.track(live):
        reading = asyncio.create_task(live.delivery.collect())
        await until(lambda: any(row.usage.output_tokens == 1 for row in book.checkpoints))
        go_on.set()
        await until(lambda: any(row.usage.output_tokens == 2 for row in book.checkpoints))
        reading.cancel()
        await asyncio.wait((reading,))
    checkpoints.cancel()
    assert [row.status for row in book.checkpoints] == ["open"] * len(book.checkpoints)
    counts = [row.usage.output_tokens for row in book.checkpoints]
    assert counts == sorted(set(counts)), "what did not change is not written again"
    assert [row.status for row in book.settled] == ["cancelled"]


async def test_a_checkpoint_counts_no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vocabulary would take longer than all else that the streams do in these seconds."""

    def count(text: str) -> int:
        raise AssertionError("counted")

    monkeypatch.setattr("gateway.server.tokens.count", count)
    book = Book()
    live = _live(book)
    live.account.meter.take([STEP, Delta("A text of forty bytes, which is ten tokens.")])
    live.account.checkpoint()
    assert [row.usage.output_tokens for row in book.checkpoints] == [10]


async def test_a_settled_row_is_never_checkpointed() -> None:
    book = Book()
    live = _live(book)
    live.account.checkpoint()
    live.account.settle()
    live.account.meter.step = STEP
    live.account.checkpoint()
    assert len(book.checkpoints) == 1
