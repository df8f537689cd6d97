"""Targets that refuse, hang, are over their limit, fail or break off: who is asked, how often, and what
the client and the account hear of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from typing import Any

import httpx2
import orjson
import pytest

from tests.readers import strict
from tests.servers.dialogue import body, piece, story
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

pytestmark = pytest.mark.faults

STORY = CHUNKED + chunk(story("All ", "is ", "well.")) + LAST_CHUNK
CHAT = "/v1/chat/completions"


def said(message: str, **fields: object) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": None, "code": None, **fields}})


LIMITED = said("Slow down.", type="requests", code="rate_limit_exceeded")
REFUSALS = {
    "limited": answer(429, LIMITED),
    "limited-briefly": answer(429, LIMITED, [("retry-after-ms", "50")]),
    "limited-for-long": answer(429, LIMITED, [("retry-after", "60")]),
    "limited-forever": answer(429, LIMITED, [("retry-after", "86400")]),
    "failing": answer(500, said("Oh no.")),
    "overloaded": answer(529, said("Overloaded", type="overloaded_error")),
    "loading": answer(503, said("Loading model", type="unavailable_error", code=503)),
    "keyless": answer(401, said("Who are you?")),
    "unpaid": answer(402, said("Insufficient Balance")),
    "too-large": answer(413, said("TPM", type="tokens", code="rate_limit_exceeded")),
    "strict": answer(400, said("No such option.", type="invalid_request_error")),
}


async def speak(exchange: Exchange) -> None:
    """The path says how: `/fine/chat/completions`; a `-once` after a refusal, only the first time."""
    how = exchange.path.split("/")[1]
    if how.endswith("-once"):
        ASKED[how] += 1
        how = how.removesuffix("-once") if ASKED[how] == 1 else "fine"
    if how in REFUSALS:
        await exchange.send(REFUSALS[how])
        return
    match how:
        case "hanging":
            await exchange.until_closed()
        case "dropping":
            exchange.reset()
        case "silent":
            await exchange.send(CHUNKED + LAST_CHUNK)
        case "dying":
            await exchange.send(CHUNKED + chunk(frames(piece("All "), piece("is "))))
            await asyncio.sleep(0.05)
            exchange.reset()
        case "erring":
            error = {"error": {"message": "CUDA error", "type": "server_error", "code": 500}}
            await exchange.send(CHUNKED + chunk(frames(piece("All "), error)) + LAST_CHUNK)
        case "erring-first":
            error = {"error": {"message": "busy", "type": "overloaded_error"}}
            await exchange.send(CHUNKED + chunk(frames(error)) + LAST_CHUNK)
        case _:
            await exchange.send(STORY)


ASKED: Counter[str] = Counter()

ONCE = ("limited-once", "limited-briefly-once", "failing-once", "overloaded-once", "dropping-once")
HOWS = (
    *REFUSALS, *ONCE, "hanging", "dropping", "silent", "dying", "erring", "erring-first", "fine"
)  # fmt: skip


@pytest.fixture(scope="module")
async def upstream() -> AsyncGenerator[ScriptedUpstream, None]:
    async with scripted(speak) as server:
        yield server


@pytest.fixture(scope="module")
def gateway(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Gateway, None, None]:
    common = {"type": "openai", "timeout": {"first_event": 0.5, "total": 30}, "breaker": False}
    providers = {how: {**common, "base_url": f"{upstream.url}/{how}"} for how in HOWS}
    providers["nowhere"] = {**common, "base_url": "http://127.0.0.1:9"}
    providers["nobody"] = {**common, "base_url": "http://no-such-host.invalid"}
    models = {
        f"{how}, fine": {"targets": [f"{how}/m", "fine/m"]} for how in (*HOWS, "nowhere", "nobody")
    }
    models |= {
        f"{how}, keyless": {"targets": [f"{how}/m", "keyless/m"]}
        for how in ("limited-forever", "unpaid", "nowhere")
    }
    long = [f"failing/{'m' * 90}{number}" for number in range(9)]
    models["nine"] = {"targets": [*long, "fine/m"]}
    settings = {"providers": providers, "models": models}
    with Gateway(tmp_path_factory.mktemp("gateway"), orjson.dumps(settings).decode()) as running:
        yield running


@pytest.fixture(scope="module")
async def client(gateway: Gateway) -> AsyncGenerator[httpx2.AsyncClient, None]:
    headers = {"authorization": f"Bearer {await asyncio.to_thread(gateway.key)}"}
    async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=60) as http:
        yield http


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, Any]:
    for _ in range(100):
        found = await client.get(f"/v1/usage/{response.headers['x-request-id']}")
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    told: dict[str, Any] = found.json()
    return told


def text_of(response: httpx2.Response) -> str:
    loads = [orjson.loads(data) for _, data in strict([response.content]) if data != "[DONE]"]
    return "".join(
        choice["delta"].get("content") or "" for load in loads for choice in load.get("choices", ())
    )


@pytest.fixture(autouse=True)
def fresh(upstream: ScriptedUpstream) -> None:
    ASKED.clear()
    upstream.exchanges.clear()


def asked(upstream: ScriptedUpstream) -> dict[str, int]:
    return dict(Counter(exchange.path.split("/")[1] for exchange in upstream.exchanges))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("how", "attempts"),
    [
        ("nowhere", ["upstream_unreachable"]),
        ("nobody", ["upstream_unreachable"]),
        ("hanging", ["upstream_timeout"]),
        ("dropping", ["upstream_truncated"] * 2),
        ("silent", ["upstream_truncated"] * 2),
        ("limited", ["429 rate_limit_exceeded"] * 2),
        ("limited-briefly", ["429 rate_limit_exceeded"] * 2),
        ("limited-for-long", ["429 rate_limit_exceeded"]),
        ("failing", ["500"] * 2),
        ("overloaded", ["529"] * 2),
        ("loading", ["503"] * 2),
        ("keyless", ["401 upstream_auth"]),
        ("unpaid", ["402 insufficient_quota"]),
        ("too-large", ["413 rate_limit_exceeded"]),
        ("erring-first", ["upstream_error"] * 2),
    ],
)
async def test_the_next_target_answers_and_the_row_says_why(
    client: httpx2.AsyncClient,
    upstream: ScriptedUpstream,
    how: str,
    attempts: list[str],
    stream: bool,
) -> None:
    response = await client.post(CHAT, content=body(model=f"{how}, fine", stream=stream))
    assert response.status_code == 200
    if stream:
        assert text_of(response) == "All is well."
    else:
        assert response.json()["choices"][0]["message"]["content"] == "All is well."
    found = await row(client, response)
    assert (found["status"], found["provider"]) == ("ok", "fine")
    assert found["attributes"] == {"attempts": "; ".join(f"{how}/m: {why}" for why in attempts)}
    there = {} if how in ("nowhere", "nobody") else {how: len(attempts)}
    assert asked(upstream) == {**there, "fine": 1}


@pytest.mark.parametrize("how", ONCE)
async def test_a_failure_that_passes_is_absorbed(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, how: str
) -> None:
    response = await client.post(CHAT, content=body(model=f"{how}/m"))
    assert text_of(response) == "All is well."
    found = await row(client, response)
    assert (found["status"], found["provider"]) == ("ok", how)
    assert found["attributes"]["attempts"].startswith(f"{how}/m: ")
    assert asked(upstream) == {how: 2}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize(
    ("model", "status", "code", "retry", "attempts"),
    [
        pytest.param("nowhere/m", 502, "upstream_unreachable", True, 2, id="not reachable"),
        pytest.param("hanging/m", 504, "upstream_timeout", True, 2, id="timed out"),
        pytest.param("dropping/m", 502, "upstream_truncated", True, 2, id="dropped"),
        pytest.param("failing/m", 502, "upstream_error", True, 2, id="500"),
        pytest.param("overloaded/m", 503, "upstream_error", True, 2, id="529"),
        pytest.param("limited/m", 429, "rate_limit_exceeded", True, 2, id="429"),
        pytest.param("limited-forever/m", 429, "rate_limit_exceeded", True, 1, id="429 for a day"),
        pytest.param("keyless/m", 502, "upstream_auth", False, 1, id="401"),
        pytest.param("unpaid/m", 429, "insufficient_quota", False, 1, id="402"),
        pytest.param("strict/m", 400, None, True, 1, id="400, which nobody tries again"),
        pytest.param("limited-forever, keyless", 502, "upstream_auth", True, 2, id="429 and 401"),
        pytest.param("unpaid, keyless", 502, "upstream_auth", False, 2, id="402 and 401"),
    ],
)
async def test_when_all_failed_the_last_error_says_whether_to_try_again(
    client: httpx2.AsyncClient,
    model: str,
    status: int,
    code: str | None,
    retry: bool,
    attempts: int,
    stream: bool,
) -> None:
    response = await client.post(CHAT, content=body(model=model, stream=stream))
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.headers.get("x-should-retry") == (None if retry else "false")
    wait = "86400" if "forever" in model else None
    assert response.headers.get("retry-after") == wait
    found = await row(client, response)
    told = found.get("attributes", {}).get("attempts", "").split("; ")
    assert len(told) == attempts
    assert found["error_code"] == (code or "invalid_request_error")
    if model == "limited-forever, keyless":
        assert told == [
            "limited-forever/m: 429 rate_limit_exceeded",
            "keyless/m: 401 upstream_auth",
        ]


@pytest.mark.parametrize("how", ["dying", "erring"])
async def test_an_answer_that_breaks_off_is_not_begun_anew(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream, how: str
) -> None:
    response = await client.post(CHAT, content=body(model=f"{how}, fine"))
    assert response.status_code == 200
    heard = list(strict([response.content]))
    assert heard[-1][0] == "error"
    assert "[DONE]" not in response.text
    assert text_of(response) in ("All ", "All is ")
    assert asked(upstream) == {how: 1}
    found = await row(client, response)
    assert (found["status"], found["provider"]) == ("error", how)
    assert "attributes" not in found


async def test_no_client_hears_of_the_attempts(client: httpx2.AsyncClient) -> None:
    for model in ("nowhere, fine", "limited-forever, keyless"):
        for path in (CHAT, "/chat"):
            response = await client.post(path, content=body(model=model))
            assert response.status_code in (200, 502)
            assert "attempts" not in response.text
            assert "429" not in response.text


async def test_explain_shows_the_attempts(client: httpx2.AsyncClient, gateway: Gateway) -> None:
    response = await client.post(CHAT, content=body(model="overloaded, fine"))
    await row(client, response)
    told = await asyncio.to_thread(gateway.run, "explain", response.headers["x-request-id"])
    assert "overloaded/m: 529" in told.stdout


async def test_a_row_has_room_for_so_many_attempts_and_for_no_key(
    client: httpx2.AsyncClient,
) -> None:
    told = (await row(client, await client.post(CHAT, content=body(model="nine"))))["attributes"]
    assert told["attempts"].startswith("failing/mmm")
    assert told["attempts"].endswith("…")
    assert len(told["attempts"]) == 1000
    secret = "sk-proj-0123456789abcdefghij"
    response = await client.post(CHAT, content=body(model=f"failing/{secret}"))
    assert secret not in orjson.dumps(await row(client, response)).decode()


async def test_embeddings_are_asked_for_in_the_same_way(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    asked_for = {"model": "nowhere, keyless", "input": "Hi"}
    response = await client.post("/v1/embeddings", json=asked_for)
    assert (response.status_code, response.json()["error"]["code"]) == (502, "upstream_auth")
    assert "x-should-retry" not in response.headers
    told = (await row(client, response))["attributes"]["attempts"]
    assert told == "nowhere/m: upstream_unreachable; keyless/m: 401 upstream_auth"
    assert asked(upstream) == {"keyless": 1}
