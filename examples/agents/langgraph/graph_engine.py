# graph_engine.py
"""Graphs of LangGraph as engines: those whose state has `messages`, as `create_agent` makes them."""

import json
from contextlib import aclosing

from langchain_core.messages import AIMessage, AIMessageChunk, ToolMessage

from gateway.errors import InvalidRequest
from gateway.events import Complete, Delta, ToolCallReady, ToolCallResult, ToolCallStart, Usage
from gateway.ports import Batch, Events
from gateway.records import Call
from gateway.request import ChatRequest


class GraphEngine:
    def __init__(self, graph) -> None:
        self._graph = graph

    async def stream(self, call: Call, request: ChatRequest, /) -> Events:
        if request.tools:
            raise InvalidRequest("This model has tools of its own.", param="tools")
        state, used = {"messages": list(request.messages)}, Usage()
        run = self._graph.astream(state, stream_mode=["messages", "updates"])
        async with aclosing(run):  # closing it stops the graph
            async for mode, data in run:
                if mode == "messages":
                    if isinstance(data[0], AIMessageChunk) and data[0].text:
                        yield (Delta(data[0].text),)
                    continue
                for node in data.values():
                    for message in (node or {}).get("messages", ()):
                        if isinstance(message, AIMessage) and message.usage_metadata:
                            tokens = message.usage_metadata
                            used += Usage(tokens["input_tokens"], tokens["output_tokens"])
                        if batch := tool_events(message):
                            yield batch
        yield (Complete(usage=used if used != Usage() else None),)


def tool_events(message) -> Batch:
    if isinstance(message, ToolMessage):
        status = "error" if message.status == "error" else "ok"
        return [ToolCallResult(message.tool_call_id, status, message.text)]
    batch = []
    for asked in getattr(message, "tool_calls", ()):
        batch.append(ToolCallStart(asked["id"], asked["name"], "server"))
        batch.append(ToolCallReady(asked["id"], json.dumps(asked["args"])))
    return batch
