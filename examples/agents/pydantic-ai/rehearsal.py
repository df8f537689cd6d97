"""A stand-in for a model, so that the example runs without an account."""

import json
import re
from collections.abc import AsyncIterator

from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel


async def _answer(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | DeltaToolCalls]:
    last = messages[-1].parts[-1]
    if isinstance(last, ToolReturnPart):
        for word in re.findall(r"\S+\s*", last.model_response_str()):
            yield word
    elif number := re.search(r"\d+", str(getattr(last, "content", ""))):
        yield "Let me "
        yield "look. "
        yield {1: DeltaToolCall("find_order", json.dumps({"number": number[0]}))}
    else:
        yield "Which order, please?"


rehearsal = FunctionModel(stream_function=_answer, model_name="rehearsal")
