"""What the docs say of PydanticAI's agents, done as they say it."""

import asyncio
from pathlib import Path

from tests.agents.scripted_orders import block, documented

CONFIG = """
models:
  support: {engine: "support:agent"}
  shop: {engine: "shop:engine"}
"""


async def test_the_agents_of_the_docs_work(tmp_path: Path) -> None:
    modules = {
        "support.py": block("# support.py", "pydantic_ai"),
        "shop.py": block("# shop.py", "pydantic_ai"),
    }
    async with documented(tmp_path / "docs", CONFIG, modules) as (gateway, ask):
        support = await asyncio.to_thread(ask, "support")
        assert support.text == "Order 1007 left Bergen on Tuesday."
        assert support.told == [("find_order", "started"), ("find_order", "completed")]
        assert support.tokens == (30, 6)
        shop = await asyncio.to_thread(ask, "shop")
        assert shop.text == "eve@example.com ordered a lamp."
        rows = await asyncio.to_thread(gateway.rows)
    assert [(row["provider"], row["upstream_model"]) for row in rows] == [
        ("openai", "gpt-5-mini")
    ] * 2
    assert all(row["cost_usd"] for row in rows)
