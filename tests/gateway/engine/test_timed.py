import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.engine.limits import TimeLimits
from gateway.engine.timed import Timed
from gateway.errors import ProviderTimedOut, ProviderTruncated
from gateway.events import Complete, Delta
from gateway.ports import Batch
from tests.samples import drain
from tests.scripted_model import Part, ScriptedModel, until

ONE, END = (Delta("one"),), (Complete(),)
LONG = 30.0


def _limited(
    limits: TimeLimits, *script: Part
) -> tuple[ScriptedModel, AsyncGenerator[Batch, None]]:
    model = ScriptedModel(script)
    timed = Timed(limits, "acme", model.stream(None))  # type: ignore[arg-type]  # not looked at
    return model, _batches(timed)


async def _batches(timed: Timed) -> AsyncGenerator[Batch, None]:
    async with timed:
        async for batch in timed:
            timed.got()
            yield batch


@pytest.mark.parametrize(
    ("limits", "script", "message"),
    [
        pytest.param(
            TimeLimits(first_event=0.05),
            (LONG, ONE),
            "The provider 'acme' did not begin to answer within 0.05 s.",
            id="nothing at all",
        ),
        pytest.param(
            TimeLimits(idle=0.05),
            (ONE, LONG, END),
            "The provider 'acme' sent nothing for 0.05 s.",
            id="silence after the first event",
        ),
        pytest.param(
            TimeLimits(total=0.1),
            (*(part for _ in range(100) for part in (ONE, 0.02)), END),
            "The provider 'acme' did not finish within 0.1 s.",
            id="an answer without end",
        ),
        pytest.param(
            TimeLimits(first_event=LONG, total=0.05),
            (LONG, ONE),
            "The provider 'acme' did not finish within 0.05 s.",
            id="nothing at all, and the whole is limited more",
        ),
    ],
)
async def test_a_provider_that_breaks_a_limit_times_out(
    limits: TimeLimits, script: tuple[Part, ...], message: str
) -> None:
    model, events = _limited(limits, *script)
    with pytest.raises(ProviderTimedOut) as caught:
        await drain(events)
    assert caught.value.message == message
    assert caught.value.status == 504
    assert caught.value.retryable
    assert model.open == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_answer_within_its_limits_passes_unchanged() -> None:
    _, events = _limited(TimeLimits(first_event=5, idle=5, total=5), ONE, 0.01, ONE, END)
    assert [batch async for batch in events] == [ONE, ONE, END]


async def test_the_first_event_has_a_limit_of_its_own_and_idle_begins_after_it() -> None:
    _, events = _limited(TimeLimits(first_event=5, idle=0.1), 0.3, ONE, END)
    assert await drain(events) == [*ONE, *END]


async def test_a_slow_consumer_is_not_the_providers_fault() -> None:
    _, events = _limited(TimeLimits(first_event=0.05, idle=0.05, total=0.1), ONE, ONE, END)
    seen = []
    async for batch in events:
        await asyncio.sleep(0.2)
        seen.append(batch)
    assert seen == [ONE, ONE, END]


async def test_a_provider_is_still_watched_after_its_consumer_was_slow() -> None:
    _, events = _limited(TimeLimits(idle=0.05), ONE, LONG, END)
    async with aclosing(events):
        assert await anext(events) == ONE
        await asyncio.sleep(0.2)
        with pytest.raises(ProviderTimedOut, match=r"sent nothing for 0\.05 s"):
            await anext(events)


async def test_cancellation_from_outside_is_not_swallowed() -> None:
    model, events = _limited(TimeLimits(), LONG, ONE)
    task = asyncio.create_task(drain(events))
    await until(lambda: model.open == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.open == 0


async def test_cancellation_from_outside_in_the_moment_of_a_timeout_is_not_swallowed() -> None:
    model, events = _limited(TimeLimits(first_event=0.05), LONG, ONE)
    task = asyncio.create_task(drain(events))
    await until(lambda: model.open == 1)
    cancel = task.cancel
    # The watch cancels the task that waits; whoever leaves does so in the same moment.
    task.cancel = lambda msg=None: cancel() and cancel()  # type: ignore[method-assign,misc]
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.open == 0


async def test_an_error_of_the_provider_passes() -> None:
    model, events = _limited(TimeLimits(), ONE, ProviderTruncated("cut"))
    with pytest.raises(ProviderTruncated, match="cut"):
        await drain(events)
    assert model.open == 0


async def test_closing_it_closes_the_provider() -> None:
    model, events = _limited(TimeLimits(), ONE, LONG)
    assert await anext(events) == ONE
    assert model.open == 1
    await events.aclose()
    assert model.open == 0


async def test_batches_may_be_awaited_by_different_tasks() -> None:
    model, events = _limited(TimeLimits(idle=0.05), ONE, LONG)
    assert await asyncio.create_task(anext(events)) == ONE  # type: ignore[arg-type]  # an awaitable
    with pytest.raises(ProviderTimedOut):
        await asyncio.ensure_future(anext(events))
    assert model.open == 0
