"""The newest openai-python: answers, streamed and whole, as its users write it."""

import asyncio
import base64
import gc
import re
from collections.abc import AsyncGenerator, Generator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.clients.conftest import FindRow

pytestmark = pytest.mark.clients

QUESTION = "What time is it in Oslo, and what is 17 * 23?"
ANSWER = re.compile(r"In Oslo it is \d\d:\d\d on \w+, .+ 17 \* 23 = 391\.")
TOLD = [
    ("current_time", "started"),
    ("calculator", "started"),
    ("calculator", "completed"),
    ("current_time", "completed"),
]


@pytest.fixture(scope="module")
def client(base_url: str, key: str) -> Generator[OpenAI, None, None]:
    with OpenAI(base_url=base_url, api_key=key, max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
async def aclient(base_url: str, key: str) -> AsyncGenerator[AsyncOpenAI, None]:
    async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as made:
        yield made


def ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def told(chunk: ChatCompletionChunk) -> dict[str, Any] | None:
    record: dict[str, Any] | None = (chunk.model_extra or {}).get("tool_notification")
    return record


def test_a_plain_loop_reads_the_answer_and_the_notifications(client: OpenAI, row: FindRow) -> None:
    text, notifications = "", []
    stream = client.chat.completions.create(model="demo-fast", messages=ask(QUESTION), stream=True)
    for chunk in stream:
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        if notification := told(chunk):
            notifications.append((notification["tool"], notification["status"]))
    assert ANSWER.fullmatch(text)
    assert sorted(notifications) == sorted(TOLD)
    settled = row(stream.response.headers["x-request-id"])
    assert (settled["status"], settled["tool_calls"], settled["steps"]) == ("ok", 2, 2)


async def test_a_plain_loop_reads_the_same_when_async(aclient: AsyncOpenAI, row: FindRow) -> None:
    text, notifications, answer_id = "", [], ""
    stream = await aclient.chat.completions.create(
        model="demo-fast", messages=ask(QUESTION), stream=True
    )
    async for chunk in stream:
        answer_id = chunk.id
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
        if notification := told(chunk):
            notifications.append((notification["tool"], notification["status"]))
    assert ANSWER.fullmatch(text)
    assert sorted(notifications) == sorted(TOLD)
    assert row(answer_id)["status"] == "ok"


def test_a_loop_that_indexes_into_every_chunk_never_fails(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="demo-fast", messages=ask(QUESTION), stream=True)
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in chunks)


def test_the_dialect_is_told_and_can_be_asked_for(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response
    newest = raw.create(model="demo-fast", messages=ask(QUESTION), stream=True)
    assert newest.headers["x-tool-notifications"] == "named"
    assert sum(told(chunk) is not None for chunk in newest.parse()) == len(TOLD)
    asked = raw.create(
        model="demo-fast",
        messages=ask(QUESTION),
        stream=True,
        extra_headers={"X-Tool-Notifications": "off"},
    )
    assert asked.headers["x-tool-notifications"] == "off"
    assert not any(told(chunk) for chunk in asked.parse())


def test_a_raw_response_has_the_headers_people_log(client: OpenAI, row: FindRow) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="demo-fast",
        messages=ask("say hello"),
        extra_headers={"X-Client-Request-Id": "mine-1"},
    )
    answer = raw.parse()
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-client-request-id"] == "mine-1"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.request_id == answer._request_id == row(answer.id)["request_id"]


def test_a_whole_answer_has_usage_that_is_in_its_row(client: OpenAI, row: FindRow) -> None:
    answer = client.chat.completions.create(model="demo-fast", messages=ask(QUESTION))
    assert ANSWER.fullmatch(answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    assert answer.usage is not None
    assert answer._request_id is not None
    settled = row(answer._request_id)
    assert settled["status"] == "ok"
    assert (settled["tokens_in"], settled["tokens_out"]) == (
        answer.usage.prompt_tokens,
        answer.usage.completion_tokens,
    )


def test_usage_comes_once_in_a_chunk_without_choices(client: OpenAI, row: FindRow) -> None:
    stream = client.chat.completions.create(
        model="demo-fast",
        messages=ask("count to 5"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert [bool(chunk.usage) for chunk in chunks].index(True) == len(chunks) - 1
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage is not None
    settled = row(chunks[-1].id)
    assert (settled["tokens_in"], settled["tokens_out"]) == (
        usage.prompt_tokens,
        usage.completion_tokens,
    )
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_the_stream_helper_tells_text_and_keeps_the_whole(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="demo-fast", messages=ask(QUESTION), stream_options={"include_usage": True}
    ) as stream:
        events = list(stream)
        final = stream.get_final_completion()
    text = "".join(event.delta for event in events if event.type == "content.delta")
    assert ANSWER.fullmatch(text)
    assert [event.content for event in events if event.type == "content.done"] == [text]
    assert final.choices[0].message.content == text
    assert final.choices[0].message.tool_calls is None
    assert final.choices[0].finish_reason == "stop"
    assert final.usage is not None
    seen = [told(event.chunk) for event in events if event.type == "chunk"]
    assert sum(record is not None for record in seen) == len(TOLD)


async def test_the_stream_helper_does_the_same_when_async(aclient: AsyncOpenAI) -> None:
    async with aclient.chat.completions.stream(model="demo-fast", messages=ask(QUESTION)) as stream:
        text = "".join([event.delta async for event in stream if event.type == "content.delta"])
        final = await stream.get_final_completion()
    assert ANSWER.fullmatch(text)
    assert final.choices[0].message.content == text


class Weather(BaseModel):
    city: str
    degrees: int
    sunny: bool


class Report(BaseModel):
    title: str
    cities: list[Weather]


def test_parse_gives_an_object_of_the_class(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="demo-fast", messages=ask("A report on Oslo"), response_format=Report
    )
    assert isinstance(answer.choices[0].message.parsed, Report)


def test_the_stream_helper_parses_while_it_streams(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="demo-fast", messages=ask("A report on Oslo"), response_format=Report
    ) as stream:
        done = [event.parsed for event in stream if event.type == "content.done"]
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Report)
    assert done == [final.choices[0].message.parsed]


def test_choices_come_side_by_side_and_apart(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="demo-fast", messages=ask("Who are you?"), n=3)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in whole.choices]
    assert all(texts)
    with client.chat.completions.stream(
        model="demo-fast", messages=ask("Who are you?"), n=3
    ) as stream:
        final = stream.until_done().get_final_completion()
    assert [choice.message.content for choice in final.choices] == texts
    assert [choice.finish_reason for choice in final.choices] == ["stop"] * 3


def test_logprobs_cover_every_piece_of_text(client: OpenAI) -> None:
    whole = client.chat.completions.create(
        model="demo-fast", messages=ask("count to 5"), logprobs=True, top_logprobs=3
    )
    scored = whole.choices[0].logprobs
    assert scored is not None
    assert scored.content is not None
    assert "".join(token.token for token in scored.content) == "1, 2, 3, 4, 5."
    assert {len(token.top_logprobs) for token in scored.content} == {3}
    with client.chat.completions.stream(
        model="demo-fast", messages=ask("count to 5"), logprobs=True, top_logprobs=3
    ) as stream:
        final = stream.until_done().get_final_completion()
    assert final.choices[0].logprobs == scored


def test_the_same_request_gets_the_same_answer(client: OpenAI) -> None:
    first, second = (
        client.chat.completions.create(
            model="demo-fast", messages=ask("write 30 words"), seed=7, temperature=0
        )
        for _ in range(2)
    )
    assert first.choices[0].message.content == second.choices[0].message.content


def test_a_stop_sequence_ends_the_answer_before_it(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo-fast", messages=ask("count to 9"), stop=[", 4"]
    )
    assert answer.choices[0].message.content == "1, 2, 3"
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_limit_of_tokens_cuts_the_answer_and_says_so(
    client: OpenAI, row: FindRow, field: str
) -> None:
    limit: Any = {field: 3}
    answer = client.chat.completions.create(model="demo-fast", messages=ask("count to 9"), **limit)
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.content == "1, 2, 3, "
    settled = row(answer.id)
    assert (settled["finish_reason"], settled["tokens_out"]) == ("length", 3)


def test_images_reach_the_model(client: OpenAI) -> None:
    pixel = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
    answer = client.chat.completions.create(
        model="demo-fast",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is on these?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}},
                    {
                        "type": "image_url",
                        "image_url": {"url": "https://example.com/a.png", "detail": "low"},
                    },
                ],
            }
        ],
    )
    assert "I see 2 images" in (answer.choices[0].message.content or "")


def test_a_refusal_is_one(client: OpenAI) -> None:
    with client.chat.completions.stream(model="demo-fast", messages=ask("refuse this")) as stream:
        events = list(stream)
        message = stream.get_final_completion().choices[0].message
    assert [event.refusal for event in events if event.type == "refusal.done"] == [message.refusal]
    assert not any(event.delta for event in events if event.type == "content.delta")
    assert message.refusal
    whole = client.chat.completions.create(model="demo-fast", messages=ask("refuse this"))
    assert whole.choices[0].message.refusal == message.refusal
    assert whole.choices[0].message.content is None


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
def test_text_comes_back_exactly(client: OpenAI, text: str) -> None:
    stream = client.chat.completions.create(model="demo-echo", messages=ask(text), stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text
    whole = client.chat.completions.create(model="demo-echo", messages=ask(text))
    assert whole.choices[0].message.content == text


def test_models_are_listed_and_found(client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"demo", "demo-fast", "demo-echo"} <= listed.keys()
    found = client.models.retrieve("demo-fast")
    assert found == listed["demo-fast"]
    assert (found.object, found.owned_by) == ("model", "demo")


@pytest.mark.parametrize("path", ["/v1", "/v1/", "", "/api"])
def test_the_base_url_may_be_given_in_several_ways(base_url: str, key: str, path: str) -> None:
    with OpenAI(base_url=base_url.removesuffix("/v1") + path, api_key=key) as made:
        answer = made.chat.completions.create(model="demo-fast", messages=ask("say hello"))
    assert answer.choices[0].message.content == "hello"


async def test_heartbeats_are_passed_over(aclient: AsyncOpenAI) -> None:
    options: Any = {
        "model": "demo-slow",
        "messages": ask("say hello there"),
        "stream": True,
        "reasoning_effort": "none",
    }

    async def lines() -> list[str]:
        async with aclient.chat.completions.with_streaming_response.create(**options) as raw:
            return [line async for line in raw.iter_lines()]

    async def text() -> str:
        stream = await aclient.chat.completions.create(**options)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    on_the_line, read = await asyncio.gather(lines(), text())
    assert ": ping" in on_the_line
    assert read == "hello there"


def test_options_of_all_ages_are_taken(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo-fast",
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
            {"role": "user", "name": "ada", "content": "My name is Ada"},
            {"role": "assistant", "content": "Nice to meet you!"},
            {"role": "user", "content": [{"type": "text", "text": "What is my name?"}]},
        ],
        frequency_penalty=0.5,
        logit_bias={"50256": -100},
        metadata={"trace": "1"},
        presence_penalty=-0.5,
        prompt_cache_key="p",
        reasoning_effort="low",
        safety_identifier="s",
        service_tier="auto",
        store=False,
        top_p=0.9,
        user="u",
        verbosity="low",
    )
    assert answer.choices[0].message.content == "Your name is Ada."


def test_leaving_a_stream_settles_its_row_as_cancelled(client: OpenAI, row: FindRow) -> None:
    with client.chat.completions.create(
        model="demo-long", messages=ask("Go on."), stream=True
    ) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    settled = row(stream.response.headers["x-request-id"])
    assert (settled["status"], settled["http_status"]) == ("cancelled", 200)
    assert 0 < settled["tokens_out"] < 1000


def test_a_stream_that_is_only_dropped_is_cancelled_when_python_collects_it(
    client: OpenAI, row: FindRow
) -> None:
    stream = client.chat.completions.create(model="demo-long", messages=ask("Go on."), stream=True)
    request_id = stream.response.headers["x-request-id"]
    for _ in stream:
        break
    del stream
    gc.collect()
    assert row(request_id)["status"] == "cancelled"


def test_closing_the_client_in_a_stream_cancels_it(base_url: str, key: str, row: FindRow) -> None:
    brief = OpenAI(base_url=base_url, api_key=key)
    stream = brief.chat.completions.create(model="demo-long", messages=ask("Go on."), stream=True)
    next(stream)
    brief.close()
    assert row(stream.response.headers["x-request-id"])["status"] == "cancelled"
    stream.close()


async def test_cancelling_a_task_cancels_the_call(aclient: AsyncOpenAI, row: FindRow) -> None:
    begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def read() -> None:
        stream = await aclient.chat.completions.create(
            model="demo-long", messages=ask("Go on."), stream=True
        )
        async with stream:
            async for chunk in stream:
                if not begun.done():
                    begun.set_result(chunk.id)

    task = asyncio.create_task(read())
    answer_id = await begun
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await asyncio.to_thread(row, answer_id))["status"] == "cancelled"


async def test_many_streams_at_once_are_not_mixed_up(aclient: AsyncOpenAI) -> None:
    async def echo(number: int) -> str:
        stream = await aclient.chat.completions.create(
            model="demo-echo", messages=ask(f"I am {number}. " * 50), stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    answers = await asyncio.gather(*map(echo, range(40)))
    assert answers == [f"I am {number}. " * 50 for number in range(40)]
