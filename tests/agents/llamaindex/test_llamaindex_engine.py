"""LlamaIndex's agent workflows as engines: the same as running them directly, told as events."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
)
from llama_index.core.agent.workflow.workflow_events import ToolCallResult as DirectResult
from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.llms.mock import MockFunctionCallingLLM
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context, InputRequiredEvent
from llama_index.core.workflow import Event as WorkflowEvent

from adapters.agents.llamaindex import LlamaIndexEngine
from gateway.errors import GatewayError, InvalidRequest, RateLimited
from gateway.events import (
    Complete,
    Delta,
    Event,
    ReasoningDelta,
    Step,
    StepStart,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
    Usage,
)
from gateway.server.pipeline import seal
from tests.agents.llamaindex.scripted_llm import Round, ScriptedLLM, Thought, call, used
from tests.samples import a_call, a_request, drain

# The framework's own parts use what others of its parts have deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

WEATHER: tuple[Round, Round] = (
    (
        Thought("hmm "),
        "Let me ",
        "check.",
        call("c1", "slow", city="Oslo"),
        call("c2", "boom"),
        used(30, 9),
    ),
    ("It ", "is sunny", used(50, 3, choices=[{"finish_reason": "stop"}])),
)


class Halfway(WorkflowEvent):
    message: str
    done: int
    total: int


async def slow(ctx: Context, city: str) -> str:
    """Looks at the sky."""
    await asyncio.sleep(0.02)
    ctx.write_event_to_stream(Halfway(message=f"halfway to {city}", done=1, total=2))
    return f"{city}: 20"


async def boom() -> str:
    """Fails."""
    raise KeyError("not today")


def agent(*rounds: Round, tools: Sequence[Any] = (slow, boom), **options: Any) -> FunctionAgent:
    whole = options.pop("whole", False)
    return FunctionAgent(
        name="weather", tools=list(tools), llm=ScriptedLLM(*rounds, whole=whole), **options
    )


def ask(workflow: object, **fields: object):  # type: ignore[no-untyped-def]  # as the engine says
    request = a_request(**fields)
    return LlamaIndexEngine(workflow, "weather").stream(a_call(request), request)


def timeless(events: Sequence[Event]) -> list[Event]:
    return [
        ToolCallResult(event.call_id, event.status, event.output)
        if isinstance(event, ToolCallResult)
        else event
        for event in events
    ]


def text(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@pytest.mark.parametrize("kind", ["one agent", "a workflow"])
@pytest.mark.parametrize("whole", [False, True], ids=["pieces", "text so far"])
async def test_a_run_is_told_event_by_event(kind: str, whole: bool) -> None:
    workflow: Any = agent(*WEATHER, whole=whole)
    if kind == "a workflow":
        workflow = AgentWorkflow(agents=[workflow])
    assert timeless(await drain(ask(workflow))) == [
        StepStart(1, "scripted-0", "scripted"),
        ReasoningDelta("hmm "),
        Delta("Let me "),
        Delta("check."),
        ToolCallStart("c1", "slow", "server"),
        ToolCallReady("c1", '{"city":"Oslo"}'),
        ToolCallStart("c2", "boom", "server"),
        ToolCallReady("c2", "{}"),
        ToolCallResult("c2", "error", "'not today'"),
        ToolCallProgress("c1", "halfway to Oslo", 1, 2),
        ToolCallResult("c1", "ok", "Oslo: 20"),
        StepStart(2, "scripted-0", "scripted", None, Usage(30, 9)),
        Delta("It "),
        Delta("is sunny"),
        Complete(
            provider_reason="stop",
            usage=Usage(80, 12),
            steps=(
                Step(1, "scripted-1", "scripted", Usage(30, 9)),
                Step(2, "scripted-1", "scripted", Usage(50, 3)),
            ),
        ),
    ]


def generate(messages: Sequence[ChatMessage], **_: object) -> ChatMessage:
    if any(message.role == "tool" for message in messages):
        return ChatMessage(role="assistant", content="It is sunny")
    blocks = [TextBlock(text="Let me check."), call("c1", "slow", city="Oslo"), call("c2", "boom")]
    return ChatMessage(role="assistant", blocks=blocks)


def mocked() -> FunctionAgent:
    llm = MockFunctionCallingLLM(response_generator=generate, is_chat_model=True)
    return FunctionAgent(tools=[slow, boom], llm=llm)


@pytest.mark.parametrize(
    "make",
    [lambda: agent(*WEATHER), mocked],
    ids=["scripted", "the framework's mock"],
)
async def test_text_tools_and_results_are_those_of_a_direct_run(make: Any) -> None:
    handler = make().run(user_msg="Hi")
    direct = [event async for event in handler.stream_events()]
    answer = await handler
    events = await drain(ask(make()))
    said = "".join(event.delta for event in direct if isinstance(event, AgentStream))
    assert text(events) == said
    assert said.endswith(answer.response.content)
    wanted = [
        (item.tool_id, item.tool_name, item.tool_kwargs, item.tool_output.content)
        for item in direct
        if isinstance(item, DirectResult)
    ]
    names = {event.call_id: event.name for event in events if isinstance(event, ToolCallStart)}
    arguments = {
        event.call_id: json.loads(event.arguments)
        for event in events
        if isinstance(event, ToolCallReady)
    }
    told = [
        (event.call_id, names[event.call_id], arguments[event.call_id], event.output)
        for event in events
        if isinstance(event, ToolCallResult)
    ]
    assert told == wanted
    assert len(names) == len(told) > 0


async def test_usage_that_was_not_reported_is_none() -> None:
    events = await drain(ask(mocked()))
    assert isinstance(events[-1], Complete)
    assert events[-1].usage is None
    assert [step.usage for step in events[-1].steps] == [None, None]


async def test_an_agent_that_does_not_stream_is_told_as_well() -> None:
    events = await drain(ask(agent(*WEATHER, streaming=False)))
    assert [event.text for event in events if isinstance(event, Delta)] == [
        "Let me check.",
        "It is sunny",
    ]
    assert len([event for event in events if isinstance(event, ToolCallResult)]) == 2


async def test_thinking_that_came_whole_is_told() -> None:
    def think(messages: Sequence[ChatMessage], **_: object) -> ChatMessage:
        blocks = [ThinkingBlock(content="hmm"), TextBlock(text="Yes")]
        return ChatMessage(role="assistant", blocks=blocks)

    llm = MockFunctionCallingLLM(response_generator=think, is_chat_model=True)
    events = await drain(ask(FunctionAgent(llm=llm)))
    assert ReasoningDelta("hmm") in events
    assert text(events) == "Yes"


async def test_a_react_agents_thoughts_are_no_answer() -> None:
    llm = ScriptedLLM(
        ("Thought: I must look.\n", "Action: look\n", 'Action Input: {"at": "sky"}', used(5, 5)),
        ("Thought: I can answer.\n", "Answer: It is ", "sunny", used(7, 7)),
    )

    def look(at: str) -> str:
        """Looks."""
        return f"{at} is blue"

    direct = await ReActAgent(tools=[look], llm=_copy(llm)).run(user_msg="Hi")
    events = await drain(ask(ReActAgent(tools=[look], llm=llm)))
    assert text(events) == direct.response.content == "It is sunny"
    thought = "".join(event.text for event in events if isinstance(event, ReasoningDelta))
    assert thought.startswith("Thought: I must look.\nAction: look")
    assert [event.output for event in events if isinstance(event, ToolCallResult)] == [
        "sky is blue"
    ]
    assert isinstance(events[-1], Complete)
    assert events[-1].usage == Usage(12, 12)


def _copy(llm: ScriptedLLM) -> ScriptedLLM:
    return ScriptedLLM(*llm._rounds)


async def test_a_tools_result_may_be_the_answer() -> None:
    def look() -> str:
        """Looks."""
        return "blue"

    direct = FunctionTool.from_defaults(look, return_direct=True)
    events = await drain(ask(agent(("Let me see. ", call("c1", "look")), tools=[direct])))
    assert text(events) == "Let me see. blue"
    assert isinstance(events[-1], Complete)


async def test_agents_hand_over_to_each_other() -> None:
    hand = call("h1", "handoff", to_agent="second", reason="they know")
    first = FunctionAgent(
        name="first", description="asks", llm=ScriptedLLM((hand, used(1, 1))), tools=[]
    )
    second = FunctionAgent(
        name="second", description="knows", llm=ScriptedLLM(("Blue", used(2, 2))), tools=[]
    )
    workflow = AgentWorkflow(agents=[first, second], root_agent="first")
    events = await drain(ask(workflow))
    assert [event.agent for event in events if isinstance(event, StepStart)] == [
        "first",
        "second",
    ]
    assert [event.name for event in events if isinstance(event, ToolCallStart)] == ["handoff"]
    assert text(events) == "Blue"
    assert isinstance(events[-1], Complete)
    assert events[-1].usage == Usage(3, 3)
    assert len(events[-1].steps) == 2


async def test_calls_that_share_an_id_are_told_apart() -> None:
    """Some models call a call by its tool's name."""
    calls = [call("look", "look", at="sky"), call("look", "look", at="sea")]

    async def look(at: str) -> str:
        """Looks."""
        await asyncio.sleep(0.03 if at == "sky" else 0)
        return at

    events = await drain(ask(agent(tuple(calls), ("Done",), tools=[look])))
    ready = {
        event.call_id: json.loads(event.arguments)["at"]
        for event in events
        if isinstance(event, ToolCallReady)
    }
    results = {event.call_id: event.output for event in events if isinstance(event, ToolCallResult)}
    assert ready == results
    assert len(ready) == 2


async def test_a_tool_may_change_what_it_was_given() -> None:
    async def look(places: list[str]) -> str:
        """Looks."""
        return places.pop()

    calls = (call("c1", "look", places=["sea", "sky"]), call("c2", "look", places=["sun"]))
    events = await drain(ask(agent(calls, ("Done",), tools=[look])))
    results = {event.call_id: event.output for event in events if isinstance(event, ToolCallResult)}
    assert results == {"c1": "sky", "c2": "sun"}


@pytest.mark.parametrize(
    ("reported", "told"),
    [("length", "length"), ("max_tokens", "length"), ("refusal", "content_filter"), ("x", "stop")],
)
async def test_an_answer_that_was_cut_says_so(reported: str, told: str) -> None:
    end = used(1, 1, choices=[{"finish_reason": reported}])
    events = await drain(ask(agent(("It is", end))))
    assert isinstance(events[-1], Complete)
    assert (events[-1].finish_reason, events[-1].provider_reason) == (told, reported)


class StatusError(Exception):
    def __init__(self, status: int) -> None:
        self.status_code = status


class APIConnectionError(Exception):
    pass


@pytest.mark.parametrize("before", [(), ("It is",)], ids=["before text", "after text"])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(StatusError(429), 429, "rate_limit_exceeded", id="limit"),
        pytest.param(StatusError(401), 502, "upstream_auth", id="key"),
        pytest.param(StatusError(500), 502, "upstream_error", id="fault"),
        pytest.param(APIConnectionError(), 502, "upstream_unreachable", id="not there"),
        pytest.param(TimeoutError(), 504, "upstream_timeout", id="slow"),
        pytest.param(RateLimited("Not now."), 429, "rate_limit_exceeded", id="ours"),
    ],
)
async def test_a_model_that_fails_keeps_its_status(
    error: Exception, status: int, code: str, before: tuple[str, ...]
) -> None:
    heard: list[Event] = []
    with pytest.raises(GatewayError) as caught:
        await _collect(ask(agent((*before, error))), heard)
    assert (caught.value.status, caught.value.code) == (status, code)
    # Nothing before the first token: the response's status waits for it.
    assert [type(event) for event in heard] == ([StepStart, Delta] if before else [])


async def _collect(events: Any, heard: list[Event]) -> None:
    async for batch in events:
        heard += batch


async def test_a_fault_of_the_agent_is_one_error() -> None:
    events = await drain(seal(ask(agent(("Well", ZeroDivisionError("secret"))))))
    assert [type(event).__name__ for event in events] == ["StepStart", "Delta", "Error"]
    assert getattr(events[-1], "code", None) == "internal_error"


async def test_an_agent_that_goes_round_in_circles_gives_up() -> None:
    events = await drain(seal(ask(agent((call("c1", "boom"),)))))
    assert getattr(events[-1], "message", "") == (
        "The agent 'weather' gave up: Max iterations of 20 reached."
    )
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert len(starts) == len({event.call_id for event in starts})
    assert len([event for event in events if isinstance(event, ToolCallResult)]) == len(starts)


async def test_an_agents_own_time_runs_out() -> None:
    events = await drain(seal(ask(agent(("Well", 60), timeout=0.2))))
    assert getattr(events[-1], "code", None) == "upstream_timeout"


async def test_a_persons_answer_cannot_be_given_here() -> None:
    async def confirm(ctx: Context) -> str:
        """Asks a person."""
        ctx.write_event_to_stream(InputRequiredEvent(prefix="Sure?"))
        await asyncio.sleep(60)
        return "yes"

    before = asyncio.all_tasks()
    events = await drain(seal(ask(agent((call("c1", "confirm"),), tools=[confirm]))))
    assert getattr(events[-1], "code", None) == "agent_deferred"
    assert [event.status for event in events if isinstance(event, ToolCallResult)] == ["cancelled"]
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize(
    "leave_at",
    [Delta("Let me "), ToolCallReady("c1", '{"city":"Oslo"}')],
    ids=["while the model speaks", "while a tool runs"],
)
async def test_closing_the_stream_stops_the_run(leave_at: Event) -> None:
    ended: list[str] = []

    async def slow(city: str) -> str:
        """Looks."""
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(city)
        return city

    pause = 60 if isinstance(leave_at, Delta) else 0
    rounds = ("Let me ", pause, call("c1", "slow", city="Oslo"))
    before = asyncio.all_tasks()
    async with aclosing(ask(agent(rounds, tools=[slow]))) as events:
        async for batch in events:
            if leave_at in batch:
                await asyncio.sleep(0.05)
                break
    assert asyncio.all_tasks() <= before
    assert ended == ([] if pause else ["Oslo"])


async def test_cancelling_who_listens_stops_the_run() -> None:
    before = asyncio.all_tasks()
    listener = asyncio.create_task(drain(ask(agent((60, "too late")))))
    await asyncio.sleep(0.05)
    listener.cancel()
    await asyncio.wait((listener,))
    assert listener.cancelled()
    assert asyncio.all_tasks() <= before


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
    workflow = agent(("ok",), system_prompt="Own.")
    messages = [
        *HISTORY,
        {"role": "assistant", "content": "391"},
        {"role": "user", "content": [{"type": "text", "text": "And 18?"}]},
    ]
    await drain(ask(workflow, messages=messages))
    [asked] = workflow.llm.asked
    assert [(message.role.value, message.content) for message in asked] == [
        ("system", "Own."),
        ("system", "Be brief."),
        ("user", "What is 17 * 23?"),
        ("assistant", "Let me see."),
        ("tool", "391"),
        ("assistant", "391"),
        ("user", "And 18?"),
    ]
    [block] = [block for block in asked[3].blocks if isinstance(block, ToolCallBlock)]
    assert (block.tool_call_id, block.tool_name) == ("t1", "calculator")
    assert block.tool_kwargs == {"expression": "17*23"}
    assert asked[4].additional_kwargs["tool_call_id"] == "t1"


async def test_a_turn_may_end_with_results() -> None:
    workflow = agent(("ok",))
    events = await drain(ask(workflow, messages=HISTORY))
    assert text(events) == "ok"
    assert workflow.llm.asked[0][-1].role == "tool"


async def test_images_are_handed_on() -> None:
    workflow = agent(("ok",))
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lGODlhAQABAAAAADs="}},
    ]
    await drain(ask(workflow, messages=[{"role": "user", "content": content}]))
    [[message]] = workflow.llm.asked
    said, image = message.blocks
    assert isinstance(image, ImageBlock)
    assert image.image_mimetype == "image/gif"
    assert image.resolve_image().read().startswith(b"GIF")
    assert isinstance(said, TextBlock)
    assert said.text == "What is this?"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "dial"}}]}, "tools"),
        ({"n": 2}, "n"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}
                        ],
                    }
                ]
            },
            "messages[0]",
        ),
        ({"messages": HISTORY[2:]}, "messages"),
    ],
    ids=["tools", "several answers", "an image elsewhere", "no question"],
)
async def test_what_an_agent_cannot_do_is_refused(fields: dict[str, object], param: str) -> None:
    workflow = agent(("ok",))
    with pytest.raises(InvalidRequest) as caught:
        await drain(ask(workflow, **fields))
    assert (caught.value.status, caught.value.param) == (400, param)
    assert workflow.llm.asked == []


async def test_runs_side_by_side_do_not_mix() -> None:
    workflow = mocked()
    runs = await asyncio.gather(*(drain(ask(workflow)) for _ in range(5)))
    assert {text(events) for events in runs} == {"Let me check.It is sunny"}


@pytest.mark.parametrize("found", [3, ScriptedLLM(("x",))], ids=["number", "model"])
def test_only_agents_are_taken(found: object) -> None:
    with pytest.raises(ValueError, match="expected an agent workflow of LlamaIndex"):
        LlamaIndexEngine(found, "x")
