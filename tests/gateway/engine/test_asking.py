import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

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
    target, batch, rest, _ = await ask(targets, a_request())
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
    target, batch, rest, _ = await ask([_target(first, retries=3), _target(second)], a_request())
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


async def test_a_pause_beyond_the_time_limit_is_not_waited_for() -> None:
    later = ProviderFailed("later", status=429, retry_after=60)
    model = ScriptedModel((later,))
    with pytest.raises(ProviderFailed) as caught:
        await ask([_target(model, retries=3, limits=TimeLimits(total=30))], a_request())
    assert caught.value is later
    assert (later.retryable, later.retry_after) == (True, 60)
    assert len(model.requests) == 1


async def test_a_long_pause_is_waited_for_only_when_no_target_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asking, "LONGEST_PAUSE", 0.1)
    later = ProviderFailed("later", status=429, retry_after=0.2)
    model, other = ScriptedModel((later,), says("hi")), ScriptedModel(says("hi"), name="other")
    assert (await _answer([_target(model, retries=1), _target(other)]))[0] == "other"
    assert len(model.requests) == 1
    model = ScriptedModel((later,), says("hi"))
    assert (await _answer([_target(model, retries=1)]))[0] == "scripted"
    assert len(model.requests) == 2


async def test_all_attempts_at_a_target_share_its_time() -> None:
    model = ScriptedModel((0.2, ProviderFailed("busy", status=503, retry_after=0)), (30.0,))
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(ProviderTimedOut, match=r"did not finish within 0\.5 s"):
        await ask([_target(model, retries=1, limits=TimeLimits(total=0.5))], a_request())
    assert len(model.requests) == 2
    assert 0.45 < loop.time() - started < 5


@pytest.mark.parametrize(
    ("error", "times"),
    [
        pytest.param(ProviderUnreachable("nobody there"), 1, id="not reachable"),
        pytest.param(ProviderTimedOut("too slow"), 1, id="timed out"),
        pytest.param(ProviderTruncated("cut", retry_after=0), 3, id="broken off"),
        pytest.param(BUSY, 3, id="busy"),
    ],
)
async def test_what_will_hardly_pass_at_once_is_tried_elsewhere_first(
    error: ProviderFailed, times: int
) -> None:
    model, other = ScriptedModel((error,)), ScriptedModel(says("hi"), name="other")
    assert (await _answer([_target(model, retries=2), _target(other)]))[0] == "other"
    assert len(model.requests) == times


_LIMITED = {"status": 429, "code": "rate_limit_exceeded"}
_NO_KEY = {"code": "upstream_auth", "retryable": False}
_FULL = {"status": 503}


@pytest.mark.parametrize(
    ("failures", "retryable", "retry_after"),
    [
        pytest.param([_NO_KEY, _NO_KEY], False, None, id="none will pass"),
        pytest.param([_LIMITED | {"retry_after": 20}, _NO_KEY], True, 20, id="the first will"),
        pytest.param([_NO_KEY, _FULL], True, None, id="the last may"),
        pytest.param([_LIMITED | {"retry_after": 20}, _FULL], True, None, id="one may at any time"),
        pytest.param(
            [_LIMITED | {"retry_after": 20}, _LIMITED | {"retry_after": 90}], True, 20, id="soonest"
        ),
    ],
)
async def test_the_last_error_says_whether_any_target_is_worth_another_try(
    failures: list[dict[str, Any]], retryable: bool, retry_after: float | None
) -> None:
    errors = [ProviderFailed("no", **failure) for failure in failures]
    models = [ScriptedModel((error,)) for error in errors]
    with pytest.raises(ProviderFailed) as caught:
        await ask([_target(model) for model in models], a_request())
    assert caught.value is errors[-1]
    assert (caught.value.retryable, caught.value.retry_after) == (retryable, retry_after)


async def test_attempts_in_vain_are_told_with_the_answer() -> None:
    busy = ProviderFailed("busy", status=503, retry_after=0)
    busy.answered = 529
    limited = ProviderFailed("slow", status=429, code="rate_limit_exceeded", retry_after=90)
    limited.answered = 429
    models = [
        ScriptedModel((ProviderUnreachable("gone"),), name="a"),
        ScriptedModel((busy,), (limited,), name="b"),
        ScriptedModel(says("hi"), name="c"),
    ]
    *_, rest, attempts = await ask([_target(model, retries=1) for model in models], a_request())
    await drain(rest)
    assert attempts == (
        "a/a-1: upstream_unreachable",
        "b/b-1: 529",
        "b/b-1: 429 rate_limit_exceeded",
    )


async def test_attempts_are_told_with_an_error_when_there_were_several() -> None:
    wrong = ProviderFailed("wrong", status=400)
    with pytest.raises(ProviderFailed):
        await ask([_target(ScriptedModel((wrong,)))], a_request())
    assert wrong.event().attempts == ()
    models = ScriptedModel((ProviderTimedOut("slow"),), name="a"), ScriptedModel((wrong,), name="b")
    with pytest.raises(ProviderFailed):
        await ask([_target(model) for model in models], a_request())
    assert wrong.event().attempts == ("a/a-1: upstream_timeout", "b/b-1: upstream_error")


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


async def test_an_answer_in_one_piece_has_the_whole_time_to_begin() -> None:
    limits = TimeLimits(first_event=0.05, total=0.3)
    upstream = Upstream(
        provider=ScriptedModel((0.1, *says("hi"))), retries=0, limits=limits, asks_whole=True
    )
    request = a_request(stream=False)
    _, batch, rest, _ = await ask([Target(upstream, "m")], request)
    assert batch == says("hi")[0]
    await rest.aclose()
    with pytest.raises(ProviderTimedOut, match=r"did not begin to answer within 0\.05 s"):
        await ask([Target(upstream, "m")], a_request())
    never = replace(upstream, provider=ScriptedModel((30.0,)))
    with pytest.raises(ProviderTimedOut, match=r"did not finish within 0\.3 s"):
        await ask([Target(never, "m")], request)


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
