"""An agent of LlamaIndex that knows where orders are."""

import os

from llama_index.core.agent.workflow import FunctionAgent
from rehearsal import Rehearsal

from adapters.agents.llamaindex_model import ProviderModel

ORDERS = {"1007": "left Bergen on Tuesday and arrives on Friday", "1008": "is being packed"}


async def find_order(number: str) -> str:
    """Where an order is."""
    state = ORDERS.get(number)
    return f"Order {number} {state}." if state else f"There is no order {number}."


if name := os.environ.get("DESK_MODEL"):  # as `gpt-5-mini`
    model = ProviderModel("openai", name, api_key=os.environ["OPENAI_API_KEY"])
else:
    model = Rehearsal(is_chat_model=True)

agent = FunctionAgent(
    tools=[find_order],
    llm=model,
    system_prompt="You work at the order desk of a shop. Be brief.",
)
