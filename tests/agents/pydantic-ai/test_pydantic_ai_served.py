"""What goes wrong in an agent of PydanticAI, as the gateway's clients see it."""

from collections.abc import Generator
from typing import Any

import openai
import pytest

from tests.agents.order_desk import (
    ask,
    check_that_leaving_stops,
    check_that_one_error_ends,
    frames,
    row_of,
    serving,
)
from tests.servers.gateway import Gateway

AGENTS = """
import asyncio
from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.function import DeltaToolCall, FunctionModel

from adapters.agents.pydantic_ai import PydanticAIEngine


async def calling(messages, info):
    yield "Let me look. "
    yield {1: DeltaToolCall(name="look", json_args="{}", tool_call_id="c1")}
    yield {2: DeltaToolCall(name="wait", json_args="{}", tool_call_id="c2")}


async def refusing(messages, info):
    raise ModelHTTPError(429, "m")
    yield ""


async def breaking(messages, info):
    yield "Let me "
    raise ModelHTTPError(500, "m", {"message": "boom"})


def with_tools(fault):
    agent = Agent(FunctionModel(stream_function=calling))

    @agent.tool_plain
    async def look() -> str:
        await asyncio.sleep(0.05)
        if fault:
            raise KeyError("secret of the desk")
        return "seen"

    @agent.tool_plain
    async def wait() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            Path(__file__).with_name("broken" if fault else "cancelled").touch()
            raise
        return "waited"

    return agent


async def dialing(messages, info):
    last = messages[-1].parts[-1]
    if last.part_kind == "tool-return":
        yield last.model_response_str()
    else:
        yield {0: DeltaToolCall(name="dial", json_args="{}")}


dials = Agent(FunctionModel(stream_function=dialing))
tool_fails = with_tools(True)
waits = with_tools(False)
refused = Agent(FunctionModel(stream_function=refusing))
breaks = Agent(FunctionModel(stream_function=breaking))


def greeting() -> PydanticAIEngine:
    agent = Agent(FunctionModel(stream_function=greet), deps_type=str)

    @agent.instructions
    def name(ctx) -> str:
        return ctx.deps

    return PydanticAIEngine(agent, "greeting", deps=lambda call: call.key.email)


async def greet(messages, info):
    yield f"Hello {info.instructions}"
"""
NAMES = ("tool_fails", "waits", "refused", "breaks", "greeting", "dials")
CONFIG = "models:\n" + "".join(f'  {name}: {{engine: "troubles:{name}"}}\n' for name in NAMES)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    folder = tmp_path_factory.mktemp("troubles")
    with serving(folder, CONFIG, {"troubles.py": AGENTS}) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key("eve@example.com"), max_retries=0
    ) as client:
        yield client


def test_a_tool_that_raises_closes_what_was_open_and_ends_in_one_error(gateway: Gateway) -> None:
    told = frames(gateway, "tool_fails")
    statuses = ["started", "started", "failed", "cancelled"]
    check_that_one_error_ends(told, "internal_error", statuses)
    assert not any("secret of the desk" in data for _, data in told)


def test_a_model_that_breaks_off_ends_in_one_error(gateway: Gateway) -> None:
    check_that_one_error_ends(frames(gateway, "breaks"), "upstream_error", [])


def test_a_model_that_refuses_is_a_true_status(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, model="refused")
    request_id = caught.value.response.headers["x-request-id"]
    assert row_of(gateway, request_id)["error_code"] == "rate_limit_exceeded"


def test_whoever_leaves_stops_the_tools(gateway: Gateway) -> None:
    check_that_leaving_stops(gateway, "waits", gateway.folder / "cancelled")


def test_an_agent_may_know_who_calls(client: openai.OpenAI) -> None:
    assert ask(client, model="greeting").text == "Hello eve@example.com"


def test_tools_of_the_client_come_back_to_it(client: openai.OpenAI) -> None:
    """The whole turn, with the SDK: the model calls, the client runs, the agent goes on."""
    messages: list[Any] = [{"role": "user", "content": "Call them."}]
    tools: Any = [{"type": "function", "function": {"name": "dial"}}]
    first = client.chat.completions.create(model="dials", messages=messages, tools=tools)
    assert first.choices[0].finish_reason == "tool_calls"
    message = first.choices[0].message
    assert message.tool_calls is not None
    [call] = message.tool_calls
    messages += [
        message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "nobody answered"},
    ]
    second = client.chat.completions.create(model="dials", messages=messages, tools=tools)
    assert second.choices[0].message.content == "nobody answered"
