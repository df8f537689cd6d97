"""Which provider answers for a model's name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from gateway.engine.breaker import Breaker, BreakerRules
from gateway.engine.limits import TimeLimits
from gateway.engine.tools.tool import Source, Tool
from gateway.errors import UnknownModel
from gateway.frozen import frozen
from gateway.ports import Engine, Provider
from gateway.records import Dialect
from gateway.request import ChatRequest
from gateway.secrets import conceal

LENGTHS = frozenset({"max_tokens", "max_completion_tokens"})
"""Two words for the same option, old and new."""


@frozen(kw_only=True)
class Upstream:
    """A provider with the rules for asking it."""

    provider: Provider
    limits: TimeLimits = field(default_factory=TimeLimits)
    asks_whole: bool = False
    """Whether nothing of an answer that the client wants in one piece is there before all of it."""
    retries: int = 1
    """Further attempts when a request failed before its first event, and may succeed later."""
    breaker: BreakerRules | None = field(default_factory=BreakerRules)
    """When its models are asked after others; None to keep the settings' order whatever happens."""
    tools: tuple[Tool, ...] = ()
    """Offered to its models when they are asked for by `provider/model`."""
    sources: tuple[Source, ...] = ()
    """The same, as far as they have any at the time."""

    def limits_for(self, request: ChatRequest) -> TimeLimits:
        if request.stream or not self.asks_whole:
            return self.limits
        return replace(self.limits, first_event=self.limits.total)


@frozen()
class Target:
    """One model of one provider."""

    upstream: Upstream
    model: str
    breaker: Breaker | None = field(default=None, compare=False)


@frozen(kw_only=True)
class Route:
    """What a model's name stands for: targets in order of preference and tools, or an engine."""

    name: str
    targets: tuple[Target, ...]
    """At least one. That of an engine is never asked: it is what the account names."""
    engine: Engine | None = None
    """Answers instead of the tool loop."""
    tools: tuple[Tool, ...] = ()
    sources: tuple[Source, ...] = ()
    """Whose tools are offered as well, as far as they have any at the time."""
    system: str | None = None
    dialect: Dialect | None = None
    owner: str = "sluice"
    title: str = ""
    """What people call it, where a client shows names."""
    tiers: frozenset[str] | None = None
    """Whose keys may use it; None for all."""
    defaults: Mapping[str, object] = field(default_factory=dict)
    """Options of a request that does not have them."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """The most that an option may be. A higher one is lowered: a client often cannot know."""

    def offers(self) -> Sequence[Tool]:
        """The tools that its models may call now."""
        return [*self.tools, *(tool for source in self.sources for tool in source.tools())]

    def admits(self, tier: str) -> bool:
        return self.tiers is None or tier in self.tiers

    def adapt(self, request: ChatRequest) -> ChatRequest:
        """The request with the defaults and caps of this name."""
        if not self.defaults and not self.caps:
            return request
        options = {**self.defaults, **request.options}
        for name in LENGTHS & options.keys() - request.options.keys():
            # One word or the other: a default must not contradict what the client says.
            if LENGTHS & request.options.keys():
                del options[name]
        for name, most in self.caps.items():
            for option in LENGTHS & options.keys() if name in LENGTHS else (name,):
                value = options.get(option)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    options[option] = min(value, most)
            if name in LENGTHS and not any(options.get(option) for option in LENGTHS):
                options[name] = most
        return replace(request, options=options)


class Router:
    """Names to routes. Names of the settings first, then `provider/model` unless only those count."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        routes: Sequence[Route],
        *,
        virtual_only: bool = False,
    ) -> None:
        self.upstreams = upstreams
        self.routes = {route.name: route for route in routes}
        self.virtual_only = virtual_only

    def resolve(self, name: str, tier: str) -> Route:
        """What `name` is for a key of this tier. Raises `UnknownModel`."""
        route = self.routes.get(name)
        if route is not None and route.admits(tier):
            return route
        provider, slash, model = name.partition("/")
        hidden = self.virtual_only or route is not None
        upstream = None if hidden else self.upstreams.get(provider)
        if upstream is not None and slash and model:
            return Route(
                name=name,
                targets=(Target(upstream, model),),
                tools=upstream.tools,
                sources=upstream.sources,
                owner=provider,
            )
        raise UnknownModel(
            f"The model {_shorten(name)!r} does not exist or you do not have access to it."
            f"{self._hint(name, tier)}",
            param="model",
        )

    def _hint(self, name: str, tier: str) -> str:
        known = [route.name for route in self.routes.values() if route.admits(tier)]
        close = difflib.get_close_matches(name[:100], known, n=1)
        if close:
            return f" Did you mean {close[0]!r}?"
        return " GET /v1/models lists what there is."


def _shorten(name: str) -> str:
    """As it may be said back: a client may have sent its key in the wrong place."""
    name = conceal(name)
    return name if len(name) <= 100 else name[:100] + "…"
