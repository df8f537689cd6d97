"""A running gateway from outside: what each route answers, and what its headers say."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.scripted_model import until
from tests.servers.dialogue import body, calling, config, piece, story, usage
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

ORIGIN = "https://page.example"
CHAT = "/v1/chat/completions"


async def speak(exchange: Exchange) -> None:
    await exchange.send(CHUNKED + chunk(story("Hello ", "there.")) + LAST_CHUNK)


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(speak) as server:
        yield server


@pytest.fixture(autouse=True)
def polite(upstream: ScriptedUpstream) -> None:
    upstream.script = speak


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
    settings["providers"]["whole"] = {**settings["providers"]["up"], "ask_whole": True}
    settings["models"] = {
        "helper": {"targets": ["up/m"], "tools": ["calculator"]},
        "fallback": {"targets": ["nowhere/m", "up/m"]},
        "quiet": {"targets": ["up/m"], "notifications": "off"},
        "private": {
            "targets": ["up/m"],
            "name": "Ours",
            "tiers": ["public"],
            "defaults": {"temperature": 0.2},
            "caps": {"max_tokens": 50},
        },
    }
    settings["tiers"] = {"public": {"notifications": "inline", "detail": "names"}}
    settings["prices"] = {"up/m": {"input": 1.0, "output": 10.0}}
    env = {
        "SLUICE_FIRST_EVENT_WAIT": "1",
        "SLUICE_HEARTBEAT": "0.5",
        "SLUICE_CORS_ORIGINS": ORIGIN,
    }
    with Gateway(
        tmp_path_factory.mktemp("gateway"), orjson.dumps(settings).decode(), env
    ) as running:
        yield running


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, object]:
    """The settled row of a response."""
    for _ in range(50):
        found = await client.get(f"/v1/usage/{response.headers['x-request-id']}")
        assert found.status_code == 200
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    result: dict[str, object] = found.json()
    return result


@pytest.mark.parametrize(
    "path",
    [CHAT, f"{CHAT}/", "/api/chat/completions/", "/chat/completions", "/api/chat/completions"],
)
async def test_chat_is_served_on_every_path_without_a_redirect(
    client: httpx2.AsyncClient, path: str, valid: Callable[[str, object], None]
) -> None:
    response = await client.post(path, content=body(stream=False, model="up/m"))
    assert response.status_code == 200
    valid("CreateChatCompletionResponse", response.json())
    assert response.json()["choices"][0]["message"]["content"] == "Hello there."


async def test_a_row_knows_what_a_call_was_and_cost(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, content=body())
    found = await row(client, response)
    known = {
        "email": "test@example.com",
        "type": "chat",
        "stream": True,
        "model": "up/m",
        "provider": "up",
        "upstream_model": "m",
        "tokens_in": 7,
        "tokens_out": 2,
        "counted": "reported",
        "cost_usd": 0.000027,
        "status": "ok",
        "http_status": 200,
        "finish_reason": "stop",
        "error_code": None,
        "steps": 1,
        "tool_calls": 0,
    }
    assert {name: found[name] for name in known} == known
    assert isinstance(found["duration_ms"], int)
    assert isinstance(found["first_token_ms"], int)


async def test_an_answer_may_be_asked_for_in_one_piece(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, gateway: Gateway
) -> None:
    """Nothing is known of what was written for a client that left meanwhile."""
    closed = asyncio.Event()
    said = orjson.dumps(
        {
            "choices": [
                {"index": 0, "message": {"content": "All of it."}, "finish_reason": "stop"}
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": 4},
        }
    )

    async def tell(exchange: Exchange) -> None:
        assert isinstance(exchange.json, dict)
        if b"silent" in exchange.body:
            await exchange.until_closed()
            closed.set()
        elif exchange.json["stream"]:
            await speak(exchange)
        else:
            await exchange.send(answer(200, said))

    upstream.script = tell
    response = await client.post(CHAT, content=body(stream=False, model="whole/m"))
    choice = response.json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("All of it.", "stop")
    found = await row(client, response)
    assert (found["tokens_out"], found["counted"], found["stream"]) == (4, "reported", False)
    assert "Hello " in (await client.post(CHAT, content=body(model="whole/m"))).text
    silent = body("silent, in one piece", stream=False, model="whole/m")
    leaving = asyncio.create_task(client.post(CHAT, content=silent))
    await until(lambda: any(b"in one piece" in asked.body for asked in upstream.exchanges))
    leaving.cancel()
    async with asyncio.timeout(20):
        await closed.wait()
        rows: list[dict[str, object]] = []
        while not rows:
            told = await asyncio.to_thread(gateway.rows)
            rows = [row for row in told if row["provider"] == "whole" and row["status"] != "ok"]
            rows = [row for row in rows if row["status"] != "open"]
    assert [(row["status"], row["tokens_in"], row["tokens_out"]) for row in rows] == [
        ("cancelled", 0, 0)
    ]


async def test_a_row_is_found_by_the_id_of_its_answer_too(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, content=body(stream=False, model="up/m"))
    found = await client.get(f"/v1/usage/{response.json()['id']}")
    assert found.json()["request_id"] == response.headers["x-request-id"]


async def test_rows_of_other_keys_are_not_there(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    response = await client.post(CHAT, content=body())
    other = await asyncio.to_thread(gateway.key, "other@example.com")
    found = await client.get(
        f"/v1/usage/{response.headers['x-request-id']}",
        headers={"authorization": f"Bearer {other}"},
    )
    assert found.status_code == 404
    assert found.json()["error"]["code"] == "request_not_found"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        pytest.param({}, "missing_api_key", id="none"),
        pytest.param({"authorization": "Bearer sk-wrong"}, "invalid_api_key", id="wrong"),
        pytest.param({"authorization": "Basic YTpi"}, "invalid_api_key", id="another scheme"),
        pytest.param({"authorization": "Bearer"}, "invalid_api_key", id="empty"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, "/chat", "/v1/models"])
async def test_without_a_key_there_is_no_answer_and_no_row(
    gateway: Gateway, header: dict[str, str], code: str, path: str
) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url) as stranger:
        method = "GET" if path == "/v1/models" else "POST"
        response = await stranger.request(method, path, content=body(), headers=header)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "x-request-id" not in response.headers
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code


async def test_a_revoked_key_is_refused_within_a_second(gateway: Gateway) -> None:
    key = await asyncio.to_thread(gateway.key, "short@example.com")
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}
    ) as http:
        assert (await http.get("/v1/usage/none")).status_code == 404
        await asyncio.to_thread(gateway.run, "keys", "revoke", key)
        began = time.monotonic()
        while (await http.get("/v1/usage/none")).status_code == 404:
            assert time.monotonic() - began < 2
            await asyncio.sleep(0.02)
        refused = await http.post(CHAT, content=body())
    assert refused.status_code == 401
    assert "revoked" in refused.json()["error"]["message"]
    assert key not in refused.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_url"),
        ("POST", "/v1", 404, "unknown_url"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods_get_errors_in_the_same_shape(
    client: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("PUT", "/v1/messages/", 405, "invalid_request_error"),
        ("DELETE", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages/batches/%0a/results", 404, "not_found_error"),
    ],
)
async def test_what_is_not_there_below_a_wire_is_told_in_its_shape(
    client: httpx2.AsyncClient, method: str, path: str, status: int, kind: str
) -> None:
    response = await client.request(method, path, content=b"{}")
    told = response.json()
    assert (response.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)


async def test_what_is_refused_has_a_row(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, content=b'{"model": "up/m", "messages": []}')
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages"
    found = await row(client, response)
    assert (found["status"], found["error_code"], found["http_status"]) == (
        "refused",
        "empty_array",
        400,
    )
    assert (found["tokens_in"], found["cost_usd"]) == (0, 0)


async def test_models_are_listed_and_described(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, valid: Callable[[str, object], None]
) -> None:
    async def list_models(exchange: Exchange) -> None:
        assert exchange.path == "/v1/models"
        await exchange.send(answer(200, b'{"object":"list","data":[{"id":"m"},{"id":"n"}]}'))

    upstream.script = list_models
    listing = (await client.get("/v1/models")).json()
    valid("ListModelsResponse", listing)
    names = [model["id"] for model in listing["data"]]
    assert names == ["helper", "fallback", "quiet", "up/m", "up/n", "whole/m", "whole/n"]
    described = (await client.get("/v1/models/up/n")).json()
    valid("Model", described)
    assert (described["id"], described["owned_by"]) == ("up/n", "up")
    unknown = await client.get("/v1/models/none")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "model_not_found"


async def test_a_model_exists_only_for_the_tiers_it_is_for(
    gateway: Gateway, client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    key = await asyncio.to_thread(gateway.key, "t@example.com", "--tier", "public")
    seen: list[dict[str, object]] = []

    async def remember(exchange: Exchange) -> None:
        seen.append(orjson.loads(exchange.body))
        await speak(exchange)

    upstream.script = remember
    request = orjson.dumps({**orjson.loads(body(model="private", stream=False)), "max_tokens": 900})
    refused = await client.post(CHAT, content=request)
    assert refused.status_code == 404
    assert refused.json()["error"]["code"] == "model_not_found"
    assert (await client.get("/v1/models/private")).status_code == 404
    assert not seen
    kept = await row(client, refused)
    assert (kept["status"], kept["model"], kept["upstream_model"]) == ("refused", "private", "")
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}
    ) as insider:
        assert (await insider.get("/v1/models/private")).json()["name"] == "Ours"
        assert (await insider.post(CHAT, content=request)).status_code == 200
    assert (seen[0]["temperature"], seen[0]["max_tokens"]) == (0.2, 50)


async def test_health_and_readiness_need_no_key(gateway: Gateway) -> None:
    async with httpx2.AsyncClient(base_url=gateway.url) as stranger:
        assert (await stranger.get("/healthz")).json() == {"status": "ok"}
        assert (await stranger.get("/readyz")).json() == {"status": "ready", "calls": 0}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_what_an_upstream_refuses_is_refused_with_its_status(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, stream: bool
) -> None:
    refusal = b'{"error":{"message":"Slow down.","type":"requests","param":null,"code":"rate"}}'

    async def refuse(exchange: Exchange) -> None:
        await exchange.send(answer(429, refusal, [("retry-after", "20")]))

    upstream.script = refuse
    response = await client.post(CHAT, content=body(stream=stream))
    assert response.status_code == 429
    assert (response.headers["retry-after"], response.headers["retry-after-ms"]) == ("20", "20000")
    assert "x-should-retry" not in response.headers
    found = await row(client, response)
    assert (found["status"], found["provider"], found["http_status"]) == ("error", "up", 429)


async def test_a_failure_that_will_not_pass_says_so(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(answer(401, b'{"error":{"message":"bad key sk-secret1234567890"}}'))

    upstream.script = refuse
    response = await client.post(CHAT, content=body())
    assert response.status_code == 502
    assert response.headers["x-should-retry"] == "false"
    assert response.json()["error"]["code"] == "upstream_auth"
    assert "sk-secret" not in response.text


async def test_a_target_that_is_not_reachable_is_passed_over(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, content=body(model="fallback"))
    assert response.status_code == 200
    found = await row(client, response)
    assert (found["model"], found["provider"], found["cost_usd"]) == ("fallback", "up", 0.000027)
    unreachable = await client.post(CHAT, content=body(model="nowhere/m"))
    assert unreachable.status_code == 502
    assert unreachable.json()["error"]["code"] == "upstream_unreachable"


async def test_a_status_waits_for_the_first_event_but_not_for_ever(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def hesitate(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        await asyncio.sleep(2.5)
        await exchange.send(chunk(story("At last.")) + LAST_CHUNK)

    upstream.script = hesitate
    began = time.monotonic()
    async with client.stream("POST", CHAT, content=body()) as response:
        waited = time.monotonic() - began
        heard = b"".join([part async for part in response.aiter_bytes()])
    assert 0.9 < waited < 2.4
    assert heard.startswith(b": ping\n")
    assert b": ping\n\n" not in heard
    assert heard.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("headers", "model", "tier", "dialect"),
    [
        pytest.param({}, "up/m", None, "named", id="default"),
        pytest.param({"x-tool-notifications": "bare"}, "up/m", None, "bare", id="asked for"),
        pytest.param({}, "quiet", None, "off", id="of the model"),
        pytest.param({}, "up/m", "public", "inline", id="of the tier"),
        pytest.param({}, "quiet", "public", "inline", id="tier before model"),
        pytest.param({"x-openwebui-chat-id": "1"}, "up/m", None, "openwebui", id="Open WebUI"),
    ],
)
async def test_the_dialect_is_told(
    gateway: Gateway, headers: dict[str, str], model: str, tier: str | None, dialect: str
) -> None:
    options = ["--tier", tier] if tier else []
    key = await asyncio.to_thread(gateway.key, "d@example.com", *options)
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}", **headers}
    ) as http:
        response = await http.post(CHAT, content=body(model=model))
    assert response.headers["x-tool-notifications"] == dialect


async def test_a_key_has_a_dialect_of_its_own(gateway: Gateway) -> None:
    key = await asyncio.to_thread(gateway.key, "k@example.com", "--notifications", "bare")
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}
    ) as http:
        response = await http.post(CHAT, content=body(model="quiet"))
        wrong = await http.post(CHAT, content=body(), headers={"x-tool-notifications": "loud"})
    assert response.headers["x-tool-notifications"] == "bare"
    assert wrong.status_code == 400
    assert wrong.json()["error"]["param"] == "X-Tool-Notifications"


async def test_a_turn_with_tools_of_both_kinds_goes_on_where_it_paused(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def call_both(exchange: Exchange) -> None:
        said = frames(
            calling("calculator", '{"expression":"17*23"}', "call_A1b2C3d4E5f6G7h8"),
            calling("get_weather", '{"city":"Oslo"}', "call_Z9y8X7w6V5u4T3s2", 1),
            piece(finish="tool_calls"),
            usage(5, 4),
            b"[DONE]",
        )
        await exchange.send(CHUNKED + chunk(said) + LAST_CHUNK)

    weather = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    messages: list[dict[str, object]] = [{"role": "user", "content": "17*23, and the weather?"}]
    request = {"model": "helper", "messages": messages, "tools": [weather]}
    upstream.script = call_both
    response = await client.post(CHAT, json=request)
    choice = response.json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
    assert (await row(client, response))["tool_calls"] == 1

    upstream.script = speak
    messages += [
        choice["message"],
        {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
    ]
    response = await client.post(CHAT, json=request)
    assert response.status_code == 200
    seen = upstream.exchanges[-1].json
    assert isinstance(seen, dict)
    roles = [message["role"] for message in seen["messages"]]
    assert roles == ["user", "assistant", "tool", "tool"]
    assert len(seen["messages"][1]["tool_calls"]) == 2
    assert [message["content"] for message in seen["messages"][2:]] == ["391", "rain"]


async def test_native_events_come_as_they_are(client: httpx2.AsyncClient) -> None:
    response = await client.post("/chat", json={"model": "up/m", "message": "Hello?"})
    names = [
        line.removeprefix("event: ")
        for line in response.text.split("\n")
        if line.startswith("event: ")
    ]
    assert names == ["step_start", "delta", "delta", "complete"]
    assert (await row(client, response))["type"] == "native"
    whole = await client.post("/chat", json={"model": "up/m", "message": "Hello?", "stream": False})
    assert whole.json()["text"] == "Hello there."


async def test_unknown_fields_reach_the_provider(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    request = orjson.loads(body())
    request |= {"seed": 7, "top_k": 40, "vendor": {"deep": [1, None]}, "temperature": None}
    await client.post(CHAT, json=request)
    sent = upstream.exchanges[-1].json
    assert isinstance(sent, dict)
    assert (sent["seed"], sent["top_k"], sent["vendor"]) == (7, 40, {"deep": [1, None]})
    assert "temperature" not in sent
    assert sent["model"] == "m"


async def test_pages_of_listed_origins_may_call(gateway: Gateway) -> None:
    preflight = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    async with httpx2.AsyncClient(base_url=gateway.url) as page:
        allowed = await page.options(CHAT, headers=preflight)
        denied = await page.options(CHAT, headers={**preflight, "origin": "https://evil.example"})
        read = await page.get("/healthz", headers={"origin": ORIGIN})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert denied.status_code == 400
    assert "x-request-id" in read.headers["access-control-expose-headers"]


async def test_each_call_is_one_line_of_log_without_words_of_it(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    response = await client.post(CHAT, content=body("A secret question"))
    await row(client, response)
    request_id = response.headers["x-request-id"]
    await until(lambda: any(request_id in line for line in gateway.log))
    lines = [line for line in gateway.log if request_id in line]
    assert len(lines) == 1
    line = orjson.loads(lines[0])
    assert (line["message"], line["model"], line["tokens_out"]) == ("call ok", "up/m", 2)
    assert not [line for line in gateway.log if "secret" in line or "Hello" in line]


@pytest.mark.parametrize("prefix", ["", "up/"])
async def test_a_key_in_the_place_of_a_model_is_not_kept(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, prefix: str
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(answer(404, b'{"error": {"message": "no such model"}}'))

    upstream.script = refuse
    secret = client.headers["authorization"].removeprefix("Bearer ")
    refused = await client.post(CHAT, content=body(stream=False, model=prefix + secret))
    assert refused.status_code == 404
    kept = await row(client, refused)
    assert secret not in str(kept)
    assert kept["model"] == f"{prefix}[key]"


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/api/models/"])
async def test_models_are_listed_below_every_base_url(
    client: httpx2.AsyncClient, path: str
) -> None:
    listing = await client.get(path)
    assert "helper" in [model["id"] for model in listing.json()["data"]]
    described = await client.get(f"{path.rstrip('/')}/helper")
    assert described.json()["id"] == "helper"


async def test_a_compressed_body_is_refused_in_words(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, content=body(), headers={"content-encoding": "gzip"})
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_encoding"
    assert (await row(client, response))["status"] == "refused"


async def test_a_key_in_the_wrong_place_is_not_said_back(client: httpx2.AsyncClient) -> None:
    secret = "sk-proj-Ab3dEf6hIjKlMnOpQrSt"
    response = await client.post(CHAT, content=body(model=secret))
    assert response.status_code == 404
    assert secret not in response.text


async def test_a_call_that_cannot_be_begun_has_a_row_that_says_so(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("def broken(call, events):\n    raise KeyError('x')\n")
    settings = {**orjson.loads(config(upstream.url)), "interceptors": ["broken:broken"]}
    with Gateway(tmp_path, orjson.dumps(settings).decode()) as gateway:
        headers = {"authorization": f"Bearer {await asyncio.to_thread(gateway.key)}"}
        async with httpx2.AsyncClient(base_url=gateway.url, headers=headers) as client:
            response = await client.post(CHAT, content=body())
        assert response.status_code == 500
        rows: list[dict[str, object]] = []
        async with asyncio.timeout(5):
            while not rows or rows[0]["status"] == "open":
                rows = await asyncio.to_thread(gateway.rows)
    assert [(row["status"], row["http_status"]) for row in rows] == [("error", 500)]
