"""The newest anthropic-python: messages, streamed and whole, as its users write it."""

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, Generator
from typing import Any, cast

import anthropic
import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic, beta_tool
from anthropic.lib.streaming import BetaMessageStream
from anthropic.types import Message, MessageParam, ToolParam
from pydantic import BaseModel

from tests.clients.conftest import FindRow
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.clients

QUESTION = "What time is it in Oslo, and what is 17 * 23?"
BOTH = "What time is it in Oslo, and what is the weather in Paris and Rome?"
ANSWER = re.compile(r"In Oslo it is \d\d:\d\d on \w+, .+ 17 \* 23 = 391\.")
WEATHER: ToolParam = {
    "name": "get_weather",
    "description": "The weather in a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def client(gateway: Gateway, key: str) -> Generator[Anthropic, None, None]:
    with Anthropic(base_url=gateway.url, api_key=key, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
async def aclient(gateway: Gateway, key: str) -> AsyncGenerator[AsyncAnthropic, None]:
    async with AsyncAnthropic(base_url=gateway.url, auth_token=key, max_retries=0) as made:
        yield made


def ask(text: str) -> list[MessageParam]:
    return [{"role": "user", "content": text}]


def say(client: Anthropic, messages: Any, *, stream: bool = False, **options: Any) -> Message:
    """The same answer in both ways."""
    options = {"model": "demo-fast", "max_tokens": 1000, "messages": messages, **options}
    if not stream:
        return cast(Message, client.messages.create(**options))
    with client.messages.stream(**options) as streamed:
        return streamed.get_final_message()


def text_of(message: Message) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def calls_of(message: Message) -> list[tuple[str, object]]:
    return [(block.name, block.input) for block in message.content if block.type == "tool_use"]


def request_id(message: Message) -> str:
    """A message is named after its request, as answers of the other wires are."""
    return message.id.removeprefix("msg_")


@STREAMED
def test_an_answer_shows_the_tools_of_the_gateway(
    client: Anthropic, row: FindRow, stream: bool
) -> None:
    message = say(client, ask(QUESTION), stream=stream)
    assert ANSWER.fullmatch(text_of(message))
    assert (message.role, message.model, message.stop_reason) == (
        "assistant",
        "demo-fast",
        "end_turn",
    )
    used = {
        block.id: str(block.input["code"]).partition("(")[0]
        for block in message.content
        if block.type == "server_tool_use"
    }
    assert sorted(used.values()) == ["calculator", "current_time"]
    outputs = {
        used[block.tool_use_id]: block.content
        for block in message.content
        if block.type == "code_execution_tool_result"
    }
    calculated = outputs["calculator"]
    assert calculated.type == "code_execution_result"
    assert (calculated.stdout, calculated.return_code) == ("391", 0)
    assert calls_of(message) == []
    settled = row(request_id(message))
    assert (settled["type"], settled["status"], settled["tool_calls"]) == ("messages", "ok", 2)
    assert settled["tokens_in"] == message.usage.input_tokens > 0
    assert settled["tokens_out"] == message.usage.output_tokens > 0


def test_the_request_id_is_that_of_the_row(client: Anthropic, row: FindRow) -> None:
    answer = client.messages.with_raw_response.create(
        model="demo-fast", max_tokens=10, messages=ask("say hello")
    )
    message = answer.parse()
    assert message._request_id == answer.headers["x-request-id"]
    assert row(str(message._request_id))["request_id"] == message._request_id


async def test_a_plain_loop_reads_the_events(aclient: AsyncAnthropic) -> None:
    stream = await aclient.messages.create(
        model="demo-fast", max_tokens=1000, messages=ask("count to 5"), stream=True
    )
    text, kinds = "", []
    async for event in stream:
        kinds.append(event.type)
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            text += event.delta.text
    assert text == "1, 2, 3, 4, 5."
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]


async def test_the_stream_helper_tells_text_as_it_comes(aclient: AsyncAnthropic) -> None:
    async with aclient.messages.stream(
        model="demo-fast", max_tokens=1000, messages=ask("count to 5")
    ) as stream:
        pieces = [piece async for piece in stream.text_stream]
        message = await stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(message) == "1, 2, 3, 4, 5."


@STREAMED
@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        pytest.param("The weather in Paris?", {}, ["Paris"], id="auto"),
        pytest.param("Hello.", {}, [], id="auto, not needed"),
        pytest.param("Hello.", {"tool_choice": {"type": "any"}}, [...], id="any"),
        pytest.param(
            "Hello.", {"tool_choice": {"type": "tool", "name": "get_weather"}}, [...], id="named"
        ),
        pytest.param("The weather in Paris?", {"tool_choice": {"type": "none"}}, [], id="none"),
        pytest.param("The weather in Paris and Rome?", {}, ["Paris", "Rome"], id="parallel"),
        pytest.param(
            "The weather in Paris and Rome?",
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            ["Paris"],
            id="one at a time",
        ),
        pytest.param(BOTH, {}, ["Paris", "Rome"], id="beside a tool of the gateway"),
    ],
)
def test_the_clients_tool_is_called_as_it_says(
    client: Anthropic, text: str, options: dict[str, Any], expected: list[Any], stream: bool
) -> None:
    message = say(client, ask(text), stream=stream, tools=[WEATHER], **options)
    made = calls_of(message)
    assert [name for name, _ in made] == ["get_weather"] * len(expected)
    if ... not in expected:
        assert [given for _, given in made] == [{"city": city} for city in expected]
    assert message.stop_reason == ("tool_use" if expected else "end_turn")


@STREAMED
def test_a_round_trip_with_tools_of_both_sides_ends_in_text(
    client: Anthropic, stream: bool
) -> None:
    messages = ask(BOTH)
    first = say(client, messages, stream=stream, tools=[WEATHER])
    results: Any = [
        {
            "type": "tool_result",
            "tool_use_id": block.id,
            "content": f"{cast(Any, block.input)['city']}: 17 degrees",
        }
        for block in first.content
        if block.type == "tool_use"
    ]
    messages.append({"role": "assistant", "content": first.content})
    messages.append({"role": "user", "content": results})
    last = say(client, messages, stream=stream, tools=[WEATHER])
    assert last.stop_reason == "end_turn"
    for said in ("In Oslo it is", "Paris: 17 degrees", "Rome: 17 degrees"):
        assert said in text_of(last)


@STREAMED
def test_a_conversation_in_which_tools_of_ours_ran_goes_on(client: Anthropic, stream: bool) -> None:
    messages = ask(QUESTION)
    first = say(client, messages, stream=stream)
    messages.append(first.to_param())
    messages += ask("count to 3")
    assert text_of(say(client, messages, stream=stream)) == "1, 2, 3."


class City(BaseModel):
    name: str
    people: int


class Report(BaseModel):
    title: str
    cities: list[City]


def test_an_answer_may_be_an_object_of_a_class(client: Anthropic) -> None:
    message = client.messages.parse(
        model="demo-fast",
        max_tokens=1000,
        messages=ask("A report on Oslo"),
        output_format=Report,
    )
    assert isinstance(message.parsed_output, Report)


@STREAMED
def test_the_tool_runner_runs_only_the_clients_tool(client: Anthropic, stream: bool) -> None:
    cities = []

    @beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city

        Args:
            city: its name
        """
        cities.append(city)
        return f"{city}: 17 degrees"

    runner = client.beta.messages.tool_runner(
        model="demo-fast",
        max_tokens=1000,
        tools=[get_weather],
        messages=cast(Any, ask(BOTH)),
        stream=stream,
    )
    last: Any = None
    for turn in runner:
        last = turn.get_final_message() if isinstance(turn, BetaMessageStream) else turn
    assert sorted(cities) == ["Paris", "Rome"]
    said = "".join(block.text for block in last.content if block.type == "text")
    for part in ("In Oslo it is", "Paris: 17 degrees", "Rome: 17 degrees"):
        assert part in said


def test_a_message_may_be_dumped_and_read_again(client: Anthropic) -> None:
    message = say(client, ask(QUESTION))
    assert Message.model_validate(message.model_dump()) == message


def test_the_systems_words_count(client: Anthropic) -> None:
    system: Any = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    counted = [
        client.messages.count_tokens(model="demo-fast", messages=ask("Hi"), **more).input_tokens
        for more in ({}, {"system": system}, {"tools": [WEATHER]})
    ]
    assert 0 < counted[0] < counted[1] < counted[2]


def test_a_count_is_no_call(gateway: Gateway) -> None:
    email = "counting@example.com"
    with Anthropic(base_url=gateway.url, api_key=gateway.key(email), max_retries=0) as made:
        answer = made.messages.with_raw_response.count_tokens(model="demo-fast", messages=ask("Hi"))
        with pytest.raises(anthropic.NotFoundError):
            made.messages.count_tokens(model="gpt-none", messages=ask("Hi"))
    assert "x-request-id" not in answer.headers
    assert [one for one in gateway.rows() if one["email"] == email] == []


def test_images_reach_the_model(client: Anthropic) -> None:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    content: Any = [
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": pixel},
        },
        {"type": "text", "text": "What is on these?"},
    ]
    message = say(client, [{"role": "user", "content": content}])
    assert "I see 2 images" in text_of(message)


def test_a_limit_and_a_stop_sequence_end_an_answer(client: Anthropic) -> None:
    cut = say(client, ask("count to 9"), max_tokens=3)
    assert (text_of(cut), cut.stop_reason) == ("1, 2, 3, ", "max_tokens")
    stopped = say(client, ask("count to 9"), stop_sequences=[", 4"])
    assert text_of(stopped) == "1, 2, 3"


@STREAMED
def test_a_refusal_is_one(client: Anthropic, stream: bool) -> None:
    message = say(client, ask("refuse this"), stream=stream)
    assert message.stop_reason == "refusal"
    assert message.stop_details is not None
    assert message.stop_details.explanation


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("naïve café — “quotes” 日本語 👩‍👩‍👧 \U0001f9ea", id="unicode"),
        pytest.param(
            "a\u2028b\u2029c\x85d\r\ne\n\nf\rg data: [DONE]\n\nevent: error", id="separators"
        ),
        pytest.param('{"error": {"message": "no"}} \\ "" \x00 \x1b', id="json and controls"),
        pytest.param("word " * 4_000, id="20 kB"),
    ],
)
@STREAMED
def test_text_comes_back_exactly(client: Anthropic, text: str, stream: bool) -> None:
    assert (
        text_of(say(client, ask(text), stream=stream, model="demo-echo", max_tokens=9000)) == text
    )


def test_models_are_listed(client: Anthropic) -> None:
    assert {"demo", "demo-fast"} <= {model.id for model in client.models.list()}


def test_a_base_url_may_end_as_openais_do(gateway: Gateway, key: str) -> None:
    with Anthropic(base_url=f"{gateway.url}/v1", api_key=key) as made:
        assert text_of(say(made, ask("say hello"))) == "hello"
        assert made.messages.count_tokens(model="demo", messages=ask("Hi")).input_tokens > 0


async def test_heartbeats_are_passed_over(aclient: AsyncAnthropic) -> None:
    async with aclient.messages.stream(
        model="demo-slow", max_tokens=100, messages=ask("say hello there")
    ) as stream:
        assert await stream.get_final_text() == "hello there"


# The same run over both wires


def _chat(http: httpx2.Client, *, stream: bool) -> str:
    body = {"model": "demo-fast", "messages": ask(QUESTION), "max_tokens": 1000, "stream": stream}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == httpx2.codes.OK
    return answer.headers["x-request-id"]


@STREAMED
def test_the_row_is_that_of_a_chat_completion_but_for_its_type(
    client: Anthropic, gateway: Gateway, key: str, row: FindRow, stream: bool
) -> None:
    with gateway.client(key) as http:
        other = row(_chat(http, stream=stream))
    one = row(request_id(say(client, ask(QUESTION), stream=stream)))
    for line in (*one["receipt"], *other["receipt"]):
        del line["duration_ms"]
    differ = {name for name in one if one[name] != other[name]}
    assert (one["type"], other["type"]) == ("messages", "chat")
    assert differ - {"request_id", "time", "duration_ms", "first_token_ms"} == {"type"}


# When things go wrong


@STREAMED
def test_a_wrong_key_is_an_authentication_error(client: Anthropic, stream: bool) -> None:
    with pytest.raises(anthropic.AuthenticationError) as caught:
        say(client.with_options(api_key="sk-wrong"), ask("Hi"), stream=stream)
    assert (caught.value.status_code, caught.value.type) == (401, "authentication_error")
    assert "sk-wrong" not in str(caught.value)
    with pytest.raises(anthropic.AuthenticationError):
        client.with_options(api_key="sk-wrong").messages.count_tokens(
            model="demo", messages=ask("Hi")
        )


@pytest.mark.parametrize(
    ("model", "kind", "status", "word", "code"),
    [
        ("gpt-none", anthropic.NotFoundError, 404, "not_found_error", "model_not_found"),
        ("", anthropic.BadRequestError, 400, "invalid_request_error", "invalid_value"),
        ("demo-limit", anthropic.RateLimitError, 429, "rate_limit_error", "rate_limit_exceeded"),
        ("demo-fail", anthropic.ServiceUnavailableError, 503, "overloaded_error", "upstream_error"),
        ("demo-break", anthropic.InternalServerError, 502, "api_error", "upstream_error"),
    ],
    ids=["model", "field", "limit", "failure", "break"],
)
def test_a_failure_has_its_own_class(
    client: Anthropic,
    row: FindRow,
    model: str,
    kind: type[anthropic.APIStatusError],
    status: int,
    word: str,
    code: str,
) -> None:
    with pytest.raises(kind) as caught:
        say(client, ask("count to 9"), model=model)
    error = caught.value
    assert (error.status_code, error.type) == (status, word)
    assert error.api_message
    assert error.error_code == code
    assert row(str(error.request_id))["http_status"] == status


def test_a_body_that_is_too_large_is_one(client: Anthropic) -> None:
    with pytest.raises(anthropic.RequestTooLargeError) as caught:
        say(client, ask("x" * (33 << 20)))
    assert caught.value.type == "request_too_large"


def test_a_bad_field_is_named(client: Anthropic) -> None:
    messages = [{"role": "user", "content": [{"type": "image"}]}]
    with pytest.raises(anthropic.BadRequestError) as caught:
        say(client, messages)
    assert caught.value.api_message == "messages.0.content.0.source: Field required"


@pytest.mark.parametrize(
    ("model", "code"), [("demo-break", "upstream_error"), ("demo-cut", "upstream_truncated")]
)
def test_an_error_in_a_stream_is_raised_after_the_text_before_it(
    client: Anthropic, row: FindRow, model: str, code: str
) -> None:
    seen: list[str] = []
    with (
        client.messages.stream(model=model, max_tokens=100, messages=ask("count to 9")) as stream,
        pytest.raises(anthropic.APIStatusError) as caught,
    ):
        seen.extend(stream.text_stream)
    assert "".join(seen) == "1, 2, 3, 4, 5, "
    assert caught.value.type == "api_error"
    settled = row(str(caught.value.request_id))
    assert (settled["status"], settled["error_code"]) == ("error", code)


def test_leaving_a_stream_settles_its_row_as_cancelled(client: Anthropic, row: FindRow) -> None:
    with client.messages.stream(
        model="demo-long", max_tokens=10_000, messages=ask("Go on.")
    ) as stream:
        next(iter(stream.text_stream))
    settled = row(str(stream.response.headers["request-id"]))
    assert (settled["status"], settled["http_status"]) == ("cancelled", 200)


async def test_cancelling_a_task_cancels_the_call(aclient: AsyncAnthropic, row: FindRow) -> None:
    begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        async with aclient.messages.stream(
            model="demo-long", max_tokens=10_000, messages=ask("Go on.")
        ) as stream:
            async for _ in stream.text_stream:
                if not begun.done():
                    begun.set_result(stream.response.headers["request-id"])

    task = asyncio.create_task(read())
    answer_id = await begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await asyncio.to_thread(row, answer_id))["status"] == "cancelled"


def test_a_timeout_of_the_client_cancels_the_call(client: Anthropic, gateway: Gateway) -> None:
    email = "hasty@example.com"
    with pytest.raises(anthropic.APITimeoutError):
        say(
            client.with_options(api_key=gateway.key(email), timeout=0.5),
            ask("Hi"),
            model="demo-hang",
        )
    assert [one["status"] for one in gateway.rows() if one["email"] == email] == ["cancelled"]
