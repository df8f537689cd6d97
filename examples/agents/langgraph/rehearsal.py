"""A stand-in for a model, so that the example runs without an account."""

import json
import re
from collections.abc import Iterator

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult


class Rehearsal(BaseChatModel):
    @property
    def _llm_type(self) -> str:
        return "rehearsal"

    def bind_tools(self, tools: object, **kwargs: object) -> "Rehearsal":
        return self

    def _stream(
        self, messages: list[BaseMessage], *args: object, **kwargs: object
    ) -> Iterator[ChatGenerationChunk]:
        last = messages[-1]
        number = None if last.type == "tool" else re.search(r"\d+", last.text)
        calls = []
        if last.type == "tool":
            answer = last.text
        elif number:
            answer = "Let me look. "
            arguments = json.dumps({"number": number[0]})
            calls = [{"name": "find_order", "args": arguments, "id": "call_1", "index": 0}]
        else:
            answer = "Which order, please?"
        for word in re.findall(r"\S+\s*", answer):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        usage = {"input_tokens": 20, "output_tokens": len(answer.split())}
        usage["total_tokens"] = sum(usage.values())
        end = AIMessageChunk("", tool_call_chunks=calls, usage_metadata=usage)
        yield ChatGenerationChunk(message=end)

    def _generate(self, messages: list[BaseMessage], *args: object, **kwargs: object) -> ChatResult:
        first, *rest = self._stream(messages)
        return ChatResult(generations=[ChatGeneration(message=sum(rest, first).message)])
