"""Texts to vectors over a running gateway: what goes to the provider, what comes back, what it cost."""

import asyncio
import base64
import struct
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from typing import Any

import httpx2
import openai
import orjson
import pytest

from adapters.providers.demo import DemoProvider
from gateway.engine.asking import embed as ask_for
from gateway.engine.router import Target, Upstream
from gateway.errors import InvalidRequest
from gateway.request import EmbeddingRequest
from gateway.server.embeddings import parse
from tests.servers.dialogue import config
from tests.servers.gateway import Gateway
from tests.servers.scripted import Exchange, ScriptedUpstream, answer, scripted

Valid = Callable[[str, object], None]

PATH = "/v1/embeddings"


def vectors(number: int, *, tokens: int | None = 7) -> bytes:
    """An answer whose vectors say which of the request's texts they belong to, last one first."""
    rows = [
        {"object": "embedding", "index": index, "embedding": [index + 0.5, -1.0]}
        for index in range(number)
    ]
    usage = {} if tokens is None else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return orjson.dumps({"object": "list", "data": rows[::-1], "model": "m", **usage})


async def embed(exchange: Exchange) -> None:
    await exchange.send(answer(200, vectors(len(orjson.loads(exchange.body)["input"]))))


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(embed) as server:
        yield server


@pytest.fixture(autouse=True)
def polite(upstream: ScriptedUpstream) -> None:
    upstream.script = embed


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    settings = orjson.loads(config(upstream.url))
    settings["providers"]["nowhere"] = {
        "type": "openai",
        "base_url": "http://127.0.0.1:9/v1",
        "retries": 0,
    }
    settings["providers"]["slow"] = settings["providers"]["up"] | {
        "timeout": {"total": 0.5},
        "retries": 0,
    }
    settings["providers"]["claude"] = {"type": "anthropic", "api_key": "k"}
    settings["models"] = {
        "embed": {"targets": ["nowhere/e", "up/e"]},
        "private": {"targets": ["up/e"], "tiers": ["gold"]},
    }
    settings["tiers"] = {"gold": {}}
    settings["prices"] = {"up/e": {"input": 2.0, "output": 0.0}}
    with Gateway(tmp_path_factory.mktemp("gateway"), orjson.dumps(settings).decode()) as running:
        yield running


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, Any]:
    """The settled row of a response."""
    for _ in range(100):
        found = await client.get(f"/v1/usage/{response.headers['x-request-id']}")
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    result: dict[str, Any] = found.json()
    return result


async def ask(client: httpx2.AsyncClient, **fields: object) -> httpx2.Response:
    return await client.post(PATH, json={"model": "up/e", "input": "Hi", **fields})


async def test_vectors_come_in_the_order_of_their_texts(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, valid: Valid
) -> None:
    response = await ask(client, input=["a", "b", "c"], dimensions=2, user="ada", extra=1)
    assert response.status_code == 200
    valid("CreateEmbeddingResponse", response.json())
    told = response.json()
    assert [item["embedding"][0] for item in told["data"]] == [0.5, 1.5, 2.5]
    assert told["model"] == "up/e"
    assert told["usage"] == {"prompt_tokens": 7, "total_tokens": 7}
    sent = orjson.loads(upstream.exchanges[-1].body)
    assert sent == {
        "model": "e",
        "input": ["a", "b", "c"],
        "dimensions": 2,
        "user": "ada",
        "extra": 1,
    }


async def test_a_row_has_what_it_cost(client: httpx2.AsyncClient) -> None:
    found = await row(client, await ask(client))
    known = {"type": "embedding", "status": "ok", "provider": "up", "upstream_model": "e"}
    assert known.items() <= found.items()
    assert (found["tokens_in"], found["tokens_out"], found["counted"]) == (7, 0, "reported")
    assert float(found["cost_usd"]) == pytest.approx(14e-6)


async def test_tokens_that_nobody_reports_are_estimated(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def mute(exchange: Exchange) -> None:
        await exchange.send(answer(200, vectors(1, tokens=None)))

    upstream.script = mute
    response = await ask(client, input=[1, 2, 3])
    assert response.json()["usage"]["prompt_tokens"] == 3
    assert (await row(client, response))["counted"] == "estimated"


async def test_another_target_answers_for_one_that_cannot_be_reached(
    client: httpx2.AsyncClient,
) -> None:
    response = await ask(client, model="embed")
    assert response.status_code == 200
    assert (await row(client, response))["provider"] == "up"


async def test_more_texts_than_a_provider_takes_go_in_several_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    provider = DemoProvider("demo", {})
    provider.most_inputs = 2
    plain = provider.embed

    async def count(request: EmbeddingRequest, /) -> object:
        asked.append(len(request.inputs))
        return await plain(request)

    monkeypatch.setattr(provider, "embed", count)
    target = Target(Upstream(provider=provider), "demo-embed")
    texts = ["one", "two words", "three", "four", "five"]
    request = EmbeddingRequest(model="x", inputs=texts, options={"dimensions": 4})
    _, made, _ = await ask_for([target], request)
    assert asked == [2, 2, 1]
    alone = [(await ask_for([target], _only(request, text)))[1].vectors[0] for text in texts]
    assert made.vectors == alone
    assert made.usage is not None
    assert made.usage.input_tokens == 6


def _only(request: EmbeddingRequest, text: str) -> EmbeddingRequest:
    return replace(request, inputs=[text])


@pytest.mark.parametrize("upstream_packs", [False, True])
@pytest.mark.parametrize("wanted", ["float", "base64", None])
async def test_a_client_gets_the_encoding_that_it_asked_for(
    client: httpx2.AsyncClient,
    upstream: ScriptedUpstream,
    upstream_packs: bool,
    wanted: str | None,
) -> None:
    async def stubborn(exchange: Exchange) -> None:
        packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
        vector = packed if upstream_packs else [0.5, -1.0]
        body = {"data": [{"index": 0, "embedding": vector}]}
        await exchange.send(answer(200, orjson.dumps(body)))

    upstream.script = stubborn
    vector = (await ask(client, encoding_format=wanted)).json()["data"][0]["embedding"]
    if wanted == "base64":
        vector = list(struct.unpack("<2f", base64.b64decode(vector)))
    assert vector == [0.5, -1.0]


async def test_openais_sdk_takes_it(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    key = client.headers["authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key) as sdk:
        made = await sdk.embeddings.create(model="up/e", input=["a", "b"])
        assert [item.embedding for item in made.data] == [[0.5, -1.0], [1.5, -1.0]]
        with pytest.raises(openai.NotFoundError):
            await sdk.embeddings.create(model="nothing", input="a")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        pytest.param({"model": "private"}, 404, "model_not_found", id="another tier's"),
        pytest.param({"model": "claude/m"}, 400, None, id="a provider without embeddings"),
        pytest.param({"model": "nowhere/e"}, 502, "upstream_unreachable", id="unreachable"),
        pytest.param({"input": ""}, 400, "empty_array", id="nothing to embed"),
    ],
)
async def test_what_fails_is_told_and_has_its_row(
    client: httpx2.AsyncClient, fields: dict[str, object], status: int, code: str | None
) -> None:
    response = await ask(client, **fields)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    found = await row(client, response)
    assert found["status"] == ("error" if status == 502 else "refused")
    assert found["http_status"] == status


@pytest.mark.parametrize(
    ("said", "code"),
    [
        pytest.param(answer(200, b"<html>"), "upstream_malformed", id="no JSON"),
        pytest.param(answer(200, b'{"data":[{}]}'), "upstream_malformed", id="no vectors"),
        pytest.param(answer(200, vectors(3)), "upstream_malformed", id="too many vectors"),
        pytest.param(answer(200, b'{"data":[]}'), "upstream_malformed", id="too few"),
        pytest.param(answer(401, b"{}"), "upstream_auth", id="refused"),
    ],
)
async def test_a_provider_that_talks_nonsense_is_told(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, said: bytes, code: str
) -> None:
    async def talk(exchange: Exchange) -> None:
        await exchange.send(said)

    upstream.script = talk
    response = await ask(client)
    assert response.status_code == 502
    assert response.json()["error"]["code"] == code


async def test_a_provider_that_hangs_is_not_waited_for(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def hang(exchange: Exchange) -> None:
        await asyncio.sleep(30)

    upstream.script = hang
    response = await ask(client, model="slow/e")
    assert (response.status_code, response.json()["error"]["code"]) == (504, "upstream_timeout")


async def test_a_client_that_leaves_frees_the_provider(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    gone = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await exchange.until_closed()
        gone.set()

    upstream.script = wait
    with pytest.raises(httpx2.ReadTimeout):
        await client.post(PATH, json={"model": "up/e", "input": "Hi"}, timeout=0.5)
    await asyncio.wait_for(gone.wait(), 5)


async def test_a_key_is_needed(gateway: Gateway) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        response = await ask(http)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "missing_api_key")
    assert "x-request-id" not in response.headers


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        pytest.param({"input": None}, "input", "missing_required_parameter", id="no input"),
        pytest.param({"input": []}, "input", "empty_array", id="no inputs"),
        pytest.param({"input": ["a", ""]}, "input", "invalid_type", id="an empty one"),
        pytest.param({"input": ["a", 1]}, "input", "invalid_type", id="a mixture"),
        pytest.param({"input": [[1], []]}, "input", "invalid_type", id="no tokens"),
        pytest.param({"input": [True]}, "input", "invalid_type", id="no number"),
        pytest.param({"input": {"a": 1}}, "input", "invalid_type", id="an object"),
        pytest.param({"input": ["a"] * 2049}, "input", "array_above_max_length", id="too many"),
        pytest.param({"dimensions": 0}, "dimensions", "invalid_value", id="no dimensions"),
        pytest.param({"encoding_format": "x"}, "encoding_format", "invalid_value", id="encoding"),
        pytest.param({"model": ""}, "model", "invalid_value", id="no model"),
    ],
)
def test_a_mistake_is_told(fields: dict[str, object], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse({"model": "m", "input": "Hi", **fields})
    assert (refused.value.param, refused.value.code) == (param, code)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        pytest.param("a", ["a"], id="a text"),
        pytest.param(["a", "b"], ["a", "b"], id="texts"),
        pytest.param([1, 2], [[1, 2]], id="a text's tokens"),
        pytest.param([[1, 2], [3]], [[1, 2], [3]], id="tokens of texts"),
    ],
)
def test_inputs_come_in_four_forms(given: object, inputs: object) -> None:
    assert parse({"model": "m", "input": given}).inputs == inputs
