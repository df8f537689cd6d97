"""Which engine answers: the tool loop, or an agent that the settings name."""

from collections.abc import Sequence
from dataclasses import replace

from gateway.engine.apart import apart
from gateway.engine.limits import TimeLimits
from gateway.engine.router import Route, Router, Target, Upstream
from gateway.engine.timed import Timed
from gateway.events import Error, StepStart
from gateway.ports import Engine, Events
from gateway.records import Call
from gateway.request import ChatRequest


class Switch:
    """The engine of the whole gateway: hands each call to the one that its model's name stands for."""

    def __init__(self, router: Router, loop: Engine) -> None:
        """`loop` answers for all names that have no engine of their own."""
        self._router = router
        self._loop = loop

    def stream(self, call: Call, request: ChatRequest, /) -> Events:
        route = self._router.routes.get(request.model)
        if route is None or route.engine is None:
            # As it is: a generator around it would cost every event of every call.
            return self._loop.stream(call, request)
        return self._ask(route.engine, call, request)

    async def _ask(self, engine: Engine, call: Call, request: ChatRequest) -> Events:
        route = self._router.resolve(request.model, call.key.tier)
        (target,) = route.targets
        events = apart(engine.stream(call, _prepare(route, request)))
        started = False
        async with Timed(target.upstream.limits, route.name, events) as timed:
            async for batch in timed:
                timed.got()
                if not isinstance(batch, list | tuple):
                    kind = type(batch).__name__
                    raise TypeError(f"an engine yields lists or tuples of events, not a {kind}")
                if not batch:
                    continue
                if not started and not isinstance(batch[0], StepStart | Error):
                    batch = (StepStart(1, target.model, target.upstream.provider.name), *batch)
                started = True
                yield batch


def _prepare(route: Route, request: ChatRequest) -> ChatRequest:
    request = route.adapt(request)
    if route.system is None or request.task is not None:
        return request
    system = {"role": "system", "content": route.system}
    return replace(request, messages=[system, *request.messages])


def stand_in(name: str, kind: str, timeout: float) -> Target:
    """The target of an engine's route. `kind` is named as its provider where the engine names none."""
    limits = TimeLimits(first_event=timeout, idle=timeout, total=timeout)
    return Target(Upstream(provider=_Unasked(kind), limits=limits, breaker=None), name)


class _Unasked:
    """Stands where a provider is looked for, so that nobody has to know of engines besides."""

    def __init__(self, name: str) -> None:
        self.name = name

    def stream(self, request: ChatRequest, /) -> Events:
        raise RuntimeError(f"{request.model!r} is answered by an engine of its own")

    async def models(self) -> Sequence[str]:
        return ()

    async def aclose(self) -> None:
        pass
