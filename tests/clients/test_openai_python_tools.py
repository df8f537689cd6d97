"""The newest openai-python with tools: the client's own, the gateway's, and both in one turn."""

import json
from collections.abc import Generator
from typing import Any

import pytest
from openai import OpenAI, pydantic_function_tool
from openai.types.chat import (
    ChatCompletion,
    ChatCompletionFunctionToolParam,
    ChatCompletionMessageParam,
)
from pydantic import BaseModel

from tests.clients.conftest import FindRow

pytestmark = pytest.mark.clients

WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
BOTH = "What time is it in Oslo, and what is the weather in Paris?"


@pytest.fixture(scope="module")
def client(base_url: str, key: str) -> Generator[OpenAI, None, None]:
    with OpenAI(base_url=base_url, api_key=key, max_retries=0) as made:
        yield made


def ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def calls(answer: ChatCompletion) -> list[tuple[str, object]]:
    """The names and arguments of the calls that the client is to make."""
    made = answer.choices[0].message.tool_calls or []
    assert len({call.id for call in made}) == len(made)
    return [
        (call.function.name, json.loads(call.function.arguments))
        for call in made
        if call.type == "function"
    ]


def complete(client: OpenAI, text: str, *, stream: bool, **options: Any) -> ChatCompletion:
    """The same answer in both ways."""
    options = {"tools": [WEATHER], **options}
    if not stream:
        whole: ChatCompletion = client.chat.completions.create(
            model="demo-fast", messages=ask(text), **options
        )
        return whole
    with client.chat.completions.stream(
        model="demo-fast", messages=ask(text), **options
    ) as streamed:
        return streamed.until_done().get_final_completion()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        pytest.param("What is the weather in Paris?", {}, ["Paris"], id="auto"),
        pytest.param("Hello.", {}, [], id="auto, not needed"),
        pytest.param("Hello.", {"tool_choice": "required"}, [...], id="required"),
        pytest.param(
            "Hello.",
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            [...],
            id="named",
        ),
        pytest.param("The weather in Paris?", {"tool_choice": "none"}, [], id="none"),
        pytest.param("The weather in Paris and Rome?", {}, ["Paris", "Rome"], id="parallel"),
        pytest.param(
            "What time is it in Oslo, and what is the weather in Paris and Rome?",
            {},
            ["Paris", "Rome"],
            id="beside a tool of the gateway",
        ),
        pytest.param(
            "The weather in Paris and Rome?",
            {"parallel_tool_calls": False},
            ["Paris"],
            id="one at a time",
        ),
    ],
)
def test_the_clients_tool_is_called_as_it_says(
    client: OpenAI, text: str, options: dict[str, Any], expected: list[Any], stream: bool
) -> None:
    answer = complete(client, text, stream=stream, **options)
    made = calls(answer)
    assert [name for name, _ in made] == ["get_weather"] * len(expected)
    if ... not in expected:
        assert [arguments for _, arguments in made] == [{"city": city} for city in expected]
    assert answer.choices[0].finish_reason == ("tool_calls" if expected else "stop")
    assert bool(answer.choices[0].message.content) is not bool(expected)


def test_the_stream_helper_tells_when_arguments_are_whole(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="demo-fast", messages=ask("The weather in Paris and Rome?"), tools=[WEATHER]
    ) as stream:
        events = list(stream)
    done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [(event.index, json.loads(event.arguments)) for event in done] == [
        (0, {"city": "Paris"}),
        (1, {"city": "Rome"}),
    ]
    pieces = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert len(pieces) > len(done)


class GetWeather(BaseModel):
    """The weather in a city"""

    city: str


def test_the_stream_helper_parses_arguments_of_a_strict_tool(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="demo-fast",
        messages=ask("What is the weather in Paris?"),
        tools=[pydantic_function_tool(GetWeather, name="get_weather")],
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments == GetWeather(city="Paris")


def test_a_round_trip_with_the_clients_tool_ends_in_text(client: OpenAI, row: FindRow) -> None:
    messages = ask("What is the weather in Paris and Rome?")
    first = client.chat.completions.create(model="demo-fast", messages=messages, tools=[WEATHER])
    assert first.choices[0].message.tool_calls is not None
    messages.append(first.choices[0].message)  # type: ignore[arg-type]  # as OpenAI's guide has it
    degrees = {"Paris": 17, "Rome": 23}
    for call in first.choices[0].message.tool_calls:
        assert call.type == "function"
        city = json.loads(call.function.arguments)["city"]
        result = json.dumps({"city": city, "degrees": degrees[city]})
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    second = client.chat.completions.create(model="demo-fast", messages=messages, tools=[WEATHER])
    text = second.choices[0].message.content or ""
    assert "17" in text
    assert "23" in text
    assert second.choices[0].finish_reason == "stop"
    assert [row(answer.id)["tool_calls"] for answer in (first, second)] == [0, 0]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_one_turn_may_need_tools_of_both_sides(client: OpenAI, row: FindRow, stream: bool) -> None:
    """The gateway runs its clock and hands over the rest. It still knows the time when the client
    comes back, though the client never saw that call."""
    first = complete(client, BOTH, stream=stream)
    assert calls(first) == [("get_weather", {"city": "Paris"})]
    assert first.choices[0].finish_reason == "tool_calls"
    assert row(first.id)["tool_calls"] == 1
    message = first.choices[0].message
    assert message.tool_calls is not None
    answers: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 17}'}
        for call in message.tool_calls
    ]
    second = client.chat.completions.create(
        model="demo-fast",
        messages=[*ask(BOTH), message.model_dump(), *answers],  # type: ignore[list-item]  # as above
        tools=[WEATHER],
    )
    text = second.choices[0].message.content or ""
    assert "In Oslo it is" in text
    assert "17" in text
    assert second.choices[0].finish_reason == "stop"
    assert row(second.id)["tool_calls"] == 0, "the clock was asked a second time"


def test_notifications_tell_only_of_the_gateways_tools(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="demo-fast", messages=ask(BOTH), tools=[WEATHER]
    ) as stream:
        events = list(stream)
    told = [
        (record["tool"], record["status"])
        for event in events
        if event.type == "chunk"
        and (record := (event.chunk.model_extra or {}).get("tool_notification"))
    ]
    assert told == [("current_time", "started"), ("current_time", "completed")]
    done = [event.name for event in events if event.type == "tool_calls.function.arguments.done"]
    assert done == ["get_weather"]


def test_a_tool_of_the_client_stands_before_one_of_the_gateway(client: OpenAI) -> None:
    """Whoever brings a tool of the same name wants to run it."""
    clock: ChatCompletionFunctionToolParam = {
        "type": "function",
        "function": {
            "name": "current_time",
            "description": "The time in a place",
            "parameters": {
                "type": "object",
                "properties": {"timezone": {"type": "string"}},
                "required": ["timezone"],
            },
        },
    }
    answer = client.chat.completions.create(
        model="demo-fast", messages=ask("What time is it in Oslo?"), tools=[clock]
    )
    assert calls(answer) == [("current_time", {"timezone": "Oslo"})]
