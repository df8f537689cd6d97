"""Conversations over a running gateway: what the model is shown, what is kept, and for whom."""

import asyncio
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import openai
import orjson
import pytest

from gateway.events import Complete, Delta, Error, Event
from gateway.ports import Events
from gateway.records import ApiKey, Call, Document
from gateway.request import ChatRequest
from gateway.server.conversations import Conversations
from gateway.server.pipeline import Delivery
from keys.archive import SQLiteArchive
from tests.samples import a_request, stream_of
from tests.servers.dialogue import config, story
from tests.servers.gateway import Gateway
from tests.servers.scripted import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    ScriptedUpstream,
    chunk,
    frames,
    scripted,
)

CHAT = "/v1/chat/completions"
LIST = "/v1/conversations"


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, object]:
    return {"role": "assistant", "content": text}


async def speak(exchange: Exchange) -> None:
    """Answers with the number of messages that it was shown."""
    shown = orjson.loads(exchange.body)["messages"]
    await exchange.send(CHUNKED + chunk(story(f"heard {len(shown)}")) + LAST_CHUNK)


def delta(**fields: object) -> dict[str, object]:
    choice = {"index": 0, "delta": fields, "finish_reason": None}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


def done(reason: str) -> dict[str, object]:
    return {**delta(), "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}


async def calculate(exchange: Exchange) -> None:
    """Asks for a tool of the gateway, then answers."""
    shown = orjson.loads(exchange.body)["messages"]
    if shown[-1]["role"] == "tool":
        await exchange.send(CHUNKED + chunk(story(f"it is {shown[-1]['content']}")) + LAST_CHUNK)
        return
    function = {"name": "calculator", "arguments": '{"expression": "6*7"}'}
    call = {"index": 0, "id": "call_1", "type": "function", "function": function}
    pieces = frames(delta(content="Let me see. "), delta(tool_calls=[call]), done("tool_calls"))
    await exchange.send(CHUNKED + chunk(pieces + b"data: [DONE]\n\n") + LAST_CHUNK)


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
    settings["models"] = {"helper": {"targets": ["up/m"], "tools": ["calculator"]}}
    settings["tiers"] = {"webui": {"trust": True}}
    env = {"SLUICE_WINDOW": "6"}
    with Gateway(
        tmp_path_factory.mktemp("gateway"), orjson.dumps(settings).decode(), env
    ) as running:
        yield running


@pytest.fixture
async def client(gateway: Gateway, request: pytest.FixtureRequest) -> AsyncGenerator[Any, None]:
    """A user of its own for each test."""
    name = f"{abs(hash(request.node.nodeid))}@example.com"
    headers = {"authorization": f"Bearer {await asyncio.to_thread(gateway.key, name)}"}
    async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as http:
        yield http


async def ask(
    client: httpx2.AsyncClient,
    name: str | None,
    *messages: dict[str, object],
    body: dict[str, object] | None = None,
    headers: dict[str, str] | None = None,
) -> httpx2.Response:
    named = {"x-conversation-id": name} if name else {}
    asked = {"model": "helper", "messages": messages, **(body or {})}
    return await client.post(CHAT, json=asked, headers={**named, **(headers or {})})


def text(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    told: str = response.json()["choices"][0]["message"]["content"]
    return told


def shown(upstream: ScriptedUpstream) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = orjson.loads(upstream.exchanges[-1].body)["messages"]
    return messages


async def row(client: httpx2.AsyncClient, response: httpx2.Response) -> dict[str, Any]:
    """The settled row of a response."""
    for _ in range(100):
        found = await client.get(f"/v1/usage/{response.headers['x-request-id']}")
        if found.json()["status"] != "open":
            break
        await asyncio.sleep(0.05)
    result: dict[str, Any] = found.json()
    return result


async def test_without_a_name_nothing_is_kept(client: httpx2.AsyncClient) -> None:
    response = await ask(client, None, user("hi"))
    assert "x-conversation-id" not in response.headers
    assert (await client.get(LIST)).json() == {"object": "list", "data": [], "has_more": False}


async def test_the_model_is_shown_again_what_a_tool_found(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    upstream.script = calculate
    response = await ask(client, "sums", user("what is 6*7?"))
    assert text(response) == "Let me see. it is 42"
    assert response.headers["x-conversation-id"] == "sums"
    upstream.script = speak
    await ask(client, "sums", user("what is 6*7?"), said("Let me see. it is 42"), user("sure?"))
    roles = [message["role"] for message in shown(upstream)]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    assert shown(upstream)[1]["tool_calls"][0]["function"]["name"] == "calculator"
    assert shown(upstream)[2]["content"] == "42"


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        pytest.param({"x-conversation-id": "n"}, {}, id="header"),
        pytest.param({"x-chat-id": "n"}, {}, id="another header"),
        pytest.param({"x-session-id": "n"}, {"session_id": "other"}, id="header before body"),
        pytest.param({}, {"conversation_id": "n"}, id="body"),
        pytest.param({}, {"session_id": "n"}, id="session in the body"),
        pytest.param({}, {"chat_id": "n"}, id="chat in the body"),
        pytest.param({}, {"metadata": {"conversation_id": "n"}}, id="metadata"),
    ],
)
async def test_a_conversation_is_named_in_many_ways(
    client: httpx2.AsyncClient,
    upstream: ScriptedUpstream,
    headers: dict[str, str],
    body: dict[str, object],
) -> None:
    response = await ask(client, None, user("hi"), headers=headers, body=body)
    assert response.headers["x-conversation-id"] == "n"
    assert (await row(client, response))["attributes"]["conversation"] == "n"
    sent = orjson.loads(upstream.exchanges[-1].body)
    assert not {"conversation_id", "session_id", "chat_id"} & sent.keys()
    assert [item["id"] for item in (await client.get(LIST)).json()["data"]] == ["n"]


@pytest.mark.parametrize(
    ("metadata", "left"),
    [
        pytest.param({"chat_id": "n"}, None, id="the name alone"),
        pytest.param({"chat_id": "n", "run": "7"}, {"run": "7"}, id="and more"),
    ],
)
async def test_a_provider_is_not_told_the_name_in_metadata(
    client: httpx2.AsyncClient,
    upstream: ScriptedUpstream,
    metadata: dict[str, str],
    left: dict[str, str] | None,
) -> None:
    await ask(client, None, user("hi"), body={"metadata": metadata})
    assert orjson.loads(upstream.exchanges[-1].body).get("metadata") == left


async def test_open_webuis_chat_counts_where_it_is_trusted_and_saved(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    chat = {"x-openwebui-chat-id": "chat-1"}
    assert "x-conversation-id" not in (await ask(client, None, user("a"), headers=chat)).headers
    key = await asyncio.to_thread(gateway.key, "webui@example.com", "--tier", "webui")
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30
    ) as webui:
        kept = await ask(webui, None, user("a"), headers=chat)
        assert kept.headers["x-conversation-id"] == "chat-1"
        for headers in (
            {"x-openwebui-chat-id": "temporary:1"},
            {**chat, "x-openwebui-task": "tags"},
        ):
            response = await ask(webui, None, user("a"), headers=headers)
            assert "x-conversation-id" not in response.headers
        one = (await webui.get(f"{LIST}/chat-1")).json()
        assert len(one["messages"]) == 2


async def test_a_thin_client_says_only_what_is_new(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    thin = {"x-history": "server"}
    await ask(client, "thin", user("one"), headers=thin)
    await ask(client, "thin", user("two"), headers=thin)
    assert [message["content"] for message in shown(upstream)] == ["one", "heard 1", "two"]


async def test_large_ones_go_on_like_small_ones(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    words = "many words " * 100_000
    await ask(client, "large", user(words))
    await ask(client, "large", user(words), said("heard 1"), user("two"))
    told = (await client.get(f"{LIST}/large")).json()
    assert [message["content"] for message in told["messages"]] == [
        words,
        "heard 1",
        "two",
        "heard 3",
    ]


async def test_a_long_conversation_is_shown_in_part(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    thin = {"x-history": "server"}
    for number in range(5):
        await ask(client, "long", user(f"{number}"), headers=thin)
    assert [m["content"] for m in shown(upstream) if m["role"] == "user"] == ["2", "3", "4"]
    assert len((await client.get(f"{LIST}/long")).json()["messages"]) == 10


async def test_an_edit_is_a_branch_and_both_can_be_seen(client: httpx2.AsyncClient) -> None:
    await ask(client, "b", user("one"))
    await ask(client, "b", user("one"), said("heard 1"), user("two"))
    await ask(client, "b", user("one"), said("heard 1"), user("two, edited"))
    told = (await client.get(f"{LIST}/b")).json()
    assert [m["content"] for m in told["messages"]] == ["one", "heard 1", "two, edited", "heard 3"]
    assert told["branch"] == told["branches"][0]
    other = await client.get(f"{LIST}/b", params={"branch": told["branches"][1]})
    assert [m["content"] for m in other.json()["messages"]] == ["one", "heard 1", "two", "heard 3"]
    wrong = await client.get(f"{LIST}/b", params={"branch": "99"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "branch")


async def test_its_title_is_the_first_words_whatever_stands_before_them(
    client: httpx2.AsyncClient,
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    spoken = {"type": "text", "text": "what is\nthis?"}
    for content in ([image], [image, spoken], "and that?"):
        await ask(
            client, "seen", {"role": "user", "content": content}, headers={"x-history": "server"}
        )
    assert (await client.get(f"{LIST}/seen")).json()["title"] == "what is this?"


async def test_they_are_listed_page_by_page_and_deleted(client: httpx2.AsyncClient) -> None:
    for name in ("first", "second/with a slash", "third"):
        await ask(client, name, user(f"Hello\n from {name}"))
    page = (await client.get(LIST, params={"limit": 2})).json()
    assert [item["id"] for item in page["data"]] == ["third", "second/with a slash"]
    assert page["has_more"]
    assert page["data"][0]["title"] == "Hello from third"
    assert page["data"][0]["message_count"] == 2
    rest = (await client.get(LIST, params={"after": "second/with a slash"})).json()
    assert [item["id"] for item in rest["data"]] == ["first"]
    gone = await client.delete(f"{LIST}/second/with a slash")
    assert gone.json()["deleted"] is True
    assert (await client.get(f"{LIST}/second/with a slash")).status_code == 404
    assert (await client.delete(f"{LIST}/second/with a slash")).status_code == 404


async def test_it_is_nobody_elses(gateway: Gateway, client: httpx2.AsyncClient) -> None:
    await ask(client, "mine", user("a secret"))
    key = await asyncio.to_thread(gateway.key, "stranger@example.com")
    async with httpx2.AsyncClient(
        base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30
    ) as stranger:
        assert (await stranger.get(LIST)).json()["data"] == []
        assert (await stranger.get(f"{LIST}/mine")).json()["error"][
            "code"
        ] == "conversation_not_found"
        assert (await stranger.delete(f"{LIST}/mine")).status_code == 404
        assert (
            text(await ask(stranger, "mine", user("hi"), headers={"x-history": "server"}))
            == "heard 1"
        )
    assert len((await client.get(f"{LIST}/mine")).json()["messages"]) == 2
    async with httpx2.AsyncClient(base_url=gateway.url) as nobody:
        assert (await nobody.get(LIST)).status_code == 401


async def test_a_new_key_of_the_same_user_goes_on(gateway: Gateway) -> None:
    first, second = [await asyncio.to_thread(gateway.key, "two@example.com") for _ in range(2)]
    for key, heard in ((first, "heard 1"), (second, "heard 3")):
        async with httpx2.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30
        ) as http:
            assert text(await ask(http, "c", user("x"), headers={"x-history": "server"})) == heard


async def test_two_at_once_wait_for_each_other(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    running = 0

    async def slowly(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.1)
        running -= 1
        await speak(exchange)

    upstream.script = slowly
    thin = {"x-history": "server"}
    told = await asyncio.gather(
        *(ask(client, "busy", user(f"{n}"), headers=thin) for n in range(5))
    )
    assert sorted(map(text, told)) == ["heard 1", "heard 3", "heard 5", "heard 5", "heard 5"]
    kept = (await client.get(f"{LIST}/busy")).json()["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant"] * 5


async def test_one_that_leaves_while_it_waits_is_no_hindrance(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    go_on = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await go_on.wait()
        await speak(exchange)

    upstream.script = wait
    first = asyncio.create_task(ask(client, "queue", user("1")))
    await asyncio.sleep(0.3)
    asked = {"model": "helper", "messages": [user("2")]}
    with pytest.raises(httpx2.ReadTimeout):
        await client.post(CHAT, json=asked, headers={"x-conversation-id": "queue"}, timeout=0.3)
    go_on.set()
    assert text(await first) == "heard 1"
    assert text(await ask(client, "queue", user("3"))) == "heard 1"


async def test_a_turn_that_is_broken_off_leaves_no_call_without_result(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    asked = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        messages = orjson.loads(exchange.body)["messages"]
        if messages[-1]["role"] == "tool":
            asked.set()
            await exchange.until_closed()
        else:
            await calculate(exchange)

    upstream.script = hang
    body = {"model": "helper", "messages": [user("what is 6*7?")], "stream": True}
    async with client.stream(
        "POST", CHAT, json=body, headers={"x-conversation-id": "cut"}
    ) as response:
        async for _ in response.aiter_bytes():
            if asked.is_set():
                break
    upstream.script = speak
    for _ in range(100):
        found = await client.get(f"{LIST}/cut")
        if found.status_code == 200:
            break
        await asyncio.sleep(0.05)
    kept = found.json()["messages"]
    assert [message["role"] for message in kept] == ["user", "assistant", "tool"]
    assert kept[2]["content"] == "42"
    await ask(client, "cut", user("and now?"), headers={"x-history": "server"})
    assert [m["role"] for m in shown(upstream)] == ["user", "assistant", "tool", "user"]


async def test_what_is_deleted_stays_so_whatever_was_under_way(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        asked.set()
        await go_on.wait()
        await speak(exchange)

    await ask(client, "gone", user("a secret"))
    upstream.script = wait
    thin = {"x-history": "server"}
    first = asyncio.create_task(ask(client, "gone", user("one"), headers=thin))
    await asyncio.wait_for(asked.wait(), 10)
    second = asyncio.create_task(ask(client, "gone", user("two"), headers=thin))
    assert (await client.delete(f"{LIST}/gone")).status_code == 200
    go_on.set()
    assert text(await first) == "heard 3"
    assert text(await second) == "heard 1"
    kept = (await client.get(f"{LIST}/gone")).json()["messages"]
    assert [message["content"] for message in kept] == ["two", "heard 1"]


async def test_a_failure_before_a_word_keeps_nothing(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.reset()

    upstream.script = fail
    assert (await ask(client, "failed", user("hi"))).status_code == 502
    assert (await client.get(f"{LIST}/failed")).status_code == 404


async def test_the_responses_api_goes_on_with_a_conversation(
    gateway: Gateway, client: httpx2.AsyncClient
) -> None:
    key = client.headers["authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key) as sdk:
        for heard in ("heard 1", "heard 3"):
            made = await sdk.responses.create(model="helper", input="hi", conversation="talk")
            assert made.output_text == heard
            assert made.conversation is not None
            assert made.conversation.id == "talk"
    assert len((await client.get(f"{LIST}/talk")).json()["messages"]) == 4


class Stalled(SQLiteArchive):
    """A disk that takes its time."""

    async def put(self, document: Document, /) -> None:
        await asyncio.Event().wait()


async def test_a_whole_answer_is_kept_though_its_client_leaves_before_the_last_word(
    tmp_path: Path,
) -> None:
    async def engine() -> Events:
        yield (Delta("whole"),)
        yield (Complete(),)

    archive = Stalled(f"sqlite:///{tmp_path / 'archive.db'}")
    archive.start()
    kept = Conversations(archive, 0)
    request = ChatRequest(model="m", messages=[user("hi")], conversation="c")
    key = ApiKey(
        id="k",
        email="ada@example.com",
        name="",
        tier="",
        masked="",
        created_at=datetime.now(UTC),
    )
    call = Call(id="1", key=key, request=request, created=0)
    async with kept.join(key.email, request, thin=False) as turn:
        events = turn.keep(call, turn.listen(call, engine()))
        await anext(events)
        last = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.05)
        last.cancel()
        await asyncio.wait([last])
        await events.aclose()
    found = await kept.find(key.email, "c")
    assert found is not None
    assert found[1].messages() == [user("hi"), said("whole")]
    archive.close()


async def test_what_was_kept_survives_a_kill(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    with Gateway(folder, config(upstream.url)) as gateway:
        key = await asyncio.to_thread(gateway.key)
        for heard in ("heard 1", "heard 3", "heard 5"):
            async with httpx2.AsyncClient(
                base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30
            ) as http:
                response = await ask(
                    http, "k", user("x"), headers={"x-history": "server"}, body={"model": "up/m"}
                )
            assert text(response) == heard
            await asyncio.to_thread(gateway.kill)
            await asyncio.to_thread(gateway.start)


async def test_a_kill_amid_a_turn_leaves_the_conversation_as_it_was_before(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    asked = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        if orjson.loads(exchange.body)["messages"][-1]["role"] == "tool":
            asked.set()
            await exchange.until_closed()
        else:
            await calculate(exchange)

    settings = orjson.loads(config(upstream.url))
    settings["models"] = {"helper": {"targets": ["up/m"], "tools": ["calculator"]}}
    folder = tmp_path_factory.mktemp("amid")
    with Gateway(folder, orjson.dumps(settings).decode()) as gateway:
        key = await asyncio.to_thread(gateway.key)
        headers = {"authorization": f"Bearer {key}"}
        thin = {"x-history": "server"}
        async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as http:
            assert text(await ask(http, "k", user("one"))) == "heard 1"
            upstream.script = hang
            broken = asyncio.create_task(ask(http, "k", user("what is 6*7?"), headers=thin))
            await asyncio.wait_for(asked.wait(), 20)
            await asyncio.to_thread(gateway.kill)
            with pytest.raises(httpx2.TransportError):
                await broken
        upstream.script = speak
        await asyncio.to_thread(gateway.start)
        async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as http:
            assert len((await http.get(f"{LIST}/k")).json()["messages"]) == 2
            assert text(await ask(http, "k", user("two"), headers=thin)) == "heard 3"


async def test_with_nothing_to_be_kept_nothing_is(
    upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("forgetful")
    with Gateway(folder, config(upstream.url), {"SLUICE_RETENTION": "0"}) as gateway:
        key = await asyncio.to_thread(gateway.key)
        async with httpx2.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {key}"}, timeout=30
        ) as http:
            response = await ask(http, "n", user("x"), body={"model": "up/m"})
            assert text(response) == "heard 1"
            assert "x-conversation-id" not in response.headers
            assert (await http.get(LIST)).json()["data"] == []
            assert (await http.get(f"{LIST}/n")).status_code == 404
        assert not (folder / "data" / "archive.db").exists()


@pytest.mark.parametrize("name", ["x" * 257, "line\u0085break"])
async def test_a_name_that_cannot_be_is_refused(client: httpx2.AsyncClient, name: str) -> None:
    response = await ask(client, None, user("hi"), body={"conversation_id": name})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "conversation"


async def test_a_name_beyond_ascii_comes_back_in_ascii(client: httpx2.AsyncClient) -> None:
    response = await ask(client, None, user("hi"), body={"conversation_id": "Grüße 😀"})
    assert response.headers["x-conversation-id"] == "Gr%C3%BC%C3%9Fe %F0%9F%98%80"
    assert (await client.get(f"{LIST}/Grüße 😀")).status_code == 200


async def test_on_the_telephone_the_newest_wins(
    client: httpx2.AsyncClient, upstream: ScriptedUpstream
) -> None:
    waiting = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        waiting.set()
        await exchange.until_closed()

    upstream.script = wait
    asked = {"model": "helper", "stream": False, "call": {"id": "call-7"}}
    path = "/api/chat/completions"
    old = asyncio.create_task(client.post(path, json={**asked, "messages": [user("one")]}))
    await asyncio.wait_for(waiting.wait(), 10)
    upstream.script = speak
    new = await client.post(path, json={**asked, "messages": [user("one more")]})
    assert text(new) == "heard 1"
    superseded = await row(client, await old)
    assert (superseded["status"], superseded["error_code"]) == ("error", "superseded")
    kept = (await client.get(f"{LIST}/call-7")).json()["messages"]
    assert [message["content"] for message in kept] == ["one more", "heard 1"]


class SlowArchive(SQLiteArchive):
    """Reads nothing until it may."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()

    async def get(self, owner: str, kind: str, document_id: str, /) -> None:
        await self.may_read.wait()


async def test_one_that_is_overtaken_while_its_history_is_read_ends_at_once() -> None:
    archive = SlowArchive()
    kept = Conversations(archive, 0)
    request = a_request(conversation="c", newest_wins=True)

    async def answer_first() -> Sequence[Event]:
        async with kept.join("ada@example.com", request, thin=False) as turn:
            delivery = Delivery(stream_of([[Delta("Hi")]]), lambda error: None)
            turn.attach(delivery)
            outcome = await delivery.collect()
            return () if outcome.end is None else (outcome.end,)

    async def come_second() -> None:
        async with kept.join("ada@example.com", request, thin=False):
            pass

    first = asyncio.create_task(answer_first())
    await asyncio.sleep(0)
    second = asyncio.create_task(come_second())
    await asyncio.sleep(0)
    archive.may_read.set()
    told = await first
    await second
    assert [event.code for event in told if isinstance(event, Error)] == ["superseded"]
