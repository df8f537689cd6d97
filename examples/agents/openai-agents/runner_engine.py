# runner_engine.py
"""Agents of the OpenAI Agents SDK as engines."""

from agents import Agent, RawResponsesStreamEvent, RunItemStreamEvent, Runner
from openai.types.responses import ResponseTextDeltaEvent

from gateway.errors import InvalidRequest
from gateway.events import Complete, Delta, ToolCallReady, ToolCallResult, ToolCallStart, Usage
from gateway.ports import Events
from gateway.records import Call
from gateway.request import ChatRequest


class RunnerEngine:
    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def stream(self, call: Call, request: ChatRequest, /) -> Events:
        if request.tools:
            raise InvalidRequest("This model has tools of its own.", param="tools")
        said = [{"role": said["role"], "content": said["content"]} for said in request.messages]
        run = Runner.run_streamed(self._agent, said)
        try:
            async for event in run.stream_events():
                match event:
                    case RawResponsesStreamEvent(data=ResponseTextDeltaEvent(delta=text)):
                        yield (Delta(text),)
                    case RunItemStreamEvent(name="tool_called", item=item):
                        asked = item.raw_item
                        yield (
                            ToolCallStart(asked.call_id, asked.name, "server"),
                            ToolCallReady(asked.call_id, asked.arguments),
                        )
                    case RunItemStreamEvent(name="tool_output", item=item):
                        yield (ToolCallResult(item.raw_item["call_id"], "ok", str(item.output)),)
            used = run.context_wrapper.usage
            yield (Complete(usage=Usage(used.input_tokens, used.output_tokens)),)
        finally:
            run.cancel()  # who left wants nothing more; after the end it changes nothing
