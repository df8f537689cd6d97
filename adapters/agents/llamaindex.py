"""LlamaIndex's agent workflows as engines."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import cast

import orjson
from llama_index.core.agent.workflow import (
    AgentInput,
    AgentOutput,
    AgentStream,
    AgentWorkflow,
    BaseWorkflowAgent,
    ReActAgent,
    ToolCall,
    ToolCallResult,
)
from llama_index.core.agent.workflow.workflow_events import (
    AgentSetup,
    AgentStreamStructuredOutput,
)
from llama_index.core.base.llms.types import ContentBlock, ThinkingBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.workflow import Event as WorkflowEvent
from llama_index.core.workflow import InputRequiredEvent, StopEvent
from workflows.errors import WorkflowRuntimeError, WorkflowTimeoutError

from adapters.agents import history
from adapters.agents.calls import Calls
from adapters.agents.faults import translate
from adapters.agents.reported import Reported, read_report
from gateway.errors import GatewayError, InvalidRequest, ProviderFailed, ProviderTimedOut
from gateway.events import (
    Complete,
    Delta,
    Event,
    FinishReason,
    ReasoningDelta,
    Step,
    StepStart,
    Usage,
)
from gateway.ports import Batch, Events
from gateway.records import Call
from gateway.request import ChatRequest

_REASONS: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "MAX_TOKENS": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "SAFETY": "content_filter",
}
"""Providers' words for an end that was not the model's own."""


_NAMELESS = "unknown"
"""What LlamaIndex calls a model that has no name."""


class LlamaIndexEngine:
    """An agent workflow of LlamaIndex: `AgentWorkflow`, or one agent (`FunctionAgent`, `ReActAgent`, …)."""

    def __init__(self, agent: object, name: str) -> None:
        """`name` is what errors call it. Raises `ValueError`."""
        if not isinstance(agent, AgentWorkflow | BaseWorkflowAgent):
            raise ValueError(
                "expected an agent workflow of LlamaIndex (AgentWorkflow, FunctionAgent, …), "
                f"got a {type(agent).__name__}"
            )
        self._workflow = agent
        self._agents: dict[str, BaseWorkflowAgent] = (
            agent.agents if isinstance(agent, AgentWorkflow) else {agent.name: agent}
        )
        self._name = name

    async def stream(self, call: Call, request: ChatRequest, /) -> Events:
        turns = history.read(request)
        if not any(turn.role == "user" for turn in turns):
            raise InvalidRequest("An agent needs a message of the user.", param="messages")
        messages = [_message(f"messages[{index}]", turn) for index, turn in enumerate(turns)]
        last = messages.pop() if turns[-1].role == "user" else None
        run = _Run(self._agents)
        handler = self._workflow.run(user_msg=last, chat_history=messages)
        try:
            async with aclosing(handler.stream_events()) as events:
                async for event in events:
                    if batch := run.take(event):
                        yield batch
            yield run.end(await handler)
        except Exception as error:  # whatever the client of the agent's model raised
            known = self._known(error)
            if known is None:
                raise
            raise known from error
        finally:
            if not handler.is_done():
                await handler.cancel_run()

    async def aclose(self) -> None:
        """Let go of the connections of models that can do so."""
        for agent in self._agents.values():
            close = getattr(agent.llm, "aclose", None)
            if callable(close):
                await close()

    def _known(self, error: Exception) -> GatewayError | None:
        if isinstance(error, WorkflowTimeoutError):
            return ProviderTimedOut(f"The agent {self._name!r} was not done in its own time.")
        if isinstance(error, WorkflowRuntimeError):
            # The rest is advice for who wrote the agent.
            reason = str(error).partition("! Either ")[0]
            return ProviderFailed(f"The agent {self._name!r} gave up: {reason}.")
        return translate(self._name, error)


class _Run:
    """One run of a workflow: what it said so far, and what that means for the next event."""

    def __init__(self, agents: Mapping[str, BaseWorkflowAgent]) -> None:
        self._agents = agents
        self._calls = Calls()
        self._running: dict[str, tuple[str, str]] = {}
        """The framework's id and the arguments of each call that runs, by an id that is unique: some
        models call a call by its tool's name, so that two of them have the same."""
        self._steps: list[Step] = []
        self._report: Reported | None = None
        """Of the round that runs; None between two."""
        self._told = False
        """Whether the round that runs was told."""
        self._said = self._thought = ""
        """Its text and its thinking."""
        self._direct = False
        """Whether the last tool's result is to be the answer."""
        self._reason: str | None = None

    def take(self, event: WorkflowEvent) -> Batch:
        match event:
            case AgentInput():
                self._ask()
            case AgentStream():
                return self._stream(event)
            case AgentOutput():
                return self._close(event)
            case ToolCall():
                return self._start(event)
            case ToolCallResult():
                return self._finish(event)
            case InputRequiredEvent():
                raise ProviderFailed(
                    "The agent waits for a person's answer: there is no way to give it that here.",
                    code="agent_deferred",
                    retryable=False,
                )
            case StopEvent() | AgentSetup() | AgentStreamStructuredOutput():
                pass
            case _:
                fields = {**event.model_dump(), **event.to_dict()}
                return self._calls.report(
                    fields, fields.get("tool_id") or fields.get("tool_call_id")
                )
        return ()

    def _ask(self) -> Reported:
        """A round begins. Its first event is told together with what the model says first."""
        self._report = Reported()
        self._told = self._direct = False
        self._said = self._thought = ""
        return self._report

    def _stream(self, event: AgentStream) -> Batch:
        report = self._report or self._ask()
        report.add(read_report(event.raw))
        # Some integrations fill in only what was said so far.
        text = event.delta or _rest(event.response, self._said)
        self._said += text
        events: list[Event] = []
        if event.thinking_delta:
            self._thought += event.thinking_delta
            events.append(ReasoningDelta(event.thinking_delta))
        if text and isinstance(self._agents.get(event.current_agent_name), ReActAgent):
            # It thinks aloud, and what of that is the answer is known when it has ended.
            events.append(ReasoningDelta(text))
        elif text:
            events.append(Delta(text))
        return self._in_step(event.current_agent_name, events)

    def _close(self, event: AgentOutput) -> Batch:
        """A round ends: what was not streamed is told, and what it used is known."""
        report = self._report or self._ask()
        report.add(read_report(event.raw))
        events: list[Event] = []
        for block in event.response.blocks:
            if isinstance(block, ThinkingBlock) and block.content and not self._thought:
                events.append(ReasoningDelta(block.content))
        agent = self._agents.get(event.current_agent_name)
        text = event.response.content or ""
        if text and not self._said and not isinstance(agent, ReActAgent):
            self._said = text
            events.append(Delta(text))
        told = self._in_step(event.current_agent_name, events, over=True)
        model, provider = self._model(event.current_agent_name)
        self._steps.append(Step(len(self._steps) + 1, model, provider, report.usage))
        self._reason = report.finish_reason
        self._report = None
        return told

    def _in_step(self, agent: str, events: list[Event], *, over: bool = False) -> list[Event]:
        """With the beginning of the round before its first events, or when it is over without any."""
        if self._told or not (events or over):
            return events
        self._told = True
        model, provider = self._model(agent)
        spent = sum((step.usage for step in self._steps if step.usage is not None), Usage())
        number = len(self._steps) + 1
        name = agent if len(self._agents) > 1 else None
        return [StepStart(number, model, provider, name, spent), *events]

    def _model(self, name: str) -> tuple[str, str]:
        """Of the agent `name`: its model, and who provides it."""
        agent = self._agents.get(name)
        if agent is None:
            return name, "llamaindex"
        provider = getattr(agent.llm, "provider_name", None)  # of one of ours
        if not isinstance(provider, str):
            provider = agent.llm.class_name().lower().removesuffix("llm").rstrip("_")
        reported = self._report.model if self._report is not None else None
        model = reported or agent.llm.metadata.model_name
        return name if model == _NAMELESS else model, provider

    def _start(self, event: ToolCall) -> Batch:
        call_id = event.tool_id
        while call_id in self._running:
            call_id += "'"
        arguments = _dump(event.tool_kwargs)
        self._running[call_id] = (event.tool_id, arguments)
        return self._calls.ready(call_id, event.tool_name, arguments)

    def _finish(self, event: ToolCallResult) -> Batch:
        output = event.tool_output
        self._direct = self._direct or (event.return_direct and not output.is_error)
        said = (event.tool_id, _dump(event.tool_kwargs))
        # A tool may have changed what it was given: then it is any call of that id.
        ids = [call_id for call_id, call in self._running.items() if call[0] == event.tool_id]
        call_id = next((call_id for call_id in ids if self._running[call_id] == said), ids[0])
        del self._running[call_id]
        return self._calls.finish(call_id, "error" if output.is_error else "ok", output.content)

    def end(self, result: object) -> Batch:
        events: list[Event] = []
        if isinstance(result, AgentOutput):
            # What a tool returned as the answer, or what a ReAct agent concluded.
            text = result.response.content or ""
            agent = self._agents.get(result.current_agent_name)
            if isinstance(agent, ReActAgent) or self._direct or not self._said:
                events = [Delta(text)] if text else []
        usages = [step.usage for step in self._steps if step.usage is not None]
        usage = sum(usages, Usage()) if usages and len(usages) == len(self._steps) else None
        reason = _REASONS.get(self._reason or "", "stop")
        return [*events, Complete(reason, self._reason, usage, tuple(self._steps))]


def _message(place: str, turn: history.Turn) -> ChatMessage:
    blocks: list[ContentBlock] = [
        TextBlock(text=part) if isinstance(part, str) else _image(place, part)
        for part in turn.parts
    ]
    blocks += [
        ToolCallBlock(tool_call_id=call.call_id, tool_name=call.name, tool_kwargs=_load(call))
        for call in turn.calls
    ]
    more = {}
    if turn.answers is not None:
        more = {"tool_call_id": turn.answers.call_id, "name": turn.answers.name}
    return ChatMessage(role=MessageRole(turn.role), blocks=blocks, additional_kwargs=more)


def _image(place: str, image: history.Image) -> ImageBlock:
    if image.url:
        # Many integrations would fetch it themselves, from whatever address it names.
        raise InvalidRequest(
            "This agent takes images only as data:image/…;base64,…",
            param=place,
            code="invalid_value",
        )
    return ImageBlock(image=image.data, image_mimetype=image.media_type, detail=image.detail)


def _load(call: history.Called) -> dict[str, object] | str:
    try:
        arguments = orjson.loads(call.arguments)
    except orjson.JSONDecodeError:
        return call.arguments
    return cast(dict[str, object], arguments) if isinstance(arguments, dict) else call.arguments


def _dump(arguments: Mapping[str, object]) -> str:
    return orjson.dumps(arguments, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _rest(text: str, said: str) -> str:
    return text[len(said) :] if text.startswith(said) else ""
