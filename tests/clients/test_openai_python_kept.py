"""The newest openai-python with answers that are kept: followed, fetched, deleted, and whose they are."""

import json
from collections.abc import Generator
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.responses import FunctionToolParam, Response

from tests.servers.gateway import Gateway

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
def test_an_answer_is_kept_and_followed(client: OpenAI, stream: bool) -> None:
    first = create(client, stream, input="say hello there", metadata={"a": "b"})
    again = client.responses.retrieve(first.id)
    assert (again.output_text, again.usage) == (first.output_text, first.usage)
    assert [item.id for item in again.output] == [item.id for item in first.output]
    asked = client.responses.input_items.list(first.id)
    assert [item.type for item in asked] == ["message"]
    second = create(client, stream, input="What did I say?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        create(client, stream, input="Hi", previous_response_id=first.id)
    assert gone.value.code == "previous_response_not_found"


@both_ways
def test_a_call_is_answered_by_what_follows(client: OpenAI, stream: bool) -> None:
    first = create(client, stream, input=BOTH, tools=[WEATHER])
    call = next(item for item in first.output if item.type == "function_call")
    output: Any = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": json.dumps({"city": "Paris", "degrees": 17}),
    }
    second = create(client, stream, input=[output], tools=[WEATHER], previous_response_id=first.id)
    assert "In Oslo it is" in second.output_text
    assert "17" in second.output_text
    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        create(client, stream, input="Well?", previous_response_id=first.id)
    other = {**output, "call_id": "call_other"}
    with pytest.raises(openai.BadRequestError, match="No tool call found"):
        create(client, stream, input=[other], previous_response_id=first.id)


@both_ways
def test_a_conversation_goes_on(client: OpenAI, stream: bool) -> None:
    name = f"conversation {stream}"
    first = create(client, stream, input=BOTH, tools=[WEATHER], conversation=name)
    assert first.conversation is not None
    assert first.conversation.id == name
    call = next(item for item in first.output if item.type == "function_call")
    output: Any = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": json.dumps({"city": "Paris", "degrees": 17}),
    }
    second = create(client, stream, input=[output], tools=[WEATHER], conversation={"id": name})
    assert "In Oslo it is" in second.output_text
    assert "17" in second.output_text
    with pytest.raises(openai.BadRequestError, match="Mutually exclusive"):
        create(client, stream, input="Hi", conversation=name, previous_response_id=first.id)


def test_items_that_are_kept_can_be_named(client: OpenAI) -> None:
    first = client.responses.create(model="demo-fast", input="say hello there")
    named: Any = [
        {"role": "user", "content": "say hello there"},
        *({"type": "item_reference", "id": item.id} for item in first.output),
        {"role": "user", "content": "What did I say?"},
    ]
    assert client.responses.create(model="demo-fast", input=named).status == "completed"
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.create(model="demo-fast", input=named)


def test_tokens_of_what_follows_are_those_of_all_that_led_to_it(client: OpenAI) -> None:
    first = client.responses.create(model="demo-fast", input="say hello there")
    alone = client.responses.input_tokens.count(model="demo-fast", input="And?")
    whole = client.responses.input_tokens.count(
        model="demo-fast", input="And?", previous_response_id=first.id
    )
    assert 0 < alone.input_tokens < whole.input_tokens


def test_what_is_not_to_be_kept_is_not(client: OpenAI) -> None:
    answer = client.responses.create(model="demo-fast", input="say hello there", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_an_answer_is_its_users_alone(client: OpenAI, base_url: str, gateway: Gateway) -> None:
    answer = client.responses.create(model="demo-fast", input="say hello there")
    with OpenAI(base_url=base_url, api_key=gateway.key("other@example.com")) as other:
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(answer.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.delete(answer.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.create(model="demo-fast", input="Hi", previous_response_id=answer.id)
    assert client.responses.retrieve(answer.id).id == answer.id
