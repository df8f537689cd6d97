"""What tokens cost: the operator's own prices first, then those that genai-prices knows."""

import logging
from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import version

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from gateway.events import Usage
from gateway.server.settings import PriceRow

log = logging.getLogger(__name__)

_NANOS = Decimal(10**9)


class Prices:
    """Offline: the list comes with the package, and is never fetched."""

    def __init__(
        self, own: Mapping[str, PriceRow], tools: Mapping[str, float] | None = None
    ) -> None:
        """`own`: by the client's name of a model, by `provider/model`, or by the upstream's model.
        `tools`: dollars for a call, by the tool's name."""
        self._own = own
        self._tools = {name: round(price * 1e9) for name, price in (tools or {}).items()}
        self._list = f"genai-prices {version('genai-prices')}"
        self._unknown: set[tuple[str, str]] = set()
        self._last: tuple[tuple[Usage, str, str] | None, int | None] = None, None

    def cost(self, usage: Usage, *, model: str, provider: str, upstream_model: str) -> int | None:
        """In billionths of a US dollar; None when nobody knows a price."""
        own = self._find(model, provider, upstream_model)
        if own is not None:
            return _own_cost(own, usage)
        if provider == "demo":
            return 0
        return self._listed_cost(usage, provider, upstream_model)

    def source(self, *, model: str, provider: str, upstream_model: str) -> str | None:
        """Where the price of a model comes from; None where it has none."""
        if self._find(model, provider, upstream_model) is not None:
            return "settings"
        return None if provider == "demo" else self._list

    def tool_cost(self, name: str) -> int:
        """Of one call, in billionths of a US dollar. Tools without a price cost nothing."""
        return self._tools.get(name, 0)

    def _find(self, model: str, provider: str, upstream_model: str) -> PriceRow | None:
        for name in (model, f"{provider}/{upstream_model}", upstream_model):
            if name in self._own:
                return self._own[name]
        return None

    def _listed_cost(self, usage: Usage, provider: str, model: str) -> int | None:
        if (provider, model) in self._unknown:
            return None
        if self._last[0] == (usage, provider, model):
            return self._last[
                1
            ]  # a row and its receipt ask for the same, which takes 80 µs each time
        cost = self._ask_list(usage, provider, model)
        self._last = (usage, provider, model), cost
        return cost

    def _ask_list(self, usage: Usage, provider: str, model: str) -> int | None:
        priced = PricedUsage(
            # The list refuses parts that are more than the whole, which some servers report.
            input_tokens=max(usage.input_tokens, usage.cached_tokens + usage.cache_write_tokens),
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        # A provider's name is the operator's choice; the list may know it, or else the model alone.
        for provider_id in (provider, None):
            try:
                price = calc_price(priced, model, provider_id=provider_id)
            except (LookupError, ValueError, ArithmeticError):
                # Unknown, or usage that its rules refuse: a row without a cost, never no row.
                continue
            return int(price.total_price * _NANOS)
        if len(self._unknown) < 10_000:
            self._unknown.add((provider, model))
            log.warning("no price known for %s of %s; its rows have no cost", model, provider)
        return None


def _own_cost(row: PriceRow, usage: Usage) -> int:
    """Dollars for a million tokens are thousands of nanodollars for one."""
    cached = row.input if row.cached is None else row.cached
    written = row.input if row.cache_write is None else row.cache_write
    fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    total = (
        max(fresh, 0) * row.input
        + usage.cached_tokens * cached
        + usage.cache_write_tokens * written
        + usage.output_tokens * row.output
    )
    return round(total * 1000)
