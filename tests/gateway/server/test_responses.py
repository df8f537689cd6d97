"""The Responses API of a running gateway, from outside."""

import json
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.servers.gateway import Gateway

Valid = Callable[[str, object], None]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def http(gateway: Gateway) -> Generator[httpx2.Client, None, None]:
    with gateway.client(gateway.key()) as client:
        yield client


def _ask(http: httpx2.Client, **fields: object) -> dict[str, Any]:
    reply = http.post(
        "/v1/responses", json={"model": "demo-fast", "input": "say hello there", **fields}
    )
    assert reply.status_code == httpx2.codes.OK, reply.text
    body: dict[str, Any] = reply.json()
    return body


def _row(http: httpx2.Client, request_id: str) -> dict[str, Any]:
    """A row is settled a moment after its response."""
    for _ in range(100):
        row: dict[str, Any] = http.get(f"/v1/usage/{request_id}").json()
        if row["status"] != "open":
            return row
        time.sleep(0.05)
    raise AssertionError(f"the row is still open: {row}")


@pytest.mark.parametrize("base", ["/v1", "/api", ""])
def test_it_is_served_below_every_base_url(http: httpx2.Client, base: str) -> None:
    for slash in ("", "/"):
        reply = http.post(
            f"{base}/responses{slash}", json={"model": "demo-fast", "input": "say hello there"}
        )
        assert reply.status_code == httpx2.codes.OK
    answer = http.get(f"{base}/responses/{reply.json()['id']}")
    assert answer.json() == reply.json()


def test_what_is_fetched_is_what_was_streamed(http: httpx2.Client, valid: Valid) -> None:
    asked = {"model": "demo-fast", "input": "what is 17 * 23?", "stream": True}
    with http.stream("POST", "/v1/responses", json=asked) as reply:
        frames = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data:")]
    final = frames[-1]["response"]
    assert frames[-1]["type"] == "response.completed"
    assert final["store"] is True
    assert http.get(f"/v1/responses/{final['id']}").json() == final
    valid("Response", final)


def test_an_answer_outlives_the_process_that_gave_it(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway:
        key = gateway.key()
        asked = {"model": "demo-fast", "input": "say hello there", "stream": True}
        with (
            gateway.client(key) as http,
            http.stream("POST", "/v1/responses", json=asked) as reply,
        ):
            for line in reply.iter_lines():
                if line == "event: response.completed":
                    gateway.kill()
                    break
        gateway.start()
        digits = reply.headers["x-request-id"].replace("-", "")
        with gateway.client(key) as http:
            assert http.get(f"/v1/responses/resp_{digits}").json()["status"] == "completed"
            following = _ask(http, previous_response_id=f"resp_{digits}")
            assert following["previous_response_id"] == f"resp_{digits}"


def test_nothing_is_kept_where_nothing_is_to_be_kept(tmp_path: Path) -> None:
    with (
        Gateway(tmp_path, env={"SLUICE_RETENTION": "0"}) as gateway,
        gateway.client(gateway.key()) as http,
    ):
        answer = _ask(http, input="say rosebud there")
        assert answer["store"] is False
        assert http.get(f"/v1/responses/{answer['id']}").status_code == httpx2.codes.NOT_FOUND
    assert not any(b"rosebud" in file.read_bytes() for file in _files(tmp_path))


def test_an_answer_that_is_not_to_be_kept_is_nowhere(tmp_path: Path) -> None:
    with Gateway(tmp_path) as gateway, gateway.client(gateway.key()) as http:
        _ask(http, input="say rosebud there", store=False)
        kept = _ask(http, input="say lilac there")
        assert any(b"lilac" in file.read_bytes() for file in _files(tmp_path))
        assert http.delete(f"/v1/responses/{kept['id']}").json() == {
            "id": kept["id"],
            "object": "response",
            "deleted": True,
        }
    for word in (b"rosebud", b"lilac"):
        assert not any(word in file.read_bytes() for file in _files(tmp_path))


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_input_is_listed_page_by_page(http: httpx2.Client) -> None:
    items = [
        {"role": "developer", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "user", "content": [{"type": "input_text", "text": "c"}]},
    ]
    answer = _ask(http, input=items)
    path = f"/v1/responses/{answer['id']}/input_items"

    def page(**query: object) -> dict[str, Any]:
        found: dict[str, Any] = http.get(path, params=query).json()
        return found

    def texts(found: dict[str, Any]) -> str:
        return "".join(item["content"][0]["text"] for item in found["data"])

    assert texts(page()) == "cba"
    first = page(order="asc", limit=2)
    assert (texts(first), first["has_more"]) == ("ab", True)
    assert (first["first_id"], first["last_id"]) == tuple(item["id"] for item in first["data"])
    second = page(order="asc", limit=2, after=first["last_id"])
    assert (texts(second), second["has_more"]) == ("c", False)
    nothing = page(order="asc", after=second["last_id"])
    assert (nothing["data"], nothing["first_id"], nothing["has_more"]) == ([], None, False)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("input_items?limit=0", "limit"),
        ("input_items?limit=101", "limit"),
        ("input_items?limit=x", "limit"),
        ("input_items?order=up", "order"),
        ("?stream=true", "stream"),
    ],
)
def test_questions_about_an_answer_that_make_no_sense_are_refused(
    http: httpx2.Client, valid: Valid, query: str, param: str
) -> None:
    answer = _ask(http)
    reply = http.get(f"/v1/responses/{answer['id']}{'' if query[0] == '?' else '/'}{query}")
    assert reply.status_code == httpx2.codes.BAD_REQUEST
    valid("ErrorResponse", reply.json())
    assert reply.json()["error"]["param"] == param


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("name", ["resp_none", "x", "%00", "%F0%9F%98%80", "resp_" + "0" * 500])
def test_an_answer_that_is_not_there_is_not_found(
    http: httpx2.Client, valid: Valid, method: str, name: str
) -> None:
    reply = http.request(method, f"/v1/responses/{name}")
    assert reply.status_code == httpx2.codes.NOT_FOUND
    valid("ErrorResponse", reply.json())
    assert "not found" in reply.json()["error"]["message"]


def test_nobody_fetches_without_a_key(gateway: Gateway, http: httpx2.Client) -> None:
    answer = _ask(http)
    with httpx2.Client(base_url=gateway.url) as stranger:
        for method in ("GET", "DELETE"):
            reply = stranger.request(method, f"/v1/responses/{answer['id']}")
            assert reply.status_code == httpx2.codes.UNAUTHORIZED


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": "Hi"}, 400, "model"),
        ({"model": "demo"}, 400, "input"),
        ({"model": "gpt-none", "input": "Hi"}, 404, "model"),
        ({"model": "gpt-none", "input": "Hi", "tools": [{"type": "web_search"}]}, 404, "model"),
        ({"model": "demo", "input": "Hi", "tools": [{"type": "web_search"}]}, 400, "tools[0]"),
        ({"model": "demo", "input": "Hi", "tools": [{"type": "mcp"}]}, 400, "tools[0].type"),
        ({"model": "demo", "input": "Hi", "background": True}, 400, "background"),
        (
            {"model": "demo", "input": "Hi", "previous_response_id": "resp_x"},
            404,
            "previous_response_id",
        ),
        ({"model": "demo", "input": [{"type": "item_reference", "id": "x"}]}, 400, "input[0]"),
    ],
    ids=lambda value: None if isinstance(value, int | dict) else value,
)
def test_bad_requests_are_refused_in_openais_shape_and_accounted(
    gateway: Gateway,
    http: httpx2.Client,
    valid: Valid,
    body: dict[str, object],
    status: int,
    param: str,
) -> None:
    reply = http.post("/v1/responses", json=body)
    assert reply.status_code == status, reply.text
    valid("ErrorResponse", reply.json())
    assert reply.json()["error"]["param"] == param
    row = _row(http, reply.headers["x-request-id"])
    assert (row["type"], row["status"], row["http_status"]) == ("responses", "refused", status)


def test_answers_at_once_are_all_kept(gateway: Gateway, http: httpx2.Client) -> None:
    answers: list[dict[str, Any]] = []

    def ask() -> None:
        answers.extend(_ask(http, input="what is 17 * 23?") for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer["id"] for answer in answers}) == 40
    for answer in answers:
        assert http.get(f"/v1/responses/{answer['id']}").json() == answer
