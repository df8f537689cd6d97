"""The newest openai-python when things go wrong: typed errors, true ids, and retries only where they help."""

import json
from collections.abc import AsyncGenerator, Generator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.clients.conftest import FindRow
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    answer,
    chunk,
    frames,
    scripted,
)

pytestmark = pytest.mark.clients

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@pytest.fixture(scope="module")
def client(base_url: str, key: str) -> Generator[OpenAI, None, None]:
    with OpenAI(base_url=base_url, api_key=key, max_retries=0) as made:
        yield made


def ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


@STREAMED
def test_a_wrong_key_is_an_authentication_error(client: OpenAI, stream: bool) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        client.with_options(api_key="sk-wrong").chat.completions.create(
            model="demo-fast", messages=ask("Hi"), stream=stream
        )
    error = caught.value
    assert (error.status_code, error.code) == (401, "invalid_api_key")
    assert error.type == "invalid_request_error"
    assert "sk-wrong" not in str(error)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").models.list()


@STREAMED
def test_an_unknown_model_is_not_found(client: OpenAI, row: FindRow, stream: bool) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-none", messages=ask("Hi"), stream=stream)
    error = caught.value
    assert (error.code, error.param) == ("model_not_found", "model")
    assert "gpt-none" in error.message
    assert error.request_id is not None
    settled = row(error.request_id)
    assert (settled["status"], settled["http_status"]) == ("refused", 404)


def test_an_unknown_model_cannot_be_retrieved(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-none")
    assert caught.value.code == "model_not_found"


def test_an_endpoint_that_is_not_there_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.moderations.create(input="Hi")
    assert caught.value.code == "unknown_url"
    assert "/v1/moderations" in caught.value.message


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("temperature", 3, "temperature"),
        ("n", 0, "n"),
        ("max_tokens", "many", "max_tokens"),
        ("stop", ["a", "b", "c", "d", "e"], "stop"),
        ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
        ("tool_choice", "always", "tool_choice"),
        ("messages", [{"role": "user"}], "messages[0].content"),
        ("messages", [{"role": "nobody", "content": "Hi"}], "messages[0].role"),
        ("messages", [], "messages"),
        ("stream_options", {"include_usage": "yes"}, "stream_options.include_usage"),
    ],
)
def test_a_bad_field_is_named(
    client: OpenAI, row: FindRow, field: str, value: object, param: str
) -> None:
    body: dict[str, Any] = {"model": "demo-fast", "messages": ask("Hi"), field: value}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**body)
    error = caught.value
    assert (error.status_code, error.param) == (400, param)
    assert error.type == "invalid_request_error"
    assert error.request_id is not None
    assert row(error.request_id)["status"] == "refused"


@STREAMED
def test_a_limit_is_a_rate_limit_error_that_says_when(
    client: OpenAI, row: FindRow, stream: bool
) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="demo-limit", messages=ask("Hi"), stream=stream)
    error = caught.value
    assert error.code == "rate_limit_exceeded"
    assert error.response.headers["retry-after"] == "20"
    assert "x-should-retry" not in error.response.headers
    assert error.request_id is not None
    settled = row(error.request_id)
    assert (settled["status"], settled["http_status"]) == ("error", 429)


@STREAMED
def test_a_failure_of_the_model_is_a_server_error(
    client: OpenAI, row: FindRow, stream: bool
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="demo-fail", messages=ask("Hi"), stream=stream)
    error = caught.value
    assert (error.status_code, error.code) == (503, "upstream_error")
    assert error.request_id is not None
    settled = row(error.request_id)
    assert (settled["status"], settled["error_code"]) == ("error", "upstream_error")


@pytest.mark.parametrize(
    ("model", "code"), [("demo-break", "upstream_error"), ("demo-cut", "upstream_truncated")]
)
def test_an_error_in_a_stream_is_raised_after_the_text_before_it(
    client: OpenAI, row: FindRow, model: str, code: str
) -> None:
    seen: list[ChatCompletionChunk] = []
    stream = client.chat.completions.create(model=model, messages=ask("count to 9"), stream=True)
    with pytest.raises(openai.APIError) as caught:
        seen.extend(stream)
    text = "".join(one.choices[0].delta.content or "" for one in seen)
    assert text == "1, 2, 3, 4, 5, "
    assert (caught.value.code, caught.value.type) == (code, "server_error")
    settled = row(seen[0].id)
    assert (settled["status"], settled["error_code"]) == ("error", code)
    assert settled["tokens_out"] > 0


def test_the_stream_helper_never_takes_a_cut_answer_for_a_whole(client: OpenAI) -> None:
    with (
        client.chat.completions.stream(model="demo-cut", messages=ask("count to 9")) as stream,
        pytest.raises(openai.APIError),
    ):
        stream.get_final_completion()


@pytest.mark.parametrize("model", ["demo-break", "demo-cut"])
def test_an_answer_that_breaks_off_is_an_error_where_the_whole_is_asked_for(
    client: OpenAI, model: str
) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=model, messages=ask("count to 9"))
    assert caught.value.status_code == 502


def test_a_timeout_of_the_client_cancels_the_call(client: OpenAI, gateway: Gateway) -> None:
    key = gateway.key("impatient@example.com")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(api_key=key, timeout=0.5).chat.completions.create(
            model="demo-hang", messages=ask("Hi")
        )
    assert [one["status"] for one in rows_of(gateway, "impatient@example.com")] == ["cancelled"]


def test_what_cannot_help_is_not_tried_again(client: OpenAI, gateway: Gateway) -> None:
    key = gateway.key("persistent@example.com")
    eager = client.with_options(api_key=key, max_retries=2)
    with pytest.raises(openai.InternalServerError) as caught:
        eager.chat.completions.create(model="demo-fail", messages=ask("Hi"))
    assert caught.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(openai.APIError):
        list(eager.chat.completions.create(model="demo-break", messages=ask("Hi"), stream=True))
    assert len(rows_of(gateway, "persistent@example.com")) == 2


def rows_of(gateway: Gateway, email: str) -> list[dict[str, object]]:
    return [one for one in gateway.rows() if one["email"] == email]


class Flaky:
    """A model that is over its limit so many times, then answers."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, exchange: Exchange) -> None:
        if self.times:
            self.times -= 1
            body = json.dumps({"error": {"message": "slow down", "code": "rate_limit_exceeded"}})
            await exchange.send(answer(429, body.encode(), [("retry-after-ms", "20")]))
            return
        said = {"index": 0, "delta": {"role": "assistant", "content": "Here."}}
        ended = {"index": 0, "delta": {}, "finish_reason": "stop"}
        chunks = [{"id": "c", "choices": [choice]} for choice in (said, ended)]
        await exchange.send(CHUNKED + chunk(frames(*chunks, b"[DONE]")) + LAST_CHUNK)


@pytest.fixture
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(Flaky(2)) as server:
        yield server


async def test_what_may_help_is_tried_again_after_the_time_the_model_gave(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    row = f'{{type: openai, base_url: "{upstream.url}", api_key: x, models: [m], retries: 0}}'
    with Gateway(tmp_path_factory.mktemp("flaky"), f"providers: {{flaky: {row}}}") as flaky:
        async with AsyncOpenAI(base_url=f"{flaky.url}/v1", api_key=flaky.key()) as client:
            whole = await client.chat.completions.create(model="m", messages=ask("Hi"))
        rows = flaky.rows()
    assert whole.choices[0].message.content == "Here."
    assert len(upstream.exchanges) == 3
    assert [one["http_status"] for one in rows] == [429, 429, 200]
