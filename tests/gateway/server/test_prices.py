import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Usage
from gateway.server.prices import Prices
from gateway.server.settings import PriceRow

ROW = PriceRow(input=1.5, output=10)


def _cost(
    prices: Prices,
    usage: Usage,
    *,
    model: str = "fast",
    provider: str = "acme",
    upstream: str = "acme-mini",
) -> int | None:
    return prices.cost(usage, model=model, provider=provider, upstream_model=upstream)


@pytest.mark.parametrize(
    ("row", "usage", "nanos"),
    [
        pytest.param(ROW, Usage(1_000_000, 0), 1_500_000_000, id="a million in"),
        pytest.param(ROW, Usage(0, 1_000_000), 10_000_000_000, id="a million out"),
        pytest.param(ROW, Usage(1, 1), 11_500, id="one each"),
        pytest.param(ROW, Usage(), 0, id="nothing"),
        pytest.param(ROW, Usage(100, 0, cached_tokens=40), 150_000, id="cached at the full price"),
        pytest.param(
            PriceRow(input=2, output=0, cached=0.5, cache_write=3),
            Usage(100, 0, cached_tokens=40, cache_write_tokens=10),
            50 * 2000 + 40 * 500 + 10 * 3000,
            id="cached and written at their own",
        ),
        pytest.param(
            PriceRow(input=2, output=0, cached=0),
            Usage(10, 0, cached_tokens=40),
            0,
            id="more cached than there was",
        ),
        pytest.param(PriceRow(input=0, output=0), Usage(5, 5), 0, id="free"),
    ],
)
def test_the_operators_own_price(row: PriceRow, usage: Usage, nanos: int) -> None:
    assert _cost(Prices({"fast": row}), usage) == nanos


def test_the_clients_name_stands_before_the_upstreams() -> None:
    rows = {
        name: PriceRow(input=price, output=0)
        for price, name in enumerate(("acme-mini", "acme/acme-mini", "fast"), 1)
    }
    for price, name in ((3, "fast"), (2, "acme/acme-mini"), (1, "acme-mini")):
        assert _cost(Prices(rows), Usage(1, 0)) == price * 1000
        del rows[name]
    assert _cost(Prices(rows), Usage(1, 0)) is None


def test_the_list_knows_common_models_whatever_the_provider_is_called() -> None:
    usage = Usage(1_000_000, 1_000_000)
    listed = _cost(Prices({}), usage, provider="openai", upstream="gpt-4o")
    assert listed is not None
    assert listed > 1_000_000_000
    assert _cost(Prices({}), usage, provider="my-proxy", upstream="gpt-4o") == listed


def test_cached_tokens_cost_less_by_the_list() -> None:
    whole = _cost(Prices({}), Usage(1000, 0), provider="openai", upstream="gpt-4o")
    cached = _cost(
        Prices({}), Usage(1000, 0, cached_tokens=1000), provider="openai", upstream="gpt-4o"
    )
    assert whole is not None
    assert cached is not None
    assert cached < whole


def test_the_demo_is_free() -> None:
    assert _cost(Prices({}), Usage(5, 5), provider="demo", upstream="demo") == 0


def test_a_model_without_a_price_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    prices = Prices({})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert _cost(prices, Usage(5, 5)) is None
    assert [record.getMessage() for record in caplog.records] == [
        "no price known for acme-mini of acme; its rows have no cost"
    ]


tokens = st.integers(0, 10**9)


@given(st.builds(Usage, tokens, tokens, tokens, tokens, tokens))
@pytest.mark.parametrize("upstream", ["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro"])
def test_no_report_of_a_provider_is_too_odd_to_be_priced(upstream: str, usage: Usage) -> None:
    """Prices are asked for when a row is settled, which must not fail."""
    cost = _cost(Prices({}), usage, upstream=upstream)
    assert cost is not None
    assert cost >= 0
