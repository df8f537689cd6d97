"""PydanticAI's agents as engines: the same as running them directly, told as events."""

import asyncio
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import (
    Agent,
    AgentRunResult,
    AgentRunResultEvent,
    CustomEvent,
    DeferredToolRequests,
    ModelRetry,
    RunContext,
)
from pydantic_ai.capabilities import Hooks
from pydantic_ai.exceptions import (
    ModelConnectionError,
    ModelHTTPError,
    ModelTimeoutError,
    ToolFailed,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import (
    AgentStreamEvent,
    BinaryContent,
    ContentCitationAnchor,
    ImageUrl,
    ModelMessage,
    ModelRequest,
    ModelResponse,
    NativeToolCallPart,
    NativeToolReturnPart,
    PartDeltaEvent,
    PartEndEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ToolReturnPart,
    UserPromptPart,
    WebCitationSource,
)
from pydantic_ai.messages import Citation as CitedPart
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingPart,
    DeltaToolCall,
    FunctionModel,
)
from pydantic_ai.models.test import TestModel

from adapters.agents.pydantic_ai import PydanticAIEngine
from gateway.errors import GatewayError, InvalidRequest
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    ReasoningDelta,
    Step,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.server.pipeline import seal
from tests.samples import a_call, a_key, a_request, drain

TestModel.__test__ = False  # type: ignore[attr-defined]  # its name looks like that of a test


async def weather_model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    """Thinks, says something, calls two tools; then answers."""
    if any(isinstance(message, ModelResponse) for message in messages):
        yield "It "
        yield "is sunny"
        return
    yield {0: DeltaThinkingPart(content="hmm ")}
    yield {0: DeltaThinkingPart(content="well")}
    yield {0: DeltaThinkingPart(signature="signed")}
    yield "Let me "
    yield "check."
    yield {1: DeltaToolCall(name="slow", json_args='{"city":', tool_call_id="c1")}
    yield {1: DeltaToolCall(json_args=' "Oslo"}')}
    yield {2: DeltaToolCall(name="boom", json_args="{}", tool_call_id="c2")}


def weather(fault: Exception | None = None) -> Agent[None, str]:
    agent = Agent(FunctionModel(stream_function=weather_model))

    @agent.tool_plain
    async def slow(city: str) -> dict[str, object]:
        await asyncio.sleep(0.02)
        return {"city": city, "degrees": 20}

    @agent.tool_plain
    async def boom() -> str:
        raise fault or ModelRetry("not today")

    return agent


def trial() -> Agent[None, str]:
    agent = Agent(TestModel())

    @agent.tool_plain
    def look(where: str) -> str:
        return f"looked at {where}"

    return agent


def ask(agent: object, **fields: object):  # type: ignore[no-untyped-def]  # as the engine says
    request = a_request(**fields)
    return PydanticAIEngine(agent, "weather").stream(a_call(request), request)


def timeless(events: list[Event]) -> list[Event]:
    return [
        ToolCallResult(event.call_id, event.status, event.output)
        if isinstance(event, ToolCallResult)
        else event
        for event in events
    ]


async def broken(events) -> tuple[list[Event], Exception]:  # type: ignore[no-untyped-def]
    """What was said until it failed, and with what."""
    heard: list[Event] = []
    try:
        async for batch in events:
            heard += batch
    except Exception as error:
        return timeless(heard), error
    raise AssertionError(f"nothing failed: {heard}")


async def test_a_run_is_told_event_by_event() -> None:
    assert timeless(await drain(ask(weather()))) == [
        StepStart(1, "function::weather_model", "function"),
        ReasoningDelta("hmm "),
        ReasoningDelta("well"),
        ReasoningDelta("", signature="signed"),
        Delta("Let me "),
        Delta("check."),
        ToolCallStart("c1", "slow", "server"),
        ToolCallDelta("c1", '{"city":'),
        ToolCallDelta("c1", ' "Oslo"}'),
        ToolCallStart("c2", "boom", "server"),
        ToolCallDelta("c2", "{}"),
        ToolCallReady("c1", '{"city": "Oslo"}'),
        ToolCallReady("c2", "{}"),
        ToolCallResult("c2", "error", "not today"),
        ToolCallResult("c1", "ok", '{"city":"Oslo","degrees":20}'),
        StepStart(2, "function::weather_model", "function", None, Usage(50, 13)),
        Delta("It "),
        Delta("is sunny"),
        Complete(
            usage=Usage(100, 16),
            steps=(
                Step(1, "function::weather_model", "function", Usage(50, 13)),
                Step(2, "function::weather_model", "function", Usage(50, 3)),
            ),
        ),
    ]


async def directly(agent: Agent[None, str]) -> AgentRunResult[str]:
    """A streamed run without the gateway: models may count otherwise when they do not stream."""
    async with agent.run_stream_events("Hi") as events:
        last = [event async for event in events][-1]
    assert isinstance(last, AgentRunResultEvent)
    return last.result


@pytest.mark.parametrize("make", [weather, trial], ids=["scripted", "the framework's test model"])
async def test_text_tools_and_usage_are_those_of_a_direct_run(make: Callable[[], Any]) -> None:
    direct = await directly(make())
    events = await drain(ask(make()))
    history = direct.all_messages()
    responses = [item for item in history if isinstance(item, ModelResponse)]
    text = "".join(response.text or "" for response in responses)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == text
    called = [call for response in responses for call in response.tool_calls]
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [event.name for event in starts] == [call.tool_name for call in called]
    ready = [event for event in events if isinstance(event, ToolCallReady)]
    assert [json.loads(event.arguments) for event in ready] == [
        call.args_as_dict() for call in called
    ]
    returned = [
        part.model_response_str(wrap_if_error=False)
        for message in history
        for part in message.parts
        if isinstance(part, ToolReturnPart)
    ]
    results = [event.output for event in events if isinstance(event, ToolCallResult)]
    assert sorted(results) == sorted(returned)
    assert len(results) == len(called) > 0
    end = events[-1]
    assert isinstance(end, Complete)
    assert end.usage == Usage(direct.usage.input_tokens, direct.usage.output_tokens)
    assert end.usage == sum((step.usage or Usage() for step in end.steps), Usage())


class Report(BaseModel):
    city: str
    degrees: int


async def test_an_answer_with_a_type_is_its_json() -> None:
    model = TestModel(custom_output_args={"city": "Oslo", "degrees": 20})
    events = await drain(ask(Agent(model, output_type=Report)))
    assert [type(event) for event in events] == [StepStart, Delta, Complete]
    assert events[1] == Delta('{"city":"Oslo","degrees":20}')


async def test_a_rejected_answer_is_not_shown() -> None:
    """The model is asked again, and only what was accepted at last is the answer."""

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        args = '{"city": 3}' if len(messages) == 1 else '{"city": "Oslo", "degrees": 1}'
        yield {0: DeltaToolCall(name=info.output_tools[0].name, json_args=args)}

    events = await drain(ask(Agent(FunctionModel(stream_function=model), output_type=Report)))
    assert [event for event in events if isinstance(event, Delta)] == [
        Delta('{"city":"Oslo","degrees":1}')
    ]
    assert isinstance(events[-1], Complete)
    assert len(events[-1].steps) == 2


@pytest.mark.parametrize("text", ["", "Here:"])
async def test_text_before_a_typed_answer_stays(text: str) -> None:
    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if text:
            yield text
        yield {
            1: DeltaToolCall(
                name=info.output_tools[0].name, json_args='{"city": "Oslo", "degrees": 1}'
            )
        }

    events = await drain(ask(Agent(FunctionModel(stream_function=model), output_type=Report)))
    said = "".join(event.text for event in events if isinstance(event, Delta))
    assert said == text + '{"city":"Oslo","degrees":1}'


async def test_a_tool_that_raises_ends_the_run_with_its_calls_closed() -> None:
    heard, error = await broken(ask(weather(KeyError("secret"))))
    assert isinstance(error, KeyError)
    assert heard[-1] == ToolCallResult("c2", "error", "The tool failed.")


async def test_one_error_ends_a_stream_in_which_a_tool_raised() -> None:
    events = timeless(await drain(seal(ask(weather(KeyError("secret"))))))
    assert events[-3:-1] == [
        ToolCallResult("c2", "error", "The tool failed."),
        ToolCallResult("c1", "cancelled", "Cancelled."),
    ]
    assert getattr(events[-1], "code", None) == "internal_error"


async def test_a_tool_that_says_that_it_failed_is_an_error_of_the_tool() -> None:
    events = timeless(await drain(ask(weather(ToolFailed("no such place")))))
    assert ToolCallResult("c2", "error", "no such place") in events
    assert isinstance(events[-1], Complete)


def failing(error: Exception, *, after: str = "") -> Agent[None, str]:
    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if after:
            yield after
        raise error
        yield ""

    return Agent(FunctionModel(stream_function=model))


@pytest.mark.parametrize("after", ["", "It is"], ids=["before text", "after text"])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(ModelHTTPError(429, "m"), 429, "rate_limit_exceeded", id="limit"),
        pytest.param(ModelHTTPError(401, "m"), 502, "upstream_auth", id="key"),
        pytest.param(
            ModelHTTPError(400, "m", {"message": "too long", "code": "context_length_exceeded"}),
            400,
            "context_length_exceeded",
            id="request",
        ),
        pytest.param(ModelHTTPError(500, "m"), 502, "upstream_error", id="fault"),
        pytest.param(ModelTimeoutError("m", "slow"), 504, "upstream_timeout", id="slow"),
        pytest.param(
            ModelConnectionError("m", "gone"), 502, "upstream_unreachable", id="not there"
        ),
        pytest.param(UnexpectedModelBehavior("odd"), 502, "upstream_error", id="odd"),
    ],
)
async def test_a_model_that_fails_keeps_its_status(
    error: Exception, status: int, code: str, after: str
) -> None:
    heard, raised = await broken(ask(failing(error, after=after)))
    assert isinstance(raised, GatewayError)
    assert (raised.status, raised.code) == (status, code)
    # Nothing before the first token: the response's status waits for it.
    assert [event for event in heard if not isinstance(event, StepStart)] == (
        [Delta(after)] if after else []
    )
    assert heard == [] or after


async def test_an_agent_that_gives_up_says_why() -> None:
    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id=f"c{len(messages)}")}

    agent = Agent(FunctionModel(stream_function=model))

    @agent.tool_plain
    def look() -> str:
        raise ModelRetry("not today")

    events = await drain(seal(ask(agent)))
    error = events[-1]
    assert isinstance(error, Error)
    assert (error.status, error.code) == (502, "upstream_error")
    assert re.match("The agent 'weather' gave up: .*look.* retries", error.message)
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert len([event for event in events if isinstance(event, ToolCallResult)]) == len(starts)


@pytest.mark.parametrize(
    "leave_at",
    [Delta("Let me "), ToolCallStart("c1", "slow", "server"), ToolCallReady("c2", "{}")],
    ids=["text", "call", "tools"],
)
async def test_closing_the_stream_stops_the_run(leave_at: Event) -> None:
    stopped = asyncio.Event()
    agent = Agent(FunctionModel(stream_function=weather_model))

    @agent.tool_plain
    async def slow(city: str) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return city

    @agent.tool_plain
    async def boom() -> str:
        await asyncio.sleep(60)
        return ""

    before = asyncio.all_tasks()
    async with aclosing(ask(agent)) as events:
        async for batch in events:
            if leave_at in batch:
                await asyncio.sleep(0.05)
                break
    assert asyncio.all_tasks() <= before
    assert stopped.is_set() == isinstance(leave_at, ToolCallReady)


async def test_cancelling_who_listens_stops_the_run() -> None:
    agent = Agent(FunctionModel(stream_function=_silent))
    before = asyncio.all_tasks()
    listener = asyncio.create_task(drain(ask(agent)))
    await asyncio.sleep(0.05)
    listener.cancel()
    await asyncio.wait((listener,))
    assert listener.cancelled()
    assert asyncio.all_tasks() <= before


async def _silent(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    await asyncio.sleep(60)
    yield "too late"


@dataclass(kw_only=True)
class HalfwayEvent(CustomEvent):
    message: str
    done: int
    total: int


async def test_what_a_tool_reports_is_progress_of_its_call() -> None:
    agent = Agent(FunctionModel(stream_function=weather_model))

    @agent.tool
    async def slow(ctx: RunContext[None], city: str) -> str:
        await ctx.emit(HalfwayEvent(message=f"halfway to {city}", done=1, total=2))
        return city

    @agent.tool_plain
    async def boom() -> str:
        return "fine"

    events = await drain(ask(agent))
    assert ToolCallProgress("c1", "halfway to Oslo", 1, 2) in events


async def test_a_providers_own_tools_are_told_as_the_providers() -> None:
    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        yield {
            0: NativeToolCallPart("web_search", {"query": "tides"}, "n1", provider_name="function")
        }
        yield {1: NativeToolReturnPart("web_search", ["high"], "n1", provider_name="function")}
        yield "High."

    events = await drain(ask(Agent(FunctionModel(stream_function=model))))
    told = timeless([event for event in events if not isinstance(event, StepStart | Complete)])
    assert told[0] == ToolCallStart("n1", "web_search", "provider")
    assert ToolCallReady("n1", '{"query":"tides"}') in told
    assert ToolCallResult("n1", "ok", '["high"]') in told
    assert told[-1] == Delta("High.")


async def test_sources_are_told_with_their_place_in_the_whole_answer() -> None:
    source = WebCitationSource("https://example.com/tides", title="Tides")
    anchor = ContentCitationAnchor(start=0, end=3)

    async def cite(
        ctx: RunContext[None], *, stream: AsyncIterable[AgentStreamEvent]
    ) -> AsyncIterator[AgentStreamEvent]:
        async for event in stream:
            yield event
            match event:
                case PartEndEvent(index=index, part=TextPart(content="It is sunny")):
                    citations = [CitedPart([source], anchor=anchor), CitedPart([source])]
                    delta = TextPartDelta("", citations_delta=citations)
                    yield PartDeltaEvent(index=index, delta=delta)

    agent = Agent(
        FunctionModel(stream_function=weather_model), capabilities=[Hooks(run_event_stream=cite)]
    )

    @agent.tool_plain
    def slow(city: str) -> str:
        return city

    @agent.tool_plain
    def boom() -> str:
        return ""

    events = await drain(ask(agent))
    start = len("Let me check.")
    assert [event for event in events if isinstance(event, Citation)] == [
        Citation("https://example.com/tides", "Tides", start, start + 3),
        Citation("https://example.com/tides", "Tides", 0, 0),
    ]


def remembering(agent_options: dict[str, Any] | None = None):  # type: ignore[no-untyped-def]
    """An agent whose model only notes what it is asked."""
    asked: list[tuple[list[ModelMessage], AgentInfo]] = []

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        asked.append((messages, info))
        yield "ok"

    return Agent(FunctionModel(stream_function=model), **(agent_options or {})), asked


HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 17 * 23?"},
    {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {
                "id": "t1",
                "type": "function",
                "function": {"name": "calculator", "arguments": '{"expression": "17*23"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "391"},
]


async def test_earlier_turns_and_system_messages_reach_the_model() -> None:
    agent, asked = remembering({"instructions": "Own.", "system_prompt": "First."})
    messages = [
        *HISTORY,
        {"role": "assistant", "content": "391"},
        {"role": "user", "content": [{"type": "text", "text": "And 18?"}]},
    ]
    await drain(ask(agent, messages=messages))
    [(history, _)] = asked
    requests = [message for message in history if isinstance(message, ModelRequest)]
    parts = [part for request in requests for part in request.parts]
    texts = [part.content for part in parts if isinstance(part, UserPromptPart | SystemPromptPart)]
    assert texts == ["First.", "What is 17 * 23?", "And 18?"]
    [result] = [part for part in parts if isinstance(part, ToolReturnPart)]
    assert (result.tool_name, result.tool_call_id, result.content) == ("calculator", "t1", "391")
    [called, said] = [message for message in history if isinstance(message, ModelResponse)]
    assert (called.text, called.tool_calls[0].args) == ("Let me see.", '{"expression": "17*23"}')
    assert said.text == "391"
    assert requests[-1].instructions == "Own.\n\nBe brief."


@pytest.mark.parametrize("content", ["", [], [{"type": "text", "text": ""}]])
async def test_a_question_may_be_empty(content: object) -> None:
    agent, asked = remembering()
    await drain(ask(agent, messages=[{"role": "user", "content": content}]))
    [(history, _)] = asked
    assert [part.content for part in history[0].parts] == [""]


async def test_a_turn_may_end_with_results() -> None:
    agent, asked = remembering()
    events = await drain(ask(agent, messages=HISTORY))
    assert Delta("ok") in events
    [(history, _)] = asked
    assert isinstance(history[-1].parts[-1], ToolReturnPart)


async def test_images_are_handed_on() -> None:
    agent, asked = remembering()
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAADs="}},
    ]
    await drain(ask(agent, messages=[{"role": "user", "content": content}]))
    [(history, _)] = asked
    [part] = history[0].parts
    text, remote, inline = part.content
    assert text == "What is this?"
    assert isinstance(remote, ImageUrl)
    assert (remote.url, remote.vendor_metadata) == ("https://example.com/a.png", {"detail": "low"})
    assert isinstance(inline, BinaryContent)
    assert (inline.media_type, inline.data[:3]) == ("image/gif", b"GIF")


async def test_options_that_the_framework_knows_reach_the_model() -> None:
    agent, asked = remembering()
    options = {"temperature": 0.5, "max_completion_tokens": 9, "stop": "END", "user": "x"}
    await drain(ask(agent, options=options))
    [(_, info)] = asked
    assert info.model_settings == {"temperature": 0.5, "max_tokens": 9, "stop_sequences": ["END"]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "custom", "custom": {"name": "dial"}}]}, "tools[0]"),
        ({"n": 2}, "n"),
        ({"options": {"response_format": {"type": "json_object"}}}, "response_format"),
    ],
)
async def test_what_an_agent_cannot_do_is_refused(fields: dict[str, object], param: str) -> None:
    agent, asked = remembering()
    with pytest.raises(InvalidRequest) as caught:
        await drain(ask(agent, **fields))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert asked == []


DIAL = {
    "type": "function",
    "function": {
        "name": "dial",
        "description": "Dials a number.",
        "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
    },
}
DIALED = {
    "id": "c2",
    "type": "function",
    "function": {"name": "dial", "arguments": '{"number": "112"}'},
}


def telephone() -> Any:
    """An agent with a tool of its own, whose model calls the client's as well."""
    asked: list[AgentInfo] = []

    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        asked.append(info)
        offered = {tool.name for tool in info.function_tools}
        if isinstance(messages[-1].parts[-1], ToolReturnPart):
            yield "Done: " + messages[-1].parts[-1].model_response_str()
            return
        yield "Let me "
        yield {1: DeltaToolCall(name="look", json_args="{}", tool_call_id="c1")}
        if "dial" in offered:
            yield {2: DeltaToolCall(name="dial", json_args='{"number":', tool_call_id="c2")}
            yield {2: DeltaToolCall(json_args=' "112"}')}

    agent = Agent(FunctionModel(stream_function=model))

    @agent.tool_plain
    def look() -> str:
        return "seen"

    return agent, asked


async def test_tools_of_the_client_are_its_own_to_run() -> None:
    agent, asked = telephone()
    events = timeless(await drain(seal(ask(agent, tools=[DIAL]))))
    [dial] = [tool for tool in asked[0].function_tools if tool.name == "dial"]
    assert (dial.description, dial.parameters_json_schema) == (
        "Dials a number.",
        DIAL["function"]["parameters"],
    )
    assert ToolCallStart("c1", "look", "server") in events
    assert ToolCallResult("c1", "ok", "seen") in events
    assert ToolCallStart("c2", "dial", "client") in events
    assert ToolCallReady("c2", '{"number": "112"}') in events
    end = events[-1]
    assert isinstance(end, Complete)
    assert end.finish_reason == "tool_calls"
    assert not any(isinstance(event, Delta) and "dial" in event.text for event in events)


async def test_the_client_comes_back_with_its_results() -> None:
    agent, _ = telephone()
    messages = [
        {"role": "user", "content": "Help"},
        {"role": "assistant", "content": "Let me ", "tool_calls": [DIALED]},
        {"role": "tool", "tool_call_id": "c2", "content": "answered"},
    ]
    events = await drain(ask(agent, messages=messages, tools=[DIAL]))
    assert [event.text for event in events if isinstance(event, Delta)] == ["Done: answered"]
    assert isinstance(events[-1], Complete)
    assert events[-1].finish_reason == "stop"


async def test_tools_that_a_client_wants_uncalled_are_not_offered() -> None:
    agent, asked = telephone()
    events = await drain(ask(agent, tools=[DIAL], options={"tool_choice": "none"}))
    assert [tool.name for tool in asked[0].function_tools] == ["look"]
    assert isinstance(events[-1], Complete)
    assert events[-1].finish_reason == "stop"


async def test_a_tool_of_the_client_does_not_take_an_agents_name() -> None:
    agent, asked = telephone()
    tool = {"type": "function", "function": {"name": "look"}}
    with pytest.raises(InvalidRequest, match="has the name of one that 'weather' has itself"):
        await drain(ask(agent, tools=[tool]))
    assert asked == []


async def test_an_agent_with_a_typed_answer_may_call_the_clients_tools_as_well() -> None:
    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if len(messages) == 1:
            yield {0: DeltaToolCall(name="dial", json_args="{}", tool_call_id="c2")}
        else:
            args = '{"city": "Oslo", "degrees": 1}'
            yield {0: DeltaToolCall(name=info.output_tools[0].name, json_args=args)}

    agent = Agent(FunctionModel(stream_function=model), output_type=Report)
    events = await drain(ask(agent, tools=[DIAL]))
    assert isinstance(events[-1], Complete)
    assert events[-1].finish_reason == "tool_calls"


async def test_dependencies_are_made_for_each_call() -> None:
    agent = Agent(TestModel(), deps_type=str)

    @agent.tool
    def whoami(ctx: RunContext[str]) -> str:
        return ctx.deps

    engine = PydanticAIEngine(agent, "who", deps=lambda call: call.key.email)
    request = a_request()
    events = await drain(
        engine.stream(a_call(request, key=a_key(email="eve@example.com")), request)
    )
    assert [event.output for event in events if isinstance(event, ToolCallResult)] == [
        "eve@example.com"
    ]


async def test_an_approval_cannot_be_given_here() -> None:
    agent = Agent(TestModel(), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def delete() -> str:
        return "gone"

    events = await drain(seal(ask(agent)))
    assert getattr(events[-1], "code", None) == "agent_deferred"
    assert [event.status for event in events if isinstance(event, ToolCallResult)] == ["cancelled"]


@pytest.mark.parametrize("found", [3, TestModel(), "agent"], ids=["number", "model", "text"])
def test_only_agents_are_taken(found: object) -> None:
    with pytest.raises(ValueError, match="expected an Agent of PydanticAI, got a"):
        PydanticAIEngine(found, "x")


async def test_of_models_that_stand_in_for_each_other_the_one_that_answered_is_named() -> None:
    async def refuse(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        raise ModelHTTPError(503, "first")
        yield ""

    first = FunctionModel(stream_function=refuse, model_name="first")
    second = FunctionModel(stream_function=_plain, model_name="second")
    events = await drain(ask(Agent(FallbackModel(first, second))))
    end = events[-1]
    assert isinstance(end, Complete)
    assert [step.model for step in end.steps] == ["second"]


async def _plain(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
    yield "ok"


async def test_tools_of_two_rounds_with_the_same_id_are_two_calls() -> None:
    async def model(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if len(messages) < 5:
            yield {0: DeltaToolCall(name="look", json_args="{}", tool_call_id="call_0")}
        else:
            yield "done"

    agent = Agent(FunctionModel(stream_function=model))

    @agent.tool_plain
    def look() -> str:
        return "x"

    events = await drain(ask(agent))
    ids = [event.call_id for event in events if isinstance(event, ToolCallStart)]
    assert ids[0] == "call_0"
    assert len(set(ids)) == 2
    assert [event.call_id for event in events if isinstance(event, ToolCallResult)] == ids
