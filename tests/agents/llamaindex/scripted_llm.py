"""A model of LlamaIndex that streams what a script says, with usage, as OpenAI's integration does."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse, LLMMetadata, TextBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from pydantic import PrivateAttr

Round = Sequence[object]
"""Text, `Thought`s, `ToolCallBlock`s, seconds to wait, errors to raise, and `dict`s: the raw reply."""


class Thought(str):
    pass


class ScriptedLLM(MockFunctionCallingLLM):
    _rounds: list[Round] = PrivateAttr()
    _asked: list[list[ChatMessage]] = PrivateAttr(default_factory=list)
    _whole: bool = PrivateAttr(default=False)

    def __init__(self, *rounds: Round, whole: bool = False) -> None:
        """`whole`: fill in only what was said so far, and no piece of it."""
        super().__init__(is_chat_model=True)
        self._rounds = list(rounds)
        self._whole = whole

    @classmethod
    def class_name(cls) -> str:
        return "Scripted_LLM"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            is_function_calling_model=True, is_chat_model=True, model_name="scripted-0"
        )

    @property
    def asked(self) -> list[list[ChatMessage]]:
        return self._asked

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> AsyncGenerator[ChatResponse, None]:
        self._asked.append(list(messages))
        script = self._rounds[min(len(self._asked), len(self._rounds)) - 1]
        return self._say(script)

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        response = ChatResponse(message=ChatMessage(role="assistant"))
        async for piece in await self.astream_chat(messages):
            response = piece
        return response

    async def _say(self, script: Round) -> AsyncGenerator[ChatResponse, None]:
        text, calls, raw = "", [], None
        for part in script:
            delta, more = "", {}
            match part:
                case int() | float():
                    await asyncio.sleep(part)
                    continue
                case Exception():
                    raise part
                case Thought():
                    more = {"thinking_delta": str(part)}
                case str():
                    delta = part
                    text += part
                case ToolCallBlock():
                    calls.append(part)
                case dict():
                    raw = part
            message = ChatMessage(role="assistant", blocks=[TextBlock(text=text), *calls])
            yield ChatResponse(
                message=message,
                delta=None if self._whole else delta,
                raw=raw,
                additional_kwargs=more,
            )


def call(call_id: str, name: str, **arguments: object) -> ToolCallBlock:
    return ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)


def used(read: int, written: int, **more: object) -> dict[str, object]:
    """A raw reply as OpenAI's last chunk is."""
    usage = {"prompt_tokens": read, "completion_tokens": written}
    return {"model": "scripted-1", "usage": usage, "choices": [], **more}
