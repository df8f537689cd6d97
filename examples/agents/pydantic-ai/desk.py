"""An agent of PydanticAI that knows where orders are."""

import os

from pydantic_ai import Agent
from rehearsal import rehearsal

ORDERS = {"1007": "left Bergen on Tuesday and arrives on Friday", "1008": "is being packed"}

# Any model that PydanticAI knows, as `openai:gpt-5-mini`.
agent = Agent(
    os.environ.get("DESK_MODEL") or rehearsal,
    instructions="You work at the order desk of a shop. Be brief.",
)


@agent.tool_plain
async def find_order(number: str) -> str:
    """Where an order is."""
    state = ORDERS.get(number)
    return f"Order {number} {state}." if state else f"There is no order {number}."
