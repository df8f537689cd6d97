"""A wire that is not ours: what the contract lets it decide, seen from outside."""

import asyncio
from collections.abc import AsyncGenerator, Generator

import httpx2
import orjson
import pytest

from tests.servers.dialogue import config, story
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    answer,
    chunk,
    scripted,
)

WIRE = """
from gateway.errors import InvalidRequest
from gateway.events import Complete, Delta
from gateway.ports import Encoder, Reply, Wire
from gateway.request import ChatRequest, Notice
from gateway.sse import dump, frame


class Spoken(Encoder):
    def begin(self):
        return frame(b'"hello"')

    def encode(self, batch):
        return b"".join(frame(dump(event.text)) for event in batch if isinstance(event, Delta))


async def shout(call, events):
    async for batch in events:
        yield [Delta(e.text.upper()) if isinstance(e, Delta) else e for e in batch]


class Speech(Wire):
    type = "speech"
    paths = ("/speech",)
    patience = 0.0
    heartbeat = 0.2

    def __init__(self, config={}):
        if unknown := config.keys() - {"apology"}:
            raise ValueError(f"{min(unknown)}: no such option")
        self.apology = config.get("apology", "Sorry.")

    def parse(self, body, size):
        if "news" in body:
            raise Notice({"heard": body["news"]})
        if "say" not in body:
            raise InvalidRequest("What shall be said?", param="say")
        return ChatRequest(
            model="up/m", messages=[{"role": "user", "content": body["say"]}],
            stream=body.get("stream", True), size=size,
        )

    def encoder(self, call):
        return Spoken()

    def interceptors(self, call):
        return (shout,)

    def render(self, call, outcome):
        return {"said": "".join(outcome.choices[0].text)}

    def render_error(self, error):
        return {"fault": error.message}

    def refuse(self, error, request):
        if error.status == 401 or request is None:
            return super().refuse(error, request)
        return Reply(body=self.apology.encode(), media_type="text/plain", headers={"x-fault": "yes"})

    def headers(self, request_id):
        return {"call-id": request_id}
"""


async def speak(exchange: Exchange) -> None:
    await exchange.send(CHUNKED + chunk(story("Hello ", "there.")) + LAST_CHUNK)


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(speak) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    folder = tmp_path_factory.mktemp("speech")
    (folder / "speech.py").write_text(WIRE)
    settings = orjson.loads(config(upstream.url))
    settings["wires"] = {"speech:Speech": {"apology": "Forgive me."}}
    env = {"SLUICE_WIRES": "speech:Speech,openai_chat"}
    with Gateway(folder, orjson.dumps(settings).decode(), env) as running:
        yield running


@pytest.fixture(scope="module")
async def client(gateway: Gateway) -> AsyncGenerator[httpx2.AsyncClient, None]:
    key = await asyncio.to_thread(gateway.key)
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"x-api-key": key}, timeout=30
    ) as http:
        yield http


@pytest.fixture(autouse=True)
def polite(upstream: ScriptedUpstream) -> None:
    upstream.script = speak


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, object]:
    """The settled row of a response."""
    for _ in range(100):
        found = await client.get(f"/v1/usage/{response.headers['x-request-id']}")
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    result: dict[str, object] = found.json()
    return result


async def test_its_stream_opens_before_the_first_event(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    spoken = asyncio.Event()

    async def hesitate(exchange: Exchange) -> None:
        await asyncio.wait_for(spoken.wait(), 10)
        await speak(exchange)

    upstream.script = hesitate
    heard = b""
    async with client.stream("POST", "/speech", json={"say": "Hi"}) as response:
        async for part in response.aiter_bytes():
            heard += part
            if heard.count(b": ping\n") == 2:
                spoken.set()
    assert heard.startswith(b'data: "hello"\n\n: ping\n: ping\n')
    assert heard.endswith(b'data: "HELLO "\n\ndata: "THERE."\n\n')
    assert response.headers["call-id"] == response.headers["x-request-id"]
    assert "x-tool-notifications" not in response.headers


async def test_its_interceptors_shape_the_whole_answer_too(client: httpx2.AsyncClient) -> None:
    response = await client.post("/speech", json={"say": "Hi", "stream": False})
    assert response.json() == {"said": "HELLO THERE."}


async def test_a_failure_looks_as_it_says_and_the_row_knows_both(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.send(answer(400, b'{"error":{"message":"no"}}'))

    upstream.script = fail
    response = await client.post("/speech", json={"say": "Hi", "stream": False})
    assert (response.status_code, response.text) == (200, "Forgive me.")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-fault"] == "yes"
    found = await row(client, response)
    assert (found["status"], found["http_status"]) == ("refused", 200)


async def test_what_it_did_not_understand_is_refused_in_its_words(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post("/speech", json={})
    assert (response.status_code, response.json()) == (400, {"fault": "What shall be said?"})
    assert "x-request-id" in response.headers


async def test_a_notice_is_acknowledged_and_is_no_call(client: httpx2.AsyncClient) -> None:
    response = await client.post("/speech", json={"news": 7})
    assert (response.status_code, response.json()) == (200, {"heard": 7})
    assert "x-request-id" not in response.headers


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(("authorization", "{}"), id="bare"),
        pytest.param(("authorization", "bearer {}"), id="bearer"),
        pytest.param(("x-api-key", "{}"), id="as Anthropic's clients"),
        pytest.param(("x-vapi-secret", "{}"), id="as Vapi's webhooks"),
    ],
)
async def test_a_key_comes_in_any_of_the_usual_headers(
    gateway: Gateway, client: httpx2.AsyncClient, header: tuple[str, str]
) -> None:
    name, form = header
    headers = {name: form.format(client.headers["x-api-key"])}
    async with httpx2.AsyncClient(base_url=gateway.url) as http:
        response = await http.post("/speech", json={"news": 1}, headers=headers)
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("wires", "complaint"),
    [
        pytest.param({"speech:Speech": {"loud": True}}, "loud: no such option", id="option"),
        pytest.param(
            {"native": {"loud": True}}, "wires.native: it takes no options", id="no options"
        ),
        pytest.param({"nativ": {}}, "there is no 'nativ'; did you mean 'native'?", id="name"),
    ],
)
def test_a_wrong_option_is_told_at_start(
    tmp_path_factory: pytest.TempPathFactory, wires: dict[str, object], complaint: str
) -> None:
    folder = tmp_path_factory.mktemp("refused")
    (folder / "speech.py").write_text(WIRE)
    gateway = Gateway(
        folder,
        orjson.dumps({"wires": wires}).decode(),
        {"SLUICE_WIRES": "speech:Speech,native"},
    )
    refused = gateway.run("serve", check=False)
    assert refused.returncode == 2
    assert complaint in refused.stderr
