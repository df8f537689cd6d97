"""Answers that are kept, for what follows them and for clients that fetch them again.

An answer is kept before its client hears that it is whole: an id that was shown can be followed from
that moment on, whatever becomes of the process. It belongs to its user; to others it is not there.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast

import orjson

from gateway.errors import InvalidRequest, LedgerUnavailable
from gateway.events import Complete, Json
from gateway.outcome import Outcome
from gateway.ports import Archive, Events, Wire
from gateway.records import ApiKey, Call, Document
from gateway.request import ChatRequest, Message
from gateway.secrets import conceal
from gateway.server.service import Service
from gateway.server.transcript import Transcript
from gateway.sse import dump

log = logging.getLogger(__name__)

_SEARCH = "web_search"
_DIGITS = 32
"""Of an answer's id, after its prefix. The ids of its items begin with them, too."""


class PreviousNotFound(InvalidRequest):
    status = 404
    code = "previous_response_not_found"


class Answers:
    """Those of one user in one wire's format. A wire that stores none has none, nor has any where there
    is no archive."""

    def __init__(self, wire: Wire, service: Service, key: ApiKey) -> None:
        self._wire = wire
        self._archive = service.archive if wire.stored_paths else None
        self._router = service.router
        self._key = key

    async def find(self, answer_id: str) -> Json | None:
        """`body`, `messages` and `input`."""
        if self._archive is None:
            return None
        document = await self._archive.get(self._key.email, self._wire.type, answer_id)
        return None if document is None else cast(Json, orjson.loads(document.data))

    async def delete(self, answer_id: str) -> bool:
        if self._archive is None:
            return False
        return await self._archive.delete(self._key.email, self._wire.type, answer_id)

    async def dereference(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """The body of a request with kept items in the place of references to them."""
        items = body.get("input") if self._archive is not None else None
        if not isinstance(items, list) or not any(map(_refers, items)):
            return body
        known: dict[str, Json] = {}
        asked: set[str] = set()
        found = []
        for item in items:
            if (item_id := _refers(item)) is not None:
                answer_id = _answer_of(item_id)
                if answer_id not in asked:
                    asked.add(answer_id)
                    known |= _items(await self.find(answer_id))
                item = known.get(item_id, {"type": "item_reference", "id": item_id})
            found.append(item)
        return {**body, "input": found}

    async def precede(self, body: Mapping[str, object], request: ChatRequest) -> ChatRequest:
        """The request with the messages of the answer that it follows before its own, and a look at
        what a provider would refuse. Raises `InvalidRequest`."""
        if not self._wire.stored_paths:
            return request
        self._check_search(body, request)
        if self._archive is None:
            request = replace(request, store=False)
        if request.previous is not None:
            kept = await self.find(request.previous)
            if kept is None:
                raise PreviousNotFound(
                    f"Previous response with id {conceal(request.previous[:80])!r} not found.",
                    param="previous_response_id",
                )
            before = cast(list[Message], kept["messages"])
            own = _without_instructions(body, request.messages)
            first = request.messages[: len(request.messages) - len(own)]
            # It has its whole history with it: a conversation would only add the same again.
            request = replace(request, messages=[*first, *before, *own], conversation=None)
            if not own and not _waits(before):
                raise InvalidRequest(
                    "There is nothing in 'input' to be answered.",
                    param="input",
                    code="missing_required_parameter",
                )
        if request.conversation is None:
            _check_calls(request.messages)
        return request

    def keeping(self, body: Mapping[str, object], request: ChatRequest) -> "Keeping | None":
        """What keeps the answer, where it is to be kept and can be."""
        if self._archive is None or not request.store:
            return None
        return Keeping(self._wire, self._archive, body)

    def _check_search(self, body: Mapping[str, object], request: ChatRequest) -> None:
        """A search that a client relies on is ours, which not every model has."""
        tools = body.get("tools")
        kinds = [tool.get("type") for tool in tools] if isinstance(tools, list) else []
        for index, kind in enumerate(kinds):
            if str(kind).startswith(_SEARCH):
                route = self._router.resolve(request.model, self._key.tier)
                if not any(tool.name == _SEARCH for tool in route.offers()):
                    raise InvalidRequest(
                        f"The model {conceal(request.model[:80])!r} has no web search here: the "
                        f"gateway's settings give it no tool named {_SEARCH!r}.",
                        param=f"tools[{index}]",
                        code="unsupported_value",
                    )


class Keeping:
    """Keeps the answer of one call. Two interceptors: `listen` hears what the engine says, `keep` what
    the client is told."""

    def __init__(self, wire: Wire, archive: Archive, body: Mapping[str, object]) -> None:
        self._wire = wire
        self._archive = archive
        self._body = body
        self._transcript = Transcript()

    async def listen(self, call: Call, events: Events) -> Events:
        async with aclosing(events):
            async for batch in events:
                self._transcript.feed(batch)
                yield batch

    async def keep(self, call: Call, events: Events) -> Events:
        outcome = Outcome()
        async with aclosing(events):
            async for batch in events:
                outcome.feed(batch)
                if isinstance(batch[-1], Complete):
                    try:
                        await self._archive.put(self._document(call, outcome))
                    except LedgerUnavailable as error:
                        log.error("an answer could not be kept: %s", error.message)
                        batch = (*batch[:-1], error.event())
                yield batch

    def _document(self, call: Call, outcome: Outcome) -> Document:
        answer = self._wire.render(call, outcome)
        answer_id = str(answer["id"])
        asked = _without_instructions(self._body, call.request.messages)
        now = datetime.now(UTC)
        return Document(
            owner=call.key.email,
            kind=self._wire.type,
            id=answer_id,
            data=dump(
                {
                    "body": answer,
                    "messages": [*asked, *self._transcript.messages()],
                    "input": _input(self._body, answer_id),
                }
            ),
            created_at=now,
            updated_at=now,
        )


def _without_instructions(
    body: Mapping[str, object], messages: Sequence[Message]
) -> Sequence[Message]:
    """Instructions are of one request, and stand first in its messages."""
    if body.get("instructions") is None or not messages:
        return messages
    return messages[1:] if messages[0].get("role") == "system" else messages


def _waits(messages: Sequence[Message]) -> bool:
    """Whether a history ends with something to be answered."""
    return bool(messages) and messages[-1].get("role") != "assistant"


def _check_calls(messages: Sequence[Message]) -> None:
    """Every result has its call and every call its result, or providers refuse the history without
    telling a client of this format what is wrong."""
    open_calls: set[str] = set()
    for message in messages:
        calls = message.get("tool_calls")
        if isinstance(calls, list):
            open_calls |= {call["id"] for call in calls}
        if message.get("role") == "tool":
            call_id = str(message.get("tool_call_id"))
            if call_id not in open_calls:
                raise InvalidRequest(
                    "No tool call found for function call output with call_id "
                    f"{conceal(call_id[:80])}.",
                    param="input",
                )
            open_calls.discard(call_id)
    for call_id in sorted(open_calls):
        raise InvalidRequest(
            f"No tool output found for function call {conceal(call_id[:80])}.", param="input"
        )


def _refers(item: object) -> str | None:
    """The id in a reference, which may come without a type."""
    match item:
        case {"type": "item_reference", "id": str(item_id)}:
            return item_id
        case {"id": str(item_id), **others} if others in ({}, {"type": None}):
            return item_id
        case _:
            return None


def _answer_of(item_id: str) -> str:
    return "resp_" + item_id.partition("_")[2][:_DIGITS]


def _items(kept: Json | None) -> dict[str, Json]:
    if kept is None:
        return {}
    body = cast(Json, kept["body"])
    items = [*cast(list[Json], body["output"]), *cast(list[Json], kept["input"])]
    return {str(item["id"]): item for item in items}


def _input(body: Mapping[str, object], answer_id: str) -> Sequence[Json]:
    """A request's items, each with an id and its content in parts."""
    value = body.get("input")
    items = [{"role": "user", "content": value}] if isinstance(value, str) else value
    if not isinstance(items, list):
        return []
    digits = answer_id.partition("_")[2]
    return [_item(item, f"{digits}i{index:03x}") for index, item in enumerate(items)]


def _item(item: Json, digits: str) -> Json:
    kind = str(item.get("type", "message"))
    prefix = _PREFIXES.get(kind, kind)
    named: dict[str, object] = {"id": f"{prefix}_{digits}", "type": kind, **item}
    if kind == "message":
        named = {"status": "completed", **named}
        if isinstance(content := item.get("content"), str):
            part = "output_text" if item.get("role") == "assistant" else "input_text"
            text: dict[str, object] = {"type": part, "text": content}
            named["content"] = [text | {"annotations": []} if part == "output_text" else text]
    return named


_PREFIXES: Mapping[str, str] = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}
