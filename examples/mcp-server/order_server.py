"""An MCP server of one's own: the orders of a small shop, over stdio. Needs the package mcp."""

import asyncio
from typing import Annotated

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

ORDERS = {"A-1": "sent", "A-2": "open", "B-1": "open"}

server = MCPServer("orders")


@server.tool()
def find_order(number: Annotated[str, Field(description="As on the invoice, like A-1.")]) -> str:
    """Finds an order by its number."""
    if number not in ORDERS:
        raise ToolError(f"There is no order {number!r}.")
    return f"Order {number} is {ORDERS[number]}."


@server.tool()
async def count_orders(context: Context) -> str:
    """Counts all orders, which takes a moment."""
    for done, number in enumerate(ORDERS, 1):
        await asyncio.sleep(0.05)
        await context.report_progress(done, len(ORDERS), f"counted {number}")
    return f"There are {len(ORDERS)} orders."


if __name__ == "__main__":
    server.run("stdio")
