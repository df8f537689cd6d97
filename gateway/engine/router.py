"""Which provider answers for a model's name."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.engine.breaker import Breaker, BreakerRules
from gateway.engine.limits import TimeLimits
from gateway.engine.tools.tool import Tool
from gateway.errors import UnknownModel
from gateway.ports import Provider
from gateway.records import Dialect
from gateway.secrets import conceal


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A provider with the rules for asking it."""

    provider: Provider
    limits: TimeLimits = field(default_factory=TimeLimits)
    retries: int = 1
    """Further attempts when a request failed before its first event, and may succeed later."""
    breaker: BreakerRules | None = field(default_factory=BreakerRules)
    """When its models are asked after others; None to keep the settings' order whatever happens."""
    tools: tuple[Tool, ...] = ()
    """Offered to its models when they are asked for by `provider/model`."""


@dataclass(frozen=True, slots=True)
class Target:
    """One model of one provider."""

    upstream: Upstream
    model: str
    breaker: Breaker | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a model's name stands for: targets in order of preference, and tools."""

    name: str
    targets: tuple[Target, ...]
    tools: tuple[Tool, ...] = ()
    system: str | None = None
    dialect: Dialect | None = None
    owner: str = "sluice"


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

    def resolve(self, name: str) -> Route:
        """Raises `UnknownModel`."""
        route = self.routes.get(name)
        if route is not None:
            return route
        provider, slash, model = name.partition("/")
        upstream = None if self.virtual_only else self.upstreams.get(provider)
        if upstream is not None and slash and model:
            return Route(
                name=name, targets=(Target(upstream, model),), tools=upstream.tools, owner=provider
            )
        raise UnknownModel(
            f"The model {_shorten(name)!r} does not exist or you do not have access to it."
            f"{self._hint(name)}",
            param="model",
        )

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name[:100], self.routes, n=1)
        if close:
            return f" Did you mean {close[0]!r}?"
        return " GET /v1/models lists what there is."


def _shorten(name: str) -> str:
    """As it may be said back: a client may have sent its key in the wrong place."""
    name = conceal(name)
    return name if len(name) <= 100 else name[:100] + "…"
