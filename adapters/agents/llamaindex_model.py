"""The gateway's own providers as models of LlamaIndex's agents.

LlamaIndex's integration of OpenAI's API wants an older SDK than the gateway has, and the two cannot
live in one environment. These need no SDK besides, and tell failures as the gateway does.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from importlib.metadata import entry_points
from typing import ClassVar, cast

import orjson
from llama_index.core.base.llms.generic_utils import (
    achat_to_completion_decorator,
    astream_chat_to_completion_decorator,
)
from llama_index.core.base.llms.types import ImageBlock, TextBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    LLMMetadata,
    MessageRole,
)
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool

from gateway.errors import ProviderTruncated
from gateway.events import (
    Complete,
    Delta,
    Event,
    Json,
    ReasoningDelta,
    ToolCallReady,
    ToolCallStart,
)
from gateway.ports import Provider
from gateway.request import ChatRequest, Message

GROUP = "gateway.providers"
_REPLAY = "reasoning_details"
"""Where a message keeps what a provider wants back with it."""


class ProviderModel(FunctionCallingLLM):
    """A model of a provider, named and configured as a row of `providers` in `sluice.yaml`:

    ProviderModel("openai", "gpt-5-mini", api_key=os.environ["OPENAI_API_KEY"])

    It is asked asynchronously only, as agents do; `chat` and the other blocking methods raise.
    """

    model: str
    context_window: int = 128_000
    """Tokens; LlamaIndex forgets the oldest messages of a history that comes near it."""
    options: dict[str, object] = Field(default_factory=dict)
    """Of each request: `temperature`, `max_tokens`, …"""
    provider_name: str = ""

    _provider: Provider = PrivateAttr()

    BLOCKING: ClassVar[str] = (
        "this model is asked asynchronously: use achat, astream_chat and so on"
    )

    def __init__(
        self,
        type: str,
        model: str,
        *,
        options: Mapping[str, object] | None = None,
        context_window: int = 128_000,
        **config: object,
    ) -> None:
        """`type` and `config` are those of the row. Raises `ValueError`."""
        super().__init__(
            model=model,
            options=dict(options or {}),
            context_window=context_window,
            provider_name=type,
        )
        self._provider = _provider(type)(type, {"connect_timeout": 5.0, **config})

    async def aclose(self) -> None:
        """Let go of the connections to the provider. `LlamaIndexEngine` does it when the gateway stops."""
        await self._provider.aclose()

    @classmethod
    def class_name(cls) -> str:
        return "ProviderModel"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            model_name=self.model,
            context_window=self.context_window,
            is_chat_model=True,
            is_function_calling_model=True,
        )

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: object
    ) -> ChatResponseAsyncGen:
        tools = kwargs.pop("tools", None)
        request = ChatRequest(
            model=self.model,
            messages=[_message(message) for message in messages],
            tools=cast(Sequence[Json], tools or ()),
            options={**self.options, **kwargs},
            stream=True,
            include_usage=True,
        )
        return self._stream(request)

    async def _stream(self, request: ChatRequest) -> AsyncGenerator[ChatResponse, None]:
        answer = _Answer(self.model)
        async with aclosing(self._provider.stream(request)) as events:
            async for batch in events:
                yield answer.take(batch)
        if not answer.complete:
            raise ProviderTruncated(f"The provider {self.provider_name!r} broke off its answer.")

    async def achat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        response = ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT))
        async for piece in await self.astream_chat(messages, **kwargs):
            response = piece
        return response

    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: object
    ) -> CompletionResponse:
        return await achat_to_completion_decorator(self.achat)(prompt, **kwargs)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: object
    ) -> CompletionResponseAsyncGen:
        return await astream_chat_to_completion_decorator(self.astream_chat)(prompt, **kwargs)

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: object,
    ) -> dict[str, object]:
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        asked: dict[str, object] = {
            "messages": [*(chat_history or ()), *([user_msg] if user_msg else ())],
            "tools": [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools],
            **kwargs,
        }
        if tools and tool_required:
            asked.setdefault("tool_choice", "required")
        if tools and not allow_parallel_tool_calls:
            asked.setdefault("parallel_tool_calls", False)
        return asked

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: object
    ) -> list[ToolSelection]:
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls and error_on_no_tool_call:
            raise ValueError("expected at least one tool call, got none")
        return [
            ToolSelection(
                tool_id=call.tool_call_id or "",
                tool_name=call.tool_name,
                tool_kwargs=call.tool_kwargs if isinstance(call.tool_kwargs, dict) else {},
            )
            for call in calls
        ]

    def chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponse:
        raise NotImplementedError(self.BLOCKING)

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: object) -> ChatResponseGen:
        raise NotImplementedError(self.BLOCKING)

    def complete(
        self, prompt: str, formatted: bool = False, **kwargs: object
    ) -> CompletionResponse:
        raise NotImplementedError(self.BLOCKING)

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: object
    ) -> CompletionResponseGen:
        raise NotImplementedError(self.BLOCKING)


def _provider(kind: str) -> Callable[[str, Mapping[str, object]], Provider]:
    points = {point.name: point for point in entry_points(group=GROUP)}
    if kind not in points:
        raise ValueError(f"there is no provider {kind!r}; expected one of {', '.join(points)}")
    return cast(Callable[[str, Mapping[str, object]], Provider], points[kind].load())


class _Answer:
    """One round, as LlamaIndex wants it: with each piece all that came before."""

    def __init__(self, model: str) -> None:
        self.complete = False
        self._model = model
        self._text = self._thought = ""
        self._details: list[dict[str, str]] = []
        self._names: dict[str, str] = {}
        self._calls: list[ToolCallBlock] = []

    def take(self, batch: Sequence[Event]) -> ChatResponse:
        text = thought = ""
        raw: dict[str, object] | None = None
        for event in batch:
            match event:
                case Delta():
                    text += event.text
                case ReasoningDelta():
                    thought += event.text
                    self._think(event)
                case ToolCallStart():
                    self._names[event.call_id] = event.name
                case ToolCallReady():
                    name = self._names[event.call_id]
                    self._calls.append(_call(event.call_id, name, event.arguments))
                case Complete():
                    self.complete = True
                    raw = _raw(self._model, event)
                case _:
                    pass
        self._text += text
        self._thought += thought
        return ChatResponse(
            message=self._message(),
            delta=text,
            raw=raw,
            additional_kwargs={"thinking_delta": thought} if thought else {},
        )

    def _message(self) -> ChatMessage:
        thinking = [ThinkingBlock(content=self._thought)] if self._thought else []
        text = [TextBlock(text=self._text)] if self._text else []
        return ChatMessage(
            role=MessageRole.ASSISTANT,
            blocks=[*thinking, *text, *self._calls],
            additional_kwargs={_REPLAY: list(self._details)} if self._details else {},
        )

    def _think(self, event: ReasoningDelta) -> None:
        """One entry for each stretch of thinking, as providers want it back."""
        if event.redacted is not None:
            self._details.append({"redacted": event.redacted})
            return
        if not self._details or self._details[-1].keys() & {"signature", "redacted"}:
            self._details.append({"text": ""})
        self._details[-1]["text"] += event.text
        if event.signature is not None:
            self._details[-1]["signature"] = event.signature


def _call(call_id: str, name: str, text: str) -> ToolCallBlock:
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        arguments = text
    return ToolCallBlock(tool_call_id=call_id, tool_name=name, tool_kwargs=arguments)


def _raw(model: str, end: Complete) -> dict[str, object]:
    """As the last piece of OpenAI's API, which is what looks for usage in raw replies."""
    usage = None
    if end.usage is not None:
        usage = {
            "prompt_tokens": end.usage.input_tokens,
            "completion_tokens": end.usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": end.usage.cached_tokens},
            "completion_tokens_details": {"reasoning_tokens": end.usage.reasoning_tokens},
        }
    choice = {"index": 0, "delta": {}, "finish_reason": end.finish_reason}
    return {"model": model, "choices": [choice], "usage": usage}


def _message(message: ChatMessage) -> Message:
    role = message.role.value
    if role == "tool":
        call_id = message.additional_kwargs.get("tool_call_id", "")
        return {"role": "tool", "tool_call_id": call_id, "content": message.content or ""}
    row: dict[str, object] = {"role": role, "content": _content(message)}
    calls = [_row(block) for block in message.blocks if isinstance(block, ToolCallBlock)]
    if calls:
        row["tool_calls"] = calls
    if details := message.additional_kwargs.get(_REPLAY):
        row[_REPLAY] = details
        row["reasoning_content"] = "".join(detail.get("text", "") for detail in details)
    return row


def _content(message: ChatMessage) -> object:
    if not any(isinstance(block, ImageBlock) for block in message.blocks):
        return message.content or ("" if message.role.value != "assistant" else None)
    parts: list[Json] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            parts.append({"type": "text", "text": block.text})
        elif isinstance(block, ImageBlock):
            data = block.resolve_image(as_base64=True).read().decode()
            url = f"data:{block.image_mimetype or 'image/png'};base64,{data}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts


def _row(call: ToolCallBlock) -> Json:
    arguments = call.tool_kwargs
    text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
    function = {"name": call.tool_name, "arguments": text}
    return {"id": call.tool_call_id, "type": "function", "function": function}
