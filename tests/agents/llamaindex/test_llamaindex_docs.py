"""What the docs say of LlamaIndex's agents, done as they say it."""

import asyncio
from pathlib import Path

from tests.agents.scripted_orders import block, documented

CONFIG = 'models: {support: {engine: "support:agent"}}'


async def test_the_agent_of_the_docs_works(tmp_path: Path) -> None:
    text = block("# support.py", "llama_index")
    there = text.replace('"gpt-5-mini", ', '"gpt-5-mini", base_url="BASE_URL", ')
    assert there != text
    async with documented(tmp_path / "docs", CONFIG, {"support.py": there}) as (gateway, ask):
        support = await asyncio.to_thread(ask, "support")
        rows = await asyncio.to_thread(gateway.rows)
    assert support.text == "Order 1007 left Bergen on Tuesday."
    assert support.told == [("find_order", "started"), ("find_order", "completed")]
    assert support.tokens == (30, 6)
    [row] = rows
    assert (row["provider"], row["upstream_model"]) == ("openai", "gpt-5-mini")
    assert row["cost_usd"]
