"""An agent of LlamaIndex that knows where orders are."""

from llama_index.core.agent.workflow import FunctionAgent
from rehearsal import Rehearsal

ORDERS = {"1007": "left Bergen on Tuesday and arrives on Friday", "1008": "is being packed"}


async def find_order(number: str) -> str:
    """Where an order is."""
    state = ORDERS.get(number)
    return f"Order {number} {state}." if state else f"There is no order {number}."


agent = FunctionAgent(
    tools=[find_order],
    llm=Rehearsal(is_chat_model=True),
    system_prompt="You work at the order desk of a shop. Be brief.",
)
