import pytest

from gateway.engine.asking import ask
from gateway.engine.breaker import Breaker, BreakerRules
from gateway.engine.router import Target, Upstream
from gateway.errors import ProviderFailed
from gateway.events import Delta
from tests.samples import a_request, drain
from tests.scripted_model import ScriptedModel, says

RULES = BreakerRules(failures=3, window=60, pause=30)
BUSY = ProviderFailed("busy", status=503)
LIMITED = ProviderFailed("slow down", status=429, retry_after=90)
NO_CREDIT = ProviderFailed("pay", status=429, code="insufficient_quota", retryable=False)
WRONG = ProviderFailed("wrong", status=400)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(RULES, clock)


def _open(breaker: Breaker) -> None:
    assert [breaker.failed() for _ in range(RULES.failures)] == [False, False, True]


def test_failures_in_a_row_open_it_until_a_probe_is_due(breaker: Breaker, clock: Clock) -> None:
    _open(breaker)
    clock.now += 29.9
    assert not breaker.admit()
    clock.now += 0.2
    assert breaker.admit()
    assert not breaker.admit(), "one probe, not a herd"


def test_a_success_between_failures_is_no_row_of_them(breaker: Breaker) -> None:
    for _ in range(10):
        assert not breaker.failed()
        assert not breaker.failed()
        breaker.succeeded()
    assert breaker.admit()


def test_failures_that_lie_far_apart_do_not_open_it(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        assert not breaker.failed()
        clock.now += 31
    assert breaker.admit()


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    _open(breaker)
    clock.now += 31
    assert breaker.admit()
    breaker.succeeded()
    assert breaker.admit()
    assert breaker.admit()


def test_a_probe_that_fails_keeps_it_open_for_another_pause(breaker: Breaker, clock: Clock) -> None:
    _open(breaker)
    clock.now += 31
    assert breaker.admit()
    clock.now += 10
    assert not breaker.failed(), "it was open before"
    clock.now += 29
    assert not breaker.admit()
    clock.now += 2
    assert breaker.admit()


def test_a_probe_that_was_cancelled_is_followed_by_another(breaker: Breaker, clock: Clock) -> None:
    _open(breaker)
    clock.now += 31
    assert breaker.admit()
    clock.now += 31
    assert breaker.admit()


def _target(model: ScriptedModel, clock: Clock) -> Target:
    return Target(Upstream(provider=model, retries=0), "m", Breaker(RULES, clock))


async def _ask(*targets: Target) -> str:
    target, _, rest, _ = await ask(targets, a_request())
    await drain(rest)
    return target.upstream.provider.name


@pytest.mark.parametrize("failure", [BUSY, LIMITED, NO_CREDIT], ids=lambda error: error.message)
async def test_a_target_that_keeps_failing_is_asked_after_the_others(
    failure: ProviderFailed, clock: Clock
) -> None:
    first = ScriptedModel(*[(failure,)] * 3, says("back"), name="first")
    targets = _target(first, clock), _target(ScriptedModel(says("hi"), name="second"), clock)
    assert [await _ask(*targets) for _ in range(6)] == ["second"] * 6
    assert len(first.requests) == 3
    clock.now += 31
    assert [await _ask(*targets) for _ in range(3)] == ["first"] * 3


async def test_a_failing_target_is_still_asked_where_the_others_fail_too(clock: Clock) -> None:
    first = ScriptedModel(*[(BUSY,)] * 3, says("back"), name="first")
    second = ScriptedModel(*[says("hi")] * 3, (BUSY,), name="second")
    targets = _target(first, clock), _target(second, clock)
    assert [await _ask(*targets) for _ in range(4)] == ["second", "second", "second", "first"]


async def test_the_only_target_is_asked_each_time(clock: Clock) -> None:
    model = ScriptedModel(*[(BUSY,)] * 5, says("back"))
    target = _target(model, clock)
    for _ in range(5):
        with pytest.raises(ProviderFailed):
            await _ask(target)
    assert await _ask(target) == "scripted"


async def test_requests_at_fault_say_nothing_of_a_target(clock: Clock) -> None:
    model = ScriptedModel(*[(WRONG,)] * 5, says("hi"), name="first")
    targets = _target(model, clock), _target(ScriptedModel(says("no"), name="second"), clock)
    for _ in range(5):
        with pytest.raises(ProviderFailed):
            await _ask(*targets)
    _, batch, rest, _ = await ask(targets, a_request())
    assert list(batch) == [Delta("hi")]
    await rest.aclose()
