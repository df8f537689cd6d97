import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from gateway.engine.limits import LoopLimits
from gateway.engine.loop import ToolLoop
from gateway.engine.router import Route, Router, Target, Upstream
from gateway.engine.switch import Switch, stand_in
from gateway.engine.turns import Turns
from gateway.errors import ProviderTimedOut, UnknownModel
from gateway.events import Complete, Delta, Error, Event, StepStart, Usage
from gateway.ports import Batch
from gateway.records import Call
from gateway.request import ChatRequest
from tests.samples import a_call, a_key, a_request, drain
from tests.scripted_model import ScriptedModel, says

END = Complete(usage=Usage(3, 1))


class Own:
    """An engine that says what it is told to, and remembers what it was asked."""

    def __init__(self, *batches: Batch, pause: float = 0) -> None:
        self.batches = batches
        self.pause = pause
        self.requests: list[ChatRequest] = []
        self.open = 0

    async def stream(self, call: Call, request: ChatRequest, /) -> AsyncGenerator[Batch, None]:
        self.requests.append(request)
        self.open += 1
        try:
            for batch in self.batches:
                yield batch
                await asyncio.sleep(self.pause)
        finally:
            self.open -= 1


def _switch(own: Own, timeout: float = 5, **row: object) -> Switch:
    acme = Upstream(provider=ScriptedModel(says("from acme"), name="acme"))
    routes = [
        Route(name="fast", targets=(Target(acme, "mini"),)),
        Route(name="own", targets=(stand_in("own", "engine", timeout),), engine=own, **row),  # type: ignore[arg-type]  # a test names them
    ]
    router = Router({"acme": acme}, routes)
    return Switch(router, ToolLoop(router, Turns(), LoopLimits()))


def _ask(switch: Switch, model: str = "own", tier: str = "default", **fields: object):  # type: ignore[no-untyped-def]  # as the switch says
    request = a_request(model=model, **fields)
    return switch.stream(a_call(request, key=a_key(tier=tier)), request)


async def test_a_name_with_an_engine_is_answered_by_it() -> None:
    own = Own((Delta("Hello"),), (END,))
    assert await drain(_ask(_switch(own))) == [StepStart(1, "own", "engine"), Delta("Hello"), END]


@pytest.mark.parametrize("model", ["fast", "acme/mini"])
async def test_all_other_names_go_to_the_tool_loop(model: str) -> None:
    own = Own()
    assert Delta("from acme") in await drain(_ask(_switch(own), model))
    assert own.requests == []


async def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownModel):
        await drain(_ask(_switch(Own()), "nobody"))


async def test_tiers_count_for_engines_as_well() -> None:
    switch = _switch(Own((END,)), tiers=frozenset({"staff"}))
    assert END in await drain(_ask(switch, tier="staff"))
    with pytest.raises(UnknownModel):
        await drain(_ask(switch))


async def test_an_engine_gets_the_system_prompt_the_defaults_and_the_caps_of_its_name() -> None:
    own = Own((END,))
    switch = _switch(own, system="Be brief.", defaults={"seed": 1}, caps={"max_tokens": 9})
    await drain(_ask(switch, options={"max_tokens": 100}))
    [request] = own.requests
    assert request.options == {"seed": 1, "max_tokens": 9}
    assert request.messages[0] == {"role": "system", "content": "Be brief."}
    assert len(request.messages) == 2


async def test_a_chore_is_done_without_the_prompt_of_the_name() -> None:
    own = Own((END,))
    await drain(_ask(_switch(own, system="Be brief."), task="title_generation"))
    assert len(own.requests[0].messages) == 1


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        pytest.param(
            (StepStart(1, "mini", "acme"), END),
            [StepStart(1, "mini", "acme"), END],
            id="names its model itself",
        ),
        pytest.param(
            (Error("server_error", None, "No."),),
            [Error("server_error", None, "No.")],
            id="fails at once",
        ),
    ],
)
async def test_what_an_engine_says_of_its_rounds_stands(said: Batch, heard: list[Event]) -> None:
    assert await drain(_ask(_switch(Own(said)))) == heard


async def test_a_batch_of_nothing_is_passed_over() -> None:
    own = Own((), (Delta("Hello"),), (), (END,))
    assert await drain(_ask(_switch(own))) == [StepStart(1, "own", "engine"), Delta("Hello"), END]


async def test_an_event_without_a_batch_is_a_fault_that_is_named() -> None:
    own = Own(Delta("Hello"))  # type: ignore[arg-type]  # the mistake
    with pytest.raises(TypeError, match="lists or tuples of events, not a Delta"):
        await drain(_ask(_switch(own)))
    assert own.open == 0


async def test_an_engine_that_takes_too_long_is_stopped() -> None:
    own = Own((Delta("Hello"),), pause=60)
    with pytest.raises(ProviderTimedOut, match=r"'own' .* within 0\.05 s"):
        await drain(_ask(_switch(own, timeout=0.05)))
    assert own.open == 0


async def test_who_leaves_closes_the_engine() -> None:
    own = Own((Delta("Hello"),), pause=60)
    async with aclosing(_ask(_switch(own))) as events:
        await anext(events)
        assert own.open == 1
    assert own.open == 0
