"""An agent of the OpenAI Agents SDK that knows where orders are."""

import os

from agents import Agent, function_tool, set_tracing_disabled
from rehearsal import Rehearsal
from runner_engine import RunnerEngine

ORDERS = {"1007": "left Bergen on Tuesday and arrives on Friday", "1008": "is being packed"}

set_tracing_disabled(True)  # or else the SDK sends what was said to its vendor


@function_tool
async def find_order(number: str) -> str:
    """Where an order is."""
    state = ORDERS.get(number)
    return f"Order {number} {state}." if state else f"There is no order {number}."


agent = Agent(
    name="desk",
    instructions="You work at the order desk of a shop. Be brief.",
    tools=[find_order],
    model=os.environ.get("DESK_MODEL") or Rehearsal(),  # as `gpt-5-mini`
)
engine = RunnerEngine(agent)
