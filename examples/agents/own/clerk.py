"""An engine without a framework: one method, which tells what happens while it happens."""

import asyncio
import json
import re

from gateway.events import Complete, Delta, ToolCallReady, ToolCallResult, ToolCallStart
from gateway.ports import Events
from gateway.records import Call
from gateway.request import ChatRequest

ORDERS = {"1007": "left Bergen on Tuesday and arrives on Friday", "1008": "is being packed"}


class Clerk:
    async def stream(self, call: Call, request: ChatRequest, /) -> Events:
        number = re.search(r"\d+", str(request.messages[-1].get("content")))
        if number is None:
            yield (Delta("Which order, please?"), Complete())
            return
        yield (Delta("Let me look. "),)
        arguments = json.dumps({"number": number[0]})
        yield (
            ToolCallStart("call_1", "find_order", "server"),
            ToolCallReady("call_1", arguments),
        )
        found = await find_order(number[0])
        yield (ToolCallResult("call_1", "ok", found),)
        for word in re.findall(r"\S+\s*", found):
            yield (Delta(word),)
        yield (Complete(),)  # without usage: the account estimates it


async def find_order(number: str) -> str:
    await asyncio.sleep(0.1)  # asks the warehouse
    state = ORDERS.get(number)
    return f"Order {number} {state}." if state else f"There is no order {number}."
