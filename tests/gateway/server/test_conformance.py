"""The conformance catalogue from outside: every reader reads the same in every stream, however cut."""

import asyncio
import json
import re
from collections.abc import Generator
from typing import Any

import httpx2
import openai
import pytest

from gateway.events import Error
from gateway.records import Dialect
from gateway.server.conformance import Probe, catalogue
from tests.readers import naive, strict
from tests.servers.gateway import Gateway

STREAM = "/v1/conformance/stream"
NATIVE = "native"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
async def listing(client: httpx2.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await client.get("/v1/conformance")).json()
    return told


def text_of(probe: Probe) -> list[str]:
    """Half of a surrogate pair is nothing that can be sent."""
    texts = ["".join(choice.text) for choice in probe.outcome().choices]
    return [text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts]


def heard(chunks: list[dict[str, Any]], width: int) -> list[str]:
    texts = [""] * width
    for chunk in chunks:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["delta"].get("content") or ""
    return texts


async def test_the_catalogue_tells_what_a_client_should_have(listing: dict[str, Any]) -> None:
    told = {probe["name"]: probe for probe in listing["data"]}
    assert told.keys() == catalogue().keys()
    assert all(probe["about"].endswith(".") for probe in told.values())
    assert {"chat", "native"} <= set(listing["wires"])
    assert listing["dialects"] == list(Dialect)
    expected = told["client_tool_streamed"]["expected"]["choices"][0]
    assert expected["finish_reason"] == "tool_calls"
    assert expected["tool_calls"][0]["name"] == "locate"
    assert told["error_after_text"]["expected"]["error"]["message"]
    assert told["large_delta"]["expected"]["choices"][0]["text"]["length"] == (1 << 20) + 2


@pytest.mark.parametrize("name", catalogue())
async def test_every_reader_reads_the_same(client: httpx2.AsyncClient, name: str) -> None:
    probe = catalogue()[name]
    failed = isinstance(probe.events[-1], Error)
    for dialect in Dialect:
        query = {"probe": name, "dialect": dialect}
        response = await client.get(STREAM, params=query)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        frames = list(strict([response.content]))
        assert [data for _, data in frames] == list(naive([response.content]))
        assert (frames[-1][1] == "[DONE]") is not failed
        chunks = [
            json.loads(data) for event, data in frames if event == "message" and data != "[DONE]"
        ]
        assert heard(chunks, len(text_of(probe))) == text_of(probe)


@pytest.mark.parametrize("cut", [1, 7, 4096])
async def test_a_stream_is_the_same_however_it_is_cut(client: httpx2.AsyncClient, cut: int) -> None:
    for name in ("unicode", "hostile_text", "server_tool_hostile_result", "client_tools_parallel"):
        whole = await client.get(STREAM, params={"probe": name})
        pieces: list[bytes] = []
        async with client.stream("GET", STREAM, params={"probe": name, "cut": cut}) as response:
            async for piece in response.aiter_raw():
                pieces.append(piece)
        assert b"".join(pieces) == whole.content
        assert list(strict(pieces)) == list(strict([whole.content]))


async def test_comments_between_frames_are_nothing_to_a_reader(client: httpx2.AsyncClient) -> None:
    plain = await client.get(STREAM, params={"probe": "both_kinds"})
    commented = await client.get(STREAM, params={"probe": "both_kinds", "comments": 1})
    assert commented.content.count(b": ping\n") == plain.content.count(b"\n\n") + 1
    assert list(strict([commented.content])) == list(strict([plain.content]))


async def test_every_wire_renders_every_probe(
    client: httpx2.AsyncClient, listing: dict[str, Any]
) -> None:
    for wire in listing["wires"]:
        for name in catalogue():
            response = await client.get(STREAM, params={"probe": name, "wire": wire})
            assert response.status_code == 200, (wire, name)
            frames = list(strict([response.content]))
            assert [data for _, data in frames] == list(naive([response.content])), (wire, name)
            for _, data in frames:
                assert data == "[DONE]" or json.loads(data), (wire, name)


@pytest.mark.parametrize("name", catalogue())
async def test_openais_sdk_has_a_probe_for_a_base_url(
    gateway: Gateway, client: httpx2.AsyncClient, name: str
) -> None:
    key = client.headers["authorization"].removeprefix("Bearer ")
    probe = catalogue()[name]
    end, texts = probe.events[-1], [""] * len(text_of(probe))
    messages: Any = [{"role": "user", "content": "Hi"}]
    url = f"{gateway.url}/v1/conformance/{name}"
    async with openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as sdk:

        async def listen() -> None:
            stream = await sdk.chat.completions.create(model="m", messages=messages, stream=True)
            async for chunk in stream:
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""

        if isinstance(end, Error):
            with pytest.raises(openai.APIError, match=re.escape(end.message)):
                await listen()
        else:
            await listen()
            whole = await sdk.chat.completions.create(model="m", messages=messages)
            assert [choice.message.content or "" for choice in whole.choices] == text_of(probe)
    assert texts == text_of(probe)


async def test_a_failure_before_the_first_word_is_a_status(client: httpx2.AsyncClient) -> None:
    path = "/v1/conformance/error_of_the_request/chat/completions"
    asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    response = await client.post(path, json=asked)
    end = catalogue()["error_of_the_request"].events[-1]
    assert isinstance(end, Error)
    assert response.status_code == end.status
    assert response.json()["error"]["message"] == end.message


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        pytest.param({}, 404, "probe", id="no probe"),
        pytest.param({"probe": "nothing"}, 404, "probe", id="unknown probe"),
        pytest.param({"probe": "text", "wire": "telegraph"}, 400, "wire", id="wire"),
        pytest.param({"probe": "text", "dialect": "loud"}, 400, "dialect", id="dialect"),
        pytest.param({"probe": "text", "cut": "0"}, 400, "cut", id="cut into nothing"),
        pytest.param({"probe": "text", "cut": "²"}, 400, "cut", id="no number"),
        pytest.param({"probe": "text", "cut": "1", "pause": "1000"}, 400, "pause", id="too long"),
    ],
)
async def test_a_mistake_is_told(
    client: httpx2.AsyncClient, query: dict[str, str], status: int, param: str
) -> None:
    response = await client.get(STREAM, params=query)
    assert response.status_code == status
    assert response.json()["error"]["param"] == param


async def test_nothing_is_accounted_and_a_key_is_needed(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    response = await client.get(STREAM, params={"probe": "text"})
    assert "x-request-id" not in response.headers
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        assert (await http.get(STREAM, params={"probe": "text"})).status_code == 401
        assert (await http.get("/v1/conformance")).status_code == 401
    assert await asyncio.to_thread(gateway.rows) == []
