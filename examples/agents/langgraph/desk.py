"""An agent of LangGraph that knows where orders are."""

from graph_engine import GraphEngine
from langchain.agents import create_agent
from rehearsal import Rehearsal

ORDERS = {"1007": "left Bergen on Tuesday and arrives on Friday", "1008": "is being packed"}


async def find_order(number: str) -> str:
    """Where an order is."""
    state = ORDERS.get(number)
    return f"Order {number} {state}." if state else f"There is no order {number}."


prompt = "You work at the order desk of a shop. Be brief."
engine = GraphEngine(create_agent(Rehearsal(), [find_order], system_prompt=prompt))
