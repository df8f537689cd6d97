import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from gateway.engine import asking
from gateway.engine.asking import ask
from gateway.engine.limits import TimeLimits
from gateway.engine.router import Target, Upstream
from gateway.errors import (
    GatewayError,
    ProviderFailed,
    ProviderTimedOut,
    ProviderTruncated,
    ProviderUnreachable,
)
from gateway.events import Complete, Delta
from tests.samples import a_request, drain
from tests.scripted_model import Part, ScriptedModel, says, until

BUSY = ProviderFailed("busy", status=503, retry_after=0.001)
WRONG = ProviderFailed("wrong", status=400)


def _target(model: ScriptedModel, *, retries: int = 0, limits: TimeLimits | None = None) -> Target:
    upstream = Upstream(provider=model, retries=retries, limits=limits or TimeLimits())
    return Target(upstream, f"{model.name}-1")


async def _answer(targets: Sequence[Target]) -> tuple[str, list[object]]:
    target, batch, rest = await ask(targets, a_request())
    async with aclosing(rest):
        return target.upstream.provider.name, [*batch, *await drain(rest)]


async def test_the_provider_is_asked_for_its_own_name_of_the_model() -> None:
    model = ScriptedModel(says("hi"))
    assert await _answer([_target(model)]) == (
        "scripted",
        [event for b in says("hi") for event in b],
    )
    assert [request.model for request in model.requests] == ["scripted-1"]


async def test_a_failure_that_may_pass_is_tried_again() -> None:
    model = ScriptedModel((BUSY,), (BUSY,), says("third time"))
    _, events = await _answer([_target(model, retries=2)])
    assert events[0] == Delta("third time")
    assert len(model.requests) == 3
    assert model.open == 0


async def test_attempts_come_to_an_end() -> None:
    model = ScriptedModel((BUSY,))
    with pytest.raises(ProviderFailed) as caught:
        await ask([_target(model, retries=2)], a_request())
    assert caught.value is BUSY
    assert len(model.requests) == 3


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(WRONG, id="the request is at fault"),
        pytest.param(ProviderFailed("no", status=500, retryable=False), id="said to be final"),
        pytest.param(GatewayError("ours"), id="not a provider's"),
    ],
)
async def test_a_final_failure_is_neither_tried_again_nor_elsewhere(error: GatewayError) -> None:
    first, second = ScriptedModel((error,)), ScriptedModel(says("hi"))
    with pytest.raises(GatewayError) as caught:
        await ask([_target(first, retries=3), _target(second)], a_request())
    assert caught.value is error
    assert len(first.requests) == 1
    assert not second.requests


async def test_nothing_is_tried_again_once_something_was_seen() -> None:
    first = ScriptedModel([(Delta("half"),), ProviderUnreachable("gone")])
    second = ScriptedModel(says("other"))
    target, batch, rest = await ask([_target(first, retries=3), _target(second)], a_request())
    assert (target.upstream.provider, batch) == (first, (Delta("half"),))
    with pytest.raises(ProviderUnreachable):
        await drain(rest)
    assert len(first.requests) == 1
    assert not second.requests


async def test_targets_are_asked_in_order_until_one_answers() -> None:
    names = ("a", "b", "c", "d")
    models = [ScriptedModel((BUSY,), name=name) for name in names[:2]]
    models += [ScriptedModel(says("hi"), name=name) for name in names[2:]]
    name, _ = await _answer([_target(model, retries=1) for model in models])
    assert name == "c"
    assert [len(model.requests) for model in models] == [2, 2, 1, 0]


async def test_the_last_targets_error_is_told_when_all_failed() -> None:
    last = ProviderUnreachable("the last")
    models = [ScriptedModel((BUSY,)), ScriptedModel((last,))]
    with pytest.raises(ProviderUnreachable, match="the last"):
        await ask([_target(model) for model in models], a_request())


async def test_a_provider_that_asks_for_a_long_pause_gets_no_further_request() -> None:
    patient = ProviderFailed("later", status=429, retry_after=asking.LONGEST_PAUSE + 1)
    model, other = ScriptedModel((patient,)), ScriptedModel(says("hi"), name="other")
    with pytest.raises(ProviderFailed) as caught:
        await ask([_target(model, retries=3)], a_request())
    assert caught.value is patient
    assert len(model.requests) == 1
    name, _ = await _answer([_target(model, retries=3), _target(other)])
    assert name == "other"


async def test_the_pause_that_a_provider_asks_for_is_kept() -> None:
    loop = asyncio.get_running_loop()
    model = ScriptedModel((ProviderFailed("soon", status=429, retry_after=0.2),), says("hi"))
    started = loop.time()
    await _answer([_target(model, retries=1)])
    assert loop.time() - started >= 0.2


async def test_a_stream_that_ends_before_it_began_is_truncated_and_tried_again() -> None:
    empty: tuple[Part, ...] = ()
    model = ScriptedModel(empty)
    with pytest.raises(ProviderTruncated, match="'scripted' ended without an answer"):
        await ask([_target(model)], a_request())
    again = ScriptedModel(empty, says("hi"))
    _, events = await _answer([_target(again, retries=1)])
    assert isinstance(events[-1], Complete)


async def test_a_provider_that_does_not_begin_is_given_up_for_the_next() -> None:
    slow, fast = ScriptedModel((30.0,)), ScriptedModel(says("hi"), name="fast")
    name, _ = await _answer([_target(slow, limits=TimeLimits(first_event=0.05)), _target(fast)])
    assert name == "fast"
    assert slow.open == 0
    with pytest.raises(ProviderTimedOut):
        await ask([_target(slow, limits=TimeLimits(first_event=0.05))], a_request())


async def test_cancelling_the_wait_for_an_answer_closes_the_provider() -> None:
    model = ScriptedModel((30.0,))
    task = asyncio.create_task(ask([_target(model)], a_request()))
    await until(lambda: model.open == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.open == 0


async def test_cancelling_the_pause_between_attempts_asks_no_more() -> None:
    model = ScriptedModel((ProviderFailed("soon", status=429, retry_after=4),), says("hi"))
    task = asyncio.create_task(ask([_target(model, retries=1)], a_request()))
    await until(lambda: len(model.requests) == 1 and model.open == 0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(model.requests) == 1
