"""A stand-in for a model, so that the example runs without an account."""

import re
from collections.abc import AsyncGenerator, Sequence

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse, TextBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM


class Rehearsal(MockFunctionCallingLLM):
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: object
    ) -> AsyncGenerator[ChatResponse, None]:
        return self._answer(messages[-1])

    async def _answer(self, last: ChatMessage) -> AsyncGenerator[ChatResponse, None]:
        number = None if last.role == "tool" else re.search(r"\d+", last.content or "")
        calls = []
        if last.role == "tool":
            answer = last.content or ""
        elif number:
            answer = "Let me look. "
            calls = [ToolCallBlock(tool_name="find_order", tool_kwargs={"number": number[0]})]
        else:
            answer = "Which order, please?"
        said = ""
        for word in re.findall(r"\S+\s*", answer):
            said += word
            yield ChatResponse(message=ChatMessage(role="assistant", content=said), delta=word)
        blocks = [TextBlock(text=said), *calls]
        usage = {"prompt_tokens": 20, "completion_tokens": len(said.split())}
        yield ChatResponse(
            message=ChatMessage(role="assistant", blocks=blocks), delta="", raw={"usage": usage}
        )
