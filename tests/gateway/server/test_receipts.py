"""The receipt of a request: a line for each round and each call, whose costs add up."""

import time
from collections.abc import Generator
from importlib.metadata import version
from typing import Any

import httpx2
import orjson
import pytest

from gateway.events import Usage
from gateway.server.prices import Prices
from tests.servers.gateway import Gateway

CHAT = "/v1/chat/completions"
SETTINGS = {
    "providers": {
        "demo": {"type": "demo", "pause_ms": 0, "models": ["demo"], "tools": ["calculator"]}
    },
    "prices": {"demo": {"input": 1.0, "output": 10.0}},
    "tool_prices": {"calculator": 0.25},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    folder = tmp_path_factory.mktemp("gateway")
    with Gateway(folder, orjson.dumps(SETTINGS).decode()) as running:
        yield running


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Generator[httpx2.Client, None, None]:
    with gateway.client(gateway.key()) as http:
        yield http


def row(client: httpx2.Client, request_id: str) -> dict[str, Any]:
    for _ in range(100):
        found: dict[str, Any] = client.get(f"/v1/usage/{request_id}").json()
        if found["status"] != "open":
            break
        time.sleep(0.05)
    return found


def ask(client: httpx2.Client, text: str) -> httpx2.Response:
    messages = [{"role": "user", "content": text}]
    return client.post(CHAT, json={"model": "demo", "messages": messages})


def test_every_round_and_call_is_a_line(gateway: Gateway, client: httpx2.Client) -> None:
    response = ask(client, "what is 17 * 23?")
    found = row(client, response.headers["x-request-id"])
    first, call, last = found["receipt"]
    assert [line["kind"] for line in found["receipt"]] == ["round", "tool", "round"]
    assert (first["name"], call["name"], last["name"]) == ("demo/demo", "calculator", "demo/demo")
    assert (call["status"], call["cost_usd"]) == ("ok", 0.25)
    for name in ("tokens_in", "tokens_out"):
        assert first[name] + last[name] == found[name]
    costs = [line["cost_usd"] for line in found["receipt"]]
    assert sum(costs) == pytest.approx(found["cost_usd"])
    assert costs[0] == pytest.approx((first["tokens_in"] + 10 * first["tokens_out"]) / 1e6)
    assert found["attributes"]["prices"] == "settings"


def test_a_plain_answer_is_one_line(client: httpx2.Client) -> None:
    found = row(client, ask(client, "say hello").headers["x-request-id"])
    (line,) = found["receipt"]
    assert line["tokens_out"] == found["tokens_out"]
    assert line["cost_usd"] == found["cost_usd"]


def test_a_cut_answer_has_what_it_came_to(client: httpx2.Client) -> None:
    messages = [{"role": "user", "content": "go on"}]
    asked = {"model": "demo/demo-break", "messages": messages}
    found = row(client, client.post(CHAT, json=asked).headers["x-request-id"])
    (line,) = found["receipt"]
    assert (found["status"], found["counted"]) == ("error", "partial")
    assert line["tokens_out"] == found["tokens_out"] > 0


def test_what_was_refused_has_none(client: httpx2.Client) -> None:
    response = client.post(CHAT, json={"model": "nothing", "messages": [{"role": "user"}]})
    assert "receipt" not in row(client, response.headers["x-request-id"])


def test_it_is_told_at_the_terminal(gateway: Gateway, client: httpx2.Client) -> None:
    request_id = ask(client, "what is 17 * 23?").headers["x-request-id"]
    row(client, request_id)
    page = gateway.run("explain", request_id).stdout
    assert "Receipt" in page
    assert page.count("demo/demo") == 3
    assert "calculator" in page
    assert "0.250000" in page
    told = orjson.loads(gateway.run("explain", request_id, "--json").stdout)
    assert [line["kind"] for line in told["receipt"]] == ["round", "tool", "round"]


def test_the_list_that_prices_came_from_is_kept() -> None:
    prices = Prices({})
    known = {"model": "x", "provider": "openai", "upstream_model": "gpt-4o-mini"}
    assert prices.cost(Usage(1000, 1000), **known)
    assert prices.source(**known) == f"genai-prices {version('genai-prices')}"
    assert prices.source(model="x", provider="demo", upstream_model="demo") is None
