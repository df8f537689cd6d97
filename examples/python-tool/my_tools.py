"""Tools of a small shop: plain functions that a model may call."""

import asyncio
from datetime import date
from typing import Literal

from pydantic import BaseModel

from gateway.engine.tools import ToolContext, ToolFailed


class Order(BaseModel):
    number: str
    customer: str
    status: Literal["open", "sent"]
    ordered: date


ORDERS = [
    Order(number="A-1", customer="ada@example.com", status="sent", ordered=date(2026, 3, 2)),
    Order(number="A-2", customer="ada@example.com", status="open", ordered=date(2026, 3, 9)),
    Order(number="B-1", customer="bob@example.com", status="open", ordered=date(2026, 3, 9)),
]


async def find_order(number: str, context: ToolContext) -> Order:
    """Finds one of the customer's orders by its number.

    Args:
        number: As on the invoice, like A-1.
    """
    for order in ORDERS:
        if order.number == number.upper() and order.customer == context.email:
            return order
    raise ToolFailed(f"The customer has no order {number!r}.")


async def list_orders(
    context: ToolContext, status: Literal["open", "sent"] | None = None, most: int = 10
) -> list[Order]:
    """Lists the customer's orders, the oldest first.

    Args:
        status: Only those; all if it is left out.
        most: How many to list.
    """
    found = []
    for done, order in enumerate(ORDERS, 1):
        await asyncio.sleep(0.05)  # such as a database would take
        context.report("looking through the orders", done, len(ORDERS))
        if order.customer == context.email and status in (None, order.status):
            found.append(order)
    return found[:most]
