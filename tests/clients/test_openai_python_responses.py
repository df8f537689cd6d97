"""The newest openai-python on the Responses API: text, tools of both sides, structure."""

import json
from collections.abc import Generator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import FunctionToolParam, Response
from pydantic import BaseModel

from tests.clients.conftest import FindRow

pytestmark = pytest.mark.clients

WEATHER: FunctionToolParam = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION = "What time is it in Oslo, and what is 17 * 23?"
BOTH = "What time is it in Oslo, and what is the weather in Paris?"


@pytest.fixture(scope="module")
def client(base_url: str, key: str) -> Generator[OpenAI, None, None]:
    with OpenAI(base_url=base_url, api_key=key, max_retries=0) as made:
        yield made


def create(client: OpenAI, stream: bool, **options: Any) -> Response:
    """The same answer in both ways."""
    options = {"model": "demo-fast", **options}
    if not stream:
        whole: Response = client.responses.create(**options)
        return whole
    with client.responses.stream(**options) as streamed:
        return streamed.get_final_response()


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both_ways
def test_a_text_is_answered(client: OpenAI, row: FindRow, stream: bool) -> None:
    answer = create(client, stream, input="say hello there")
    assert answer.output_text == "hello there"
    assert answer.status == "completed"
    assert answer.usage is not None
    account = row(answer.id.removeprefix("resp_"))
    assert (account["type"], account["status"]) == ("responses", "ok")
    assert (account["tokens_in"], account["tokens_out"]) == (
        answer.usage.input_tokens,
        answer.usage.output_tokens,
    )


@both_ways
def test_tools_of_the_gateway_are_native_items(client: OpenAI, row: FindRow, stream: bool) -> None:
    answer = create(client, stream, input=QUESTION)
    assert "391" in answer.output_text
    ran = [item for item in answer.output if item.type == "mcp_call"]
    assert sorted(item.name for item in ran) == ["calculator", "current_time"]
    assert all(item.output and item.status == "completed" for item in ran)
    assert row(answer.id.removeprefix("resp_"))["tool_calls"] == 2


@both_ways
def test_the_clients_tool_is_run_by_the_client(client: OpenAI, stream: bool) -> None:
    first = create(client, stream, input=BOTH, tools=[WEATHER], store=False)
    calls = [item for item in first.output if item.type == "function_call"]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("get_weather", {"city": "Paris"})
    ]
    history: list[Any] = [{"role": "user", "content": BOTH}, *first.output]
    history.append(
        {
            "type": "function_call_output",
            "call_id": calls[0].call_id,
            "output": json.dumps({"city": "Paris", "degrees": 17}),
        }
    )
    second = create(client, stream, input=history, tools=[WEATHER], store=False)
    assert "In Oslo it is" in second.output_text
    assert "17" in second.output_text


def test_the_helper_tells_what_comes(client: OpenAI) -> None:
    with client.responses.stream(
        model="demo-fast", input="The weather in Paris and Rome?", tools=[WEATHER]
    ) as stream:
        events = list(stream)
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [json.loads(event.arguments) for event in done] == [{"city": "Paris"}, {"city": "Rome"}]
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


class Person(BaseModel):
    name: str
    age: int


def test_structure_is_parsed(client: OpenAI) -> None:
    answer = client.responses.parse(
        model="demo-fast", input="Ada is 36 years old.", text_format=Person
    )
    assert isinstance(answer.output_parsed, Person)


def test_an_answer_that_is_cut_says_so(client: OpenAI) -> None:
    answer = client.responses.create(
        model="demo-fast", input="count to 30", max_output_tokens=5, reasoning={"effort": "none"}
    )
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


def test_errors_are_typed(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="gpt-none", input="Hi")
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as invalid:
        client.responses.create(model="demo-fast", input="Hi", temperature=3)
    assert invalid.value.param == "temperature"
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="demo-limit", input="Hi")
    with pytest.raises(openai.BadRequestError) as search:
        client.responses.create(model="demo-fast", input="Hi", tools=[{"type": "web_search"}])
    assert (search.value.param, "web_search" in search.value.message) == ("tools[0]", True)


def test_a_failure_within_a_stream_is_raised(client: OpenAI) -> None:
    stream = client.responses.create(model="demo-break", input="count to 9", stream=True)
    text: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        text.extend(e.delta for e in stream if e.type == "response.output_text.delta")
    assert caught.value.code == "upstream_error"


def test_the_same_run_has_the_same_row_on_either_api(client: OpenAI, row: FindRow) -> None:
    told = client.responses.create(model="demo-fast", input="say hello there", store=False)
    chat = client.chat.completions.create(
        model="demo-fast", messages=[{"role": "user", "content": "say hello there"}]
    )
    rows = [row(told.id.removeprefix("resp_")), row(chat.id)]
    assert [one.pop("type") for one in rows] == ["responses", "chat"]
    own = ("request_id", "time", "duration_ms", "first_token_ms")
    assert len({json.dumps({k: v for k, v in one.items() if k not in own}) for one in rows}) == 1
