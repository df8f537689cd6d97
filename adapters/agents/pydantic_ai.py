"""PydanticAI's agents as engines."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import pydantic_core
from pydantic_ai import (
    AgentRunResultEvent,
    BinaryContent,
    DeferredToolRequests,
    ExternalToolset,
    ImageUrl,
)
from pydantic_ai.agent import AbstractAgent
from pydantic_ai.capabilities import Hooks, ReinjectSystemPrompt
from pydantic_ai.exceptions import AgentRunError, UserError
from pydantic_ai.messages import (
    Citation as CitedPart,
)
from pydantic_ai.messages import (
    CustomEvent,
    FunctionToolCallEvent,
    FunctionToolResultEvent,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    OutputToolCallEvent,
    PartDeltaEvent,
    PartEndEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    ThinkingPart,
    ThinkingPartDelta,
    ToolCallPart,
    ToolCallPartDelta,
    ToolReturnPart,
    UserPromptPart,
    WebCitationSource,
)
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.usage import UsageBase

from adapters.agents import history
from adapters.agents.calls import Calls
from adapters.agents.faults import translate
from adapters.providers.failures import scrub
from gateway.errors import GatewayError, InvalidRequest, ProviderFailed
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Event,
    Executor,
    FinishReason,
    ReasoningDelta,
    Step,
    StepStart,
    ToolStatus,
    Usage,
)
from gateway.ports import Batch, Events
from gateway.records import Call
from gateway.request import ChatRequest

_SETTINGS = {
    "max_completion_tokens": "max_tokens",
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "logit_bias": "logit_bias",
    "parallel_tool_calls": "parallel_tool_calls",
}
"""OpenAI's options that PydanticAI knows, and its names for them."""

_STATUS: dict[str, ToolStatus] = {
    "success": "ok",
    "denied": "denied",
    "interrupted": "cancelled",
}
"""Other outcomes are errors."""

_REASONS: dict[str | None, FinishReason] = {
    "length": "length",
    "content_filter": "content_filter",
}


class PydanticAIEngine:
    """An agent of PydanticAI. Where it has dependencies, `deps` makes them for each call:

    engine = PydanticAIEngine(agent, "support", deps=lambda call: Customer(call.key.email))
    """

    def __init__(
        self, agent: object, name: str, deps: Callable[[Call], object] | None = None
    ) -> None:
        """`name` is what errors call it. Raises `ValueError`."""
        if not isinstance(agent, AbstractAgent):
            raise ValueError(f"expected an Agent of PydanticAI, got a {type(agent).__name__}")
        self._agent = agent
        self._name = name
        self._deps = deps

    async def stream(self, call: Call, request: ChatRequest, /) -> Events:
        turns = history.read(request, tools=True)
        theirs = _theirs(request)
        system = [turn.text for turn in turns if turn.role == "system"]
        *earlier, last = [turn for turn in turns if turn.role != "system"]
        if last.role == "tool":
            earlier.append(last)
        run = _Run({tool.name for tool in theirs})
        try:
            async with self._agent.run_stream_events(
                _prompt(last) if last.role == "user" else None,
                message_history=_messages(earlier),
                instructions=system or None,
                model_settings=_settings(request),
                deps=None if self._deps is None else self._deps(call),
                capabilities=[run.hooks, ReinjectSystemPrompt()],
                infer_name=False,
                **(self._with(theirs) if theirs else {}),
            ) as events:
                async for event in events:
                    if batch := run.take(event, events.usage):
                        yield batch
        except Exception as error:  # whatever a tool raised, or the client of the agent's model
            if batch := run.closing():
                yield batch
            known = self._known(error, by_tool=bool(run.broken))
            if known is None:
                raise
            raise known from error

    def _with(self, tools: list[ToolDefinition]) -> dict[str, Any]:
        """What lets the model call tools that end the run, since the client has to run them."""
        own = self._agent.output_type
        outputs = [*own] if isinstance(own, Sequence) and not isinstance(own, str) else [own]
        return {
            "toolsets": [ExternalToolset(tools)],
            "output_type": [*outputs, DeferredToolRequests],
        }

    def _known(self, error: Exception, *, by_tool: bool) -> GatewayError | None:
        """What the client is told of it; None for a fault of a tool, which is not for the client."""
        if by_tool and not isinstance(error, AgentRunError):
            return None
        if isinstance(error, UserError) and "conflicts with existing tool" in error.message:
            return InvalidRequest(
                f"A tool has the name of one that {self._name!r} has itself.", param="tools"
            )
        known = translate(self._name, error)
        if known is None and isinstance(error, AgentRunError):
            # The rest is advice for who wrote the agent.
            reason = scrub(error.message.partition(". Consider ")[0])
            return ProviderFailed(f"The agent {self._name!r} gave up: {reason}")
        return known


class _Run:
    """One run of an agent: what it said so far, and what that means for the next event."""

    def __init__(self, theirs: Collection[str]) -> None:
        """`theirs`: names of the tools that the client runs."""
        self._theirs = theirs
        self.hooks = Hooks(before_model_request=self._ask, tool_execute_error=self._break)
        self.broken: list[str] = []
        """Calls of tools that raised what they should not: the run ends with that."""
        self._calls = Calls()
        self._number = self._begun = self._told = 0
        """Steps that were asked for, answered, and told."""
        self._models: list[tuple[str, str]] = []
        """What was asked in each step, and who provides it."""
        self._output_tools: frozenset[str] = frozenset()
        self._parts: dict[int, str] = {}
        """Ids of the round's tool calls that are shown, by their part's index."""
        self._starts: dict[int, int] = {}
        """Where in the answer the text of a part begins."""
        self._length = 0
        self._spoke = False
        """Whether the round that runs had text."""
        self._by_tool = False
        """Whether it gave the answer by calling a tool for it."""

    async def _ask(
        self, context: RunContext[object], asked: ModelRequestContext, /
    ) -> ModelRequestContext:
        self._number += 1
        self._models.append((asked.model.model_name, asked.model.system))
        self._output_tools = frozenset(
            tool.name for tool in asked.model_request_parameters.output_tools
        )
        return asked

    async def _break(
        self, context: RunContext[object], /, *, call: ToolCallPart, error: Exception, **_: object
    ) -> object:
        self.broken.append(call.tool_call_id)
        raise error

    def closing(self) -> Batch:
        """The end of what a fault broke. What else is open was cancelled by it."""
        return [
            event
            for call_id in self.broken
            for event in self._calls.finish(call_id, "error", "The tool failed.")
        ]

    def take(self, event: object, spent: UsageBase) -> Batch:
        match event:
            case PartStartEvent(index=index, part=part):
                return self._in_step(self._begin(index, part), spent)
            case PartDeltaEvent(index=index, delta=delta):
                return self._in_step(self._go_on(index, delta), spent)
            case PartEndEvent(part=NativeToolCallPart() as part):
                return self._calls.ready(part.tool_call_id, part.tool_name, _arguments(part))
            case FunctionToolCallEvent(part=part):
                return self._calls.ready(part.tool_call_id, part.tool_name, _arguments(part))
            case FunctionToolResultEvent(part=part):
                return self._finish(part)
            case OutputToolCallEvent():
                self._by_tool = True
            case CustomEvent():
                fields = {key: value for key, value in vars(event).items() if value is not None}
                return self._calls.report(fields, event.tool_call_id)
            case AgentRunResultEvent():
                return self._in_step(self._end(event), spent)
        return ()

    def _in_step(self, events: list[Event], spent: UsageBase) -> list[Event]:
        """Of the model's own events, the first ones of each round."""
        if not events or self._told == self._number:
            return events
        self._told = self._number
        before = _usage(spent) or Usage()
        return [StepStart(self._number, *self._models[-1], None, before), *events]

    def _begin(self, index: int, part: object) -> list[Event]:
        if self._begun != self._number:
            self._begun = self._number
            self._spoke = self._by_tool = False
            self._parts = {}
        match part:
            case TextPart():
                self._starts[index] = self._length
                return [*self._say(part.content), *self._cite(index, part.citations)]
            case ThinkingPart() if part.content or part.signature:
                return [ReasoningDelta(part.content, signature=part.signature)]
            case ToolCallPart() if part.tool_name not in self._output_tools:
                self._parts[index] = part.tool_call_id
                executor: Executor = "client" if part.tool_name in self._theirs else "server"
                return [
                    *self._calls.start(part.tool_call_id, part.tool_name, executor),
                    *self._calls.write(part.tool_call_id, _text(part.args)),
                ]
            case NativeToolCallPart():
                self._parts[index] = part.tool_call_id
                return [
                    *self._calls.start(part.tool_call_id, part.tool_name, "provider"),
                    *self._calls.write(part.tool_call_id, _text(part.args)),
                ]
            case NativeToolReturnPart():
                return self._finish(part)
        return []

    def _go_on(self, index: int, delta: object) -> list[Event]:
        match delta:
            case TextPartDelta():
                return [
                    *self._say(delta.content_delta),
                    *self._cite(index, delta.citations_delta),
                ]
            case ThinkingPartDelta() if delta.content_delta or delta.signature_delta:
                return [ReasoningDelta(delta.content_delta or "", signature=delta.signature_delta)]
            case ToolCallPartDelta() if index in self._parts:
                return self._calls.write(self._parts[index], _text(delta.args_delta))
        return []

    def _say(self, text: str) -> list[Event]:
        if not text:
            return []
        self._spoke = True
        self._length += len(text)
        return [Delta(text)]

    def _cite(self, index: int, cited: Sequence[CitedPart] | None) -> list[Event]:
        start = self._starts.get(index, 0)
        events: list[Event] = []
        for citation in cited or ():
            anchor = citation.anchor
            place = (0, 0) if anchor is None else (start + anchor.start, start + anchor.end)
            for source in citation.sources:
                if isinstance(source, WebCitationSource):
                    events.append(Citation(source.url, source.title or "", *place))
        return events

    def _finish(self, part: ToolReturnPart | NativeToolReturnPart) -> list[Event]:
        status = _STATUS.get(part.outcome, "error")
        output = part.model_response_str(wrap_if_error=False)
        return self._calls.finish(part.tool_call_id, status, output)

    def _end(self, event: AgentRunResultEvent[object]) -> list[Event]:
        result = event.result
        output = result.output
        waiting = output if isinstance(output, DeferredToolRequests) else None
        theirs = (
            waiting is not None
            and not waiting.approvals
            and all(call.tool_name in self._theirs for call in waiting.calls)
        )
        if waiting is not None and not theirs:
            raise ProviderFailed(
                "The agent waits for an approval, or for a tool that is run elsewhere: there is no "
                "way to give it that here.",
                code="agent_deferred",
                retryable=False,
            )
        told = theirs or (self._spoke and not self._by_tool)
        events = [] if told else self._say(_text(output))
        responses = [
            message for message in result.new_messages() if isinstance(message, ModelResponse)
        ]
        steps = [
            Step(number, *self._model(number, response), _usage(response.usage))
            for number, response in enumerate(responses, 1)
        ]
        total = _usage(result.usage)
        known = sum((step.usage for step in steps if step.usage is not None), Usage())
        if total is not None and steps and (rest := _less(total, known)) != Usage():
            # Agents that its tools asked, and attempts that failed.
            steps.append(Step(len(steps) + 1, *self._models[-1], rest))
        reason = responses[-1].finish_reason if responses else None
        finish = "tool_calls" if theirs else _REASONS.get(reason, "stop")
        end = Complete(finish, reason, total, tuple(steps))
        return [*events, end]

    def _model(self, number: int, response: ModelResponse) -> tuple[str, str]:
        """As it was asked for, which is the name that has a price. Of several that were tried, the
        one that answered."""
        model, provider = self._models[min(number, len(self._models)) - 1]
        if model.startswith("fallback:"):
            return response.model_name or model, response.provider_name or provider
        return model, provider


def _prompt(turn: history.Turn) -> str | list[str | ImageUrl | BinaryContent]:
    if all(isinstance(part, str) for part in turn.parts):
        return turn.text
    return [part if isinstance(part, str) else _image(part) for part in turn.parts]


def _image(image: history.Image) -> ImageUrl | BinaryContent:
    detail = None if image.detail is None else {"detail": image.detail}
    if image.url:
        # Where a model's client cannot take an address, PydanticAI asks there itself, and at no
        # private one.
        media_type = None if "." in image.url.rpartition("/")[2] else "image/jpeg"
        return ImageUrl(image.url, media_type=media_type, vendor_metadata=detail)
    return BinaryContent(image.data, media_type=image.media_type, vendor_metadata=detail)


def _messages(turns: Sequence[history.Turn]) -> list[ModelMessage]:
    messages: list[ModelMessage] = []
    for turn in turns:
        if turn.answers is not None:
            call = turn.answers
            part = ToolReturnPart(call.name, turn.text, call.call_id)
            messages.append(ModelRequest(parts=[part]))
        elif turn.role == "assistant":
            calls = [ToolCallPart(call.name, call.arguments, call.call_id) for call in turn.calls]
            text = [TextPart(turn.text)] if turn.text else []
            messages.append(ModelResponse(parts=[*text, *calls]))
        else:
            messages.append(ModelRequest(parts=[UserPromptPart(_prompt(turn))]))
    return messages


def _settings(request: ChatRequest) -> ModelSettings:
    settings = {
        _SETTINGS[name]: value
        for name, value in request.options.items()
        if name in _SETTINGS and value is not None
    }
    match request.options.get("stop"):
        case str(stop):
            settings["stop_sequences"] = [stop]
        case [*stops]:
            settings["stop_sequences"] = stops
    return cast(ModelSettings, settings)


def _theirs(request: ChatRequest) -> list[ToolDefinition]:
    """The tools that the client declared, unless it wants none called."""
    if request.options.get("tool_choice") == "none":
        return []
    tools = []
    for index, tool in enumerate(request.tools):
        match tool.get("function"):
            case {"name": str(name), **further}:
                schema, strict = further.get("parameters"), further.get("strict")
                tools.append(
                    ToolDefinition(
                        name=name,
                        description=str(further.get("description") or ""),
                        parameters_json_schema=schema if isinstance(schema, dict) else _ANYTHING,
                        strict=strict if isinstance(strict, bool) else None,
                    )
                )
            case _:
                raise InvalidRequest(
                    "An agent takes tools that are functions.", param=f"tools[{index}]"
                )
    return tools


_ANYTHING: dict[str, Any] = {"type": "object", "properties": {}}


def _usage(usage: UsageBase) -> Usage | None:
    if usage.unmeasured_requests or not usage.has_values():
        return None
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_reasoning_tokens,
    )


def _less(total: Usage, part: Usage) -> Usage:
    return Usage(
        max(0, total.input_tokens - part.input_tokens),
        max(0, total.output_tokens - part.output_tokens),
        max(0, total.cached_tokens - part.cached_tokens),
        max(0, total.cache_write_tokens - part.cache_write_tokens),
        max(0, total.reasoning_tokens - part.reasoning_tokens),
    )


def _arguments(part: ToolCallPart | NativeToolCallPart) -> str:
    """The text that the model wrote, where it wrote one."""
    return part.args if isinstance(part.args, str) else _text(part.args) or "{}"


def _text(arguments: object) -> str:
    match arguments:
        case None:
            return ""
        case str():
            return arguments
        case _:
            return pydantic_core.to_json(arguments, fallback=str).decode()
