"""Answers that are kept: when, what of them, and what begins with them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.wires.openai_chat import OpenAIChatWire
from adapters.wires.openai_responses import OpenAIResponsesWire
from gateway.errors import InvalidRequest, LedgerUnavailable
from gateway.events import (
    Complete,
    Delta,
    Error,
    Event,
    StepStart,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.ports import Archive, Events
from gateway.records import Document
from gateway.request import ChatRequest, Message
from gateway.server.answers import Answers
from gateway.server.assembly import assemble
from gateway.server.interceptors.notifications import ToolFilter
from gateway.server.pipeline import sift
from gateway.server.service import Service
from gateway.server.settings import Settings
from tests.samples import a_call, a_key, stream_of

WIRE = OpenAIResponsesWire()
ID = "resp_0198c0de000070008000000000000001"
CALL: Message = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    ],
}


class Shelf(Archive):
    """An archive in memory."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str, str], Document] = {}
        self.broken = False

    def start(self) -> None: ...

    def close(self) -> None: ...

    async def get(self, owner: str, kind: str, document_id: str, /) -> Document | None:
        return self.documents.get((owner, kind, document_id))

    async def put(self, document: Document, /) -> None:
        if self.broken:
            raise LedgerUnavailable("The disk is full.")
        self.save(document)

    def save(self, document: Document, /) -> None:
        self.documents[document.owner, document.kind, document.id] = document

    async def delete(self, owner: str, kind: str, document_id: str, /) -> bool:
        return self.documents.pop((owner, kind, document_id), None) is not None

    async def list(
        self, owner: str, kind: str, /, *, limit: int, after: str | None = None
    ) -> Sequence[Document]:
        return []

    async def expire(self, before: datetime, /) -> int:
        return 0


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def service(tmp_path: Path, shelf: Shelf) -> Service:
    settings = Settings.load({"SLUICE_DATA_DIR": str(tmp_path)})
    return replace(assemble(settings), archive=shelf)


def _answers(service: Service, email: str = "ada@example.com") -> Answers:
    return Answers(WIRE, service, a_key(email=email))


async def _prepare(service: Service, email: str = "ada@example.com", **body: Any) -> ChatRequest:
    answers = _answers(service, email)
    content = await answers.dereference({"model": "demo", "input": "Hi", **body})
    return await answers.precede(content, WIRE.parse(content, 9))


async def _answer(service: Service, *told: Event, **body: Any) -> list[Event]:
    """What a client hears of an answer that consists of these events."""
    answers = _answers(service)
    content: Mapping[str, object] = {"model": "demo", "input": "Hi", **body}
    request = await answers.precede(content, WIRE.parse(content, 9))
    keeping = answers.keeping(content, request)
    events: Events = stream_of([(event,) for event in told])
    call = a_call(request)
    if keeping is not None:
        events = keeping.keep(call, sift(keeping.listen(call, events), ToolFilter(call.detail)))
    return [event async for batch in events for event in batch]


def _kept(shelf: Shelf) -> dict[str, Any]:
    (document,) = shelf.documents.values()
    kept: dict[str, Any] = orjson.loads(document.data)
    return kept


async def test_an_answer_is_kept_before_its_client_hears_that_it_is_whole(
    service: Service, shelf: Shelf
) -> None:
    answers = _answers(service)
    content: Mapping[str, object] = {"model": "demo", "input": "Hi"}
    request = WIRE.parse(content, 9)
    keeping = answers.keeping(content, request)
    assert keeping is not None
    events = keeping.keep(a_call(request), stream_of([(Delta("Hello"),), (Complete(),)]))
    await anext(events)
    assert not shelf.documents
    await anext(events)
    assert list(shelf.documents) == [("ada@example.com", "responses", ID)]
    await events.aclose()


async def test_all_of_a_turn_is_kept_but_its_instructions(service: Service, shelf: Shelf) -> None:
    long = "seen " * 2000
    await _answer(
        service,
        StepStart(1, "m", "p"),
        ToolCallStart("s1", "look", "server"),
        ToolCallReady("s1", "{}"),
        ToolCallResult("s1", "ok", long),
        StepStart(2, "m", "p"),
        Delta("Done."),
        Complete(),
        instructions="Be brief.",
    )
    kept = _kept(shelf)
    call = {"id": "s1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert kept["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "s1", "content": long},
        {"role": "assistant", "content": "Done."},
    ]
    assert kept["body"]["instructions"] == "Be brief."
    assert len(kept["body"]["output"][0]["output"]) < len(long), "what clients see is capped"


async def test_input_is_kept_as_items_that_have_ids(service: Service, shelf: Shelf) -> None:
    items = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "id": "fc_1"},
        {"type": "function_call_output", "call_id": "c1", "output": "seen"},
    ]
    await _answer(service, Delta("Done."), Complete(), input=items)
    kept = _kept(shelf)["input"]
    assert [item["type"] for item in kept] == [
        "message",
        "message",
        *(i["type"] for i in items[2:]),
    ]
    assert kept[0]["content"] == [{"type": "input_text", "text": "Hi"}]
    assert kept[1]["content"] == [{"type": "output_text", "text": "Yes?", "annotations": []}]
    assert kept[2]["id"] == "fc_1"
    assert len({item["id"] for item in kept}) == len(items)


@pytest.mark.parametrize(
    ("told", "body"),
    [
        pytest.param([Delta("Hi"), Error("server_error", None, "No")], {}, id="that failed"),
        pytest.param([Delta("Hi")], {}, id="that was given up"),
        pytest.param([Delta("Hi"), Complete()], {"store": False}, id="that is not to be kept"),
    ],
)
async def test_an_answer_is_not_kept(
    service: Service, shelf: Shelf, told: list[Event], body: dict[str, object]
) -> None:
    assert await _answer(service, *told, **body) == told
    assert not shelf.documents


async def test_an_answer_that_cannot_be_kept_has_failed(service: Service, shelf: Shelf) -> None:
    shelf.broken = True
    told = await _answer(service, Delta("Hi"), Complete())
    assert told == [Delta("Hi"), LedgerUnavailable("The disk is full.").event()]


async def test_without_an_archive_nothing_is_said_to_be_kept(service: Service) -> None:
    bare = replace(service, archive=None)
    assert (await _prepare(bare)).store is False
    assert _answers(bare).keeping({}, ChatRequest(model="m", messages=(), store=True)) is None
    with pytest.raises(InvalidRequest, match="not found"):
        await _prepare(bare, previous_response_id=ID)


async def test_what_follows_an_answer_begins_with_it(service: Service) -> None:
    await _answer(service, Delta("Hello."), Complete(), instructions="Be brief.")
    request = await _prepare(service, previous_response_id=ID, input="And?", instructions="Shout.")
    assert list(request.messages) == [
        {"role": "system", "content": "Shout."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And?"},
    ]


async def test_a_chain_has_all_that_led_to_it(service: Service) -> None:
    await _answer(service, Delta("one"), Complete())
    await _answer(service, Delta("two"), Complete(), previous_response_id=ID, input="2")
    request = await _prepare(service, previous_response_id=ID, input="3")
    assert [row["content"] for row in request.messages] == ["Hi", "one", "2", "two", "3"]


async def test_an_answer_that_is_followed_stands_before_a_conversation(service: Service) -> None:
    await _answer(service, Delta("Hello."), Complete())
    content: Mapping[str, object] = {"model": "demo", "input": "And?", "previous_response_id": ID}
    named = replace(WIRE.parse(content, 9), conversation="from a header")
    request = await _answers(service).precede(content, named)
    assert (request.conversation, len(request.messages)) == (None, 3)


async def test_the_answer_of_another_user_is_not_there(service: Service) -> None:
    await _answer(service, Delta("Hello."), Complete())
    with pytest.raises(InvalidRequest) as caught:
        await _prepare(service, "bob@example.com", previous_response_id=ID)
    error = caught.value
    assert (error.status, error.code, error.param) == (
        404,
        "previous_response_not_found",
        "previous_response_id",
    )


CALLING = (ToolCallStart("c1", "look"), ToolCallReady("c1", "{}"), Complete("tool_calls"))
OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "seen"}


async def test_a_call_is_answered_by_what_follows(service: Service) -> None:
    await _answer(service, *CALLING)
    request = await _prepare(service, previous_response_id=ID, input=[OUTPUT])
    assert list(request.messages)[1:] == [
        CALL,
        {"role": "tool", "tool_call_id": "c1", "content": "seen"},
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param({"input": "Well?"}, "No tool output found", id="a call without a result"),
        pytest.param(
            {"input": [OUTPUT, {**OUTPUT, "call_id": "c2"}]},
            "No tool call found",
            id="a result without a call",
        ),
        pytest.param(
            {"input": [OUTPUT, OUTPUT]}, "No tool call found", id="a result that comes twice"
        ),
    ],
)
async def test_calls_and_results_that_do_not_fit_are_refused(
    service: Service, body: dict[str, object], reason: str
) -> None:
    await _answer(service, *CALLING)
    with pytest.raises(InvalidRequest, match=reason) as caught:
        await _prepare(service, previous_response_id=ID, **body)
    assert caught.value.param == "input"
    with pytest.raises(InvalidRequest):
        await _prepare(service, **(body | {"input": [OUTPUT]}))


async def test_nothing_to_say_cannot_follow_what_asks_nothing(service: Service) -> None:
    await _answer(service, Delta("Hello."), Complete())
    with pytest.raises(InvalidRequest) as caught:
        await _prepare(service, previous_response_id=ID, input=None)
    assert caught.value.param == "input"


async def test_a_reference_stands_for_an_item_that_is_kept(service: Service) -> None:
    await _answer(service, Delta("Hello."), Complete())
    items: list[object] = [
        {"role": "user", "content": "Hi"},
        {"type": "item_reference", "id": f"msg_{ID[5:]}000"},
        {"id": f"msg_{ID[5:]}i000"},
    ]
    request = await _prepare(service, input=items)
    assert [row["content"] for row in request.messages] == ["Hi", "Hello.", "Hi"]
    with pytest.raises(InvalidRequest, match="not found") as caught:
        await _prepare(service, "bob@example.com", input=items)
    assert caught.value.param == "input[1]"


@pytest.mark.parametrize("kind", ["web_search", "web_search_preview", "web_search_2025_08_26"])
async def test_a_search_needs_a_model_that_has_it(
    service: Service, tmp_path: Path, kind: str
) -> None:
    tools: list[object] = [{"type": "function", "name": "look"}, {"type": kind}]
    with pytest.raises(InvalidRequest, match="no web search") as caught:
        await _prepare(service, tools=tools)
    assert caught.value.param == "tools[1]"
    settings = {"SLUICE_DATA_DIR": str(tmp_path), "SLUICE_SEARXNG_URL": "http://127.0.0.1:9"}
    searching = assemble(Settings.load(settings))
    assert len((await _prepare(searching, tools=tools)).tools) == 1


async def test_other_wires_are_left_alone(service: Service) -> None:
    answers = Answers(OpenAIChatWire(), service, a_key())
    body: dict[str, object] = {"input": [{"type": "item_reference", "id": "x"}]}
    request = ChatRequest(model="m", messages=[CALL], store=True)
    assert await answers.dereference(body) is body
    assert await answers.precede(body, request) is request
    assert answers.keeping(body, request) is None
