import json
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.engine.tools import ToolContext, ToolFailed
from gateway.engine.tools.http import HttpTool
from tests.servers.scripted import Exchange, ScriptedUpstream, answer, scripted

CONTEXT = ToolContext(
    "request", "call", "ada@example.com", lambda *_: None, conversation="Grüße\r\nX: 1"
)
TOKEN = "tok-3f9c2a71d0"

PARAMETERS: dict[str, object] = {
    "properties": {
        "number": {"type": "string"},
        "status": {"type": "string", "enum": ["open", "sent"]},
        "most": {"type": "integer"},
        "tags": {"type": "array"},
    },
    "required": ["number"],
}


def tool(upstream: ScriptedUpstream, path: str = "/orders/{number}", **fields: object) -> HttpTool:
    row = {
        "description": "Finds an order.",
        "url": upstream.url + path,
        "parameters": PARAMETERS,
        "headers": {"Authorization": f"Bearer {TOKEN}"},
        "allow": [upstream.url.removeprefix("http://")],
    }
    return HttpTool("find_order", row | fields)


async def run(made: HttpTool, **arguments: object) -> str:
    try:
        return await made.run(arguments, CONTEXT)
    finally:
        await made.aclose()


async def echo(exchange: Exchange) -> None:
    """Says back what it got, as a careless service does."""
    said = {
        "method": exchange.method,
        "path": exchange.path,
        "headers": exchange.headers,
        "body": exchange.body.decode(),
    }
    await exchange.send(answer(200, json.dumps(said).encode()))


async def test_arguments_go_into_the_url_and_the_query() -> None:
    async with scripted(echo) as upstream:
        said = json.loads(await run(tool(upstream), number="A/1 ?&é", most=3, tags=["a", 1]))
    assert said["method"] == "GET"
    assert said["path"] == "/orders/A%2F1%20%3F&%C3%A9?most=3&tags=%5B%22a%22,1%5D"
    assert said["body"] == ""


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
async def test_arguments_go_into_the_body_but_those_that_belong_elsewhere(method: str) -> None:
    async with scripted(echo) as upstream:
        made = tool(upstream, "/orders/{number}?v=2", method=method, query=["status"])
        said = json.loads(await run(made, number="A-1", status="open", most=3, tags=["a"]))
    assert (said["method"], said["path"]) == (method, "/orders/A-1?v=2&status=open")
    assert json.loads(said["body"]) == {"most": 3, "tags": ["a"]}
    assert said["headers"]["content-type"] == "application/json"


async def test_a_delete_has_no_body() -> None:
    async with scripted(echo) as upstream:
        said = json.loads(await run(tool(upstream, method="delete"), number="A-1", most=1))
    assert (said["method"], said["path"], said["body"]) == ("DELETE", "/orders/A-1?most=1", "")


async def test_the_secret_reaches_the_service_and_nobody_else() -> None:
    async with scripted(echo) as upstream:
        made = tool(upstream, "/orders/{number}?key=query-secret-1")
        text = await run(made, number="A-1")
        [exchange] = upstream.exchanges
    assert exchange.headers["authorization"] == f"Bearer {TOKEN}"
    assert "query-secret-1" in exchange.path
    assert TOKEN not in text
    assert "query-secret-1" not in text
    assert "[secret]" in text


async def test_a_service_may_be_told_who_asks() -> None:
    async with scripted(echo) as upstream:
        context = {"X-User": "email", "X-Conversation": "conversation", "X-Caller": "caller"}
        await run(tool(upstream, context=context), number="A-1")
        [exchange] = upstream.exchanges
    assert exchange.headers["x-user"] == "ada@example.com"
    # Not ours, hence written so that it cannot end the header.
    assert exchange.headers["x-conversation"] == "Gr%C3%BC%C3%9Fe%0D%0AX: 1"
    assert exchange.headers["x-caller"] == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "number: missing."),
        ({"number": 3}, "number: expected string, not 3."),
        ({"number": "A", "most": "3"}, "most: expected integer, not '3'."),
        ({"number": "A", "most": True}, "most: expected integer, not True."),
        ({"number": "A", "status": "lost"}, "status: expected one of open, sent, not 'lost'."),
        ({"number": "A", "url": "http://x"}, "url: there is no such argument."),
        ({"number": " "}, "number: expected something, not ' '."),
        ({"number": ".."}, "The arguments do not fit: number."),
    ],
)
async def test_arguments_that_do_not_fit_are_told_and_nothing_is_sent(
    arguments: dict[str, object], words: str
) -> None:
    async with scripted(echo) as upstream:
        with pytest.raises(ToolFailed) as failed:
            await run(tool(upstream), **arguments)
        assert upstream.exchanges == []
    assert words in str(failed.value)


async def test_a_whole_number_may_be_written_as_a_decimal() -> None:
    async with scripted(echo) as upstream:
        said = json.loads(await run(tool(upstream), number="A", most=3.0))
    assert said["path"] == "/orders/A?most=3"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (404, b'{"error":"no order A-1 for tok-3f9c2a71d0"}', "with status 404.\n{"),
        (422, b"x" * 100_000, "with status 422.\nxxx"),
        (401, b"bad token tok-3f9c2a71d0", "The service refused, with status 401."),
        (500, b"Traceback: /srv/app.py", "The service failed, with status 500."),
    ],
    ids=["not found", "long", "credentials", "fault"],
)
async def test_what_a_service_does_not_like_is_told_to_the_model(
    status: int, body: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(answer(status, body))

    async with scripted(refuse) as upstream:
        with pytest.raises(ToolFailed) as failed:
            await run(tool(upstream), number="A-1")
    said = str(failed.value)
    assert words in said
    assert len(said) < 2_100
    assert TOKEN not in said + caplog.text
    assert "Traceback" not in said


async def test_a_service_that_is_not_there_is_not_named(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted(echo) as upstream:
        made = tool(upstream)
    with pytest.raises(ToolFailed) as failed:
        await run(made, number="A-1")
    assert str(failed.value) == "The service cannot be used at present."
    assert "find_order: 127.0.0.1 cannot be reached." in caplog.text
    assert TOKEN not in caplog.text


async def test_a_request_that_changes_something_follows_no_redirect() -> None:
    async def redirect(exchange: Exchange) -> None:
        await exchange.send(answer(307, b"", [("location", "/elsewhere")]))

    async with scripted(redirect) as upstream:
        with pytest.raises(ToolFailed, match="cannot be used"):
            await run(tool(upstream, method="POST"), number="A-1")
        assert len(upstream.exchanges) == 1


async def test_no_content_is_success() -> None:
    async def nothing(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with scripted(nothing) as upstream:
        assert await run(tool(upstream, method="DELETE"), number="A-1") == "Done."


async def test_a_long_answer_is_cut_and_says_so() -> None:
    async def long(exchange: Exchange) -> None:
        await exchange.send(answer(200, "é".encode() * 100, [("content-type", "text/plain")]))

    async with scripted(long) as upstream:
        text = await run(tool(upstream, max_bytes=11), number="A-1")
    assert text == "ééééé\n[cut: 189 bytes more]"


async def test_a_name_that_leads_to_a_private_address_is_refused() -> None:
    async with scripted(echo) as upstream:
        made = tool(upstream, url="http://localhost/orders/{number}", allow=[])
        with pytest.raises(ToolFailed, match="cannot be used"):
            await run(made, number="A-1")
        assert upstream.connections == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"description": ""}, "description: expected words"),
        ({"url": None}, "url: expected one like"),
        ({"url": "shop.example/x"}, "url: expected one like"),
        ({"url": "https://{number}.example/x"}, "url: expected one like"),
        ({"url": "https://shop.example/{nummer}"}, r"url: \{nummer\} is no property"),
        ({"url": "https://shop.example/{most}"}, r"url: \{most\} has to be among"),
        ({"url": "https://shop.example/?most=3"}, "url: its query has 'most' already"),
        ({"url": "http://10.0.0.5:8080/{number}"}, r"add allow: \['10.0.0.5:8080'\]"),
        ({"url": "https://u:p@shop.example/{number}"}, "url: A URL with a user name"),
        ({"method": "TRACE"}, "method: expected one of GET, POST, PUT, PATCH, DELETE"),
        ({"parameters": []}, "parameters: expected a JSON schema of an object"),
        ({"parameters": {"type": "string"}}, "parameters: expected a JSON schema of an object"),
        ({"parameters": {"properties": {"a": 1}}}, "parameters.properties: expected"),
        ({"parameters": {"required": ["a"]}}, "parameters.required: there is no property 'a'"),
        ({"query": ["number"]}, "query: 'number' is no property"),
        ({"headers": {"X A": "b"}}, "headers: 'X A' is no name"),
        ({"headers": {"X-A": "secret\nb"}}, "headers.X-A: expected printable ASCII"),
        ({"headers": "X-A: b"}, "headers: expected a mapping"),
        ({"context": {"X-A": "mail"}}, "context.X-A: did you mean 'email'"),
        ({"max_bytes": 0}, "max_bytes: expected a whole number from 1"),
        ({"timeout": 0}, "timeout: expected more than 0"),
        ({"metod": "GET"}, "metod: no such field; did you mean 'method'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_row_is_said_in_one_line(fields: Mapping[str, Any], message: str) -> None:
    row = {
        "description": "Finds an order.",
        "url": "https://shop.example/orders/{number}",
        "parameters": PARAMETERS,
    }
    with pytest.raises(ValueError, match=message) as wrong:
        HttpTool("find_order", row | fields)
    assert "\n" not in str(wrong.value)
    assert "secret" not in str(wrong.value)


def test_models_are_told_the_schema_of_the_row() -> None:
    row = {"description": "Pings.", "url": "https://shop.example/ping", "timeout": 3}
    made = HttpTool("ping", row)
    assert (made.name, made.description, made.timeout) == ("ping", "Pings.", 3.0)
    assert made.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
