"""Conversations over an API that has none: which one a request belongs to, whose turn it is, and what is
kept of it for the next request.

Opt-in: a request that names no conversation is answered and forgotten. A conversation belongs to a user;
another's of the same name is another conversation.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias, cast

import orjson

from gateway.engine import window
from gateway.engine.history import History
from gateway.errors import GatewayError, InvalidRequest, LedgerUnavailable
from gateway.events import Complete, Json
from gateway.ports import Archive, Events
from gateway.records import Call, Document
from gateway.request import ChatRequest, Message
from gateway.server.pipeline import Delivery
from gateway.server.transcript import Transcript
from gateway.sse import dump

log = logging.getLogger(__name__)

KIND = "conversation"

_HEADERS = ("x-conversation-id", "x-chat-id", "x-session-id")
_FIELDS = ("conversation_id", "session_id", "chat_id")
_NAMING = frozenset({*_FIELDS, "metadata"})
"""Options in which it may be named."""
_LONGEST = 256
_MOST = 2000
"""Messages and answers that are kept of a conversation."""
_LARGEST = 16 << 20
"""Bytes that are kept of one, which is read and written as a whole in each turn."""
_SMALL = 64 << 10
"""Bytes that are worked through in a millisecond or two. More of them would hold up other calls."""
_TITLE = 80

_Name: TypeAlias = tuple[str, str]
"""Owner, and what the client calls it."""


class Superseded(GatewayError):
    """A newer request of the conversation has made this one useless."""

    status = 409
    type = "conflict"
    code = "superseded"


def identify(
    request: ChatRequest, headers: Mapping[str, str], body: Mapping[str, object]
) -> ChatRequest:
    """The request with the name of its conversation, the first that is found: in the headers, in the
    body, in what the wire understood. Raises `InvalidRequest` for a name that cannot be one."""
    if not request.options.keys().isdisjoint(_NAMING):
        request = replace(request, options=_without_names(request.options))
    if request.task is not None:
        return request
    name = _named(headers, body) or request.conversation
    if name is None:
        return request
    if not name.isprintable() or len(name) > _LONGEST:
        raise InvalidRequest(
            f"The name of a conversation has at most {_LONGEST} characters, all of them printable.",
            param="conversation",
            code="invalid_value",
        )
    return replace(request, conversation=name)


def _named(headers: Mapping[str, str], body: Mapping[str, object]) -> str | None:
    metadata = body.get("metadata")
    inner = metadata if isinstance(metadata, Mapping) else {}
    told = [
        *map(headers.get, _HEADERS),
        *map(body.get, _FIELDS),
        *map(inner.get, _FIELDS),
    ]
    return next((name.strip() for name in told if isinstance(name, str) and name.strip()), None)


def _without_names(options: Mapping[str, object]) -> Mapping[str, object]:
    """They mean nothing to a provider, and some refuse metadata that they are not to keep."""
    rest = {name: value for name, value in options.items() if name not in _FIELDS}
    match rest.get("metadata"):
        case dict() as metadata if not metadata.keys().isdisjoint(_FIELDS):
            rest["metadata"] = {k: v for k, v in metadata.items() if k not in _FIELDS}
            if not rest["metadata"]:
                del rest["metadata"]
        case _:
            pass
    return rest


@dataclass(slots=True, eq=False)
class _Place:
    """Where the requests of one conversation wait for each other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    newest: int = 0
    """Number of the last request that makes earlier ones useless."""
    live: Delivery | None = None
    deletions: int = 0


class Conversations:
    """Those of all users."""

    def __init__(self, archive: Archive, most: int) -> None:
        """`most`: messages that a model is shown at once; 0 for all."""
        self._archive = archive
        self._most = most
        self._places: dict[_Name, _Place] = {}
        self._number = 0

    @asynccontextmanager
    async def join(
        self, owner: str, request: ChatRequest, *, thin: bool
    ) -> AsyncGenerator["Turn", None]:
        """The request's turn in its conversation, once it is. `thin`: its messages come after all that
        is kept, instead of being the whole dialogue. Raises `LedgerUnavailable` and `Superseded`."""
        assert request.conversation is not None
        name = (owner, request.conversation)
        place = self._places.setdefault(name, _Place())
        place.users += 1
        self._number += 1
        number = self._number
        if request.newest_wins:
            place.newest = number
            if place.live is not None:
                place.live.interrupt(_superseded())
        try:
            async with place.lock:
                if number < place.newest:
                    raise _superseded()
                deletions = place.deletions
                turn = await self._turn(name, request, thin)
                turn.place, turn.deletions, turn.number = place, deletions, number
                try:
                    yield turn
                finally:
                    place.live = None
        finally:
            place.users -= 1
            if not place.users:
                del self._places[name]

    async def _turn(self, name: _Name, request: ChatRequest, thin: bool) -> "Turn":
        document = await self._archive.get(name[0], KIND, name[1])
        size = request.size + (0 if document is None else len(document.data))
        if size > _SMALL:
            history, request = await asyncio.to_thread(self._lay, document, request, thin)
        else:
            history, request = self._lay(document, request, thin)
        began = datetime.now(UTC) if document is None else document.created_at
        return Turn(name, self._archive, history, request, began)

    def _lay(
        self, document: Document | None, request: ChatRequest, thin: bool
    ) -> tuple[History, ChatRequest]:
        """What was kept with the request laid beside it, and the request as a model is to see it."""
        history = History() if document is None else _load(document)
        if request.newest_wins:
            messages = history.align(request.messages)
        elif thin:
            messages = history.follow(request.messages)
        else:
            messages = history.reconcile(request.messages)
        messages = window.close_calls(messages)
        if self._most:
            messages = window.cut(messages, self._most)
        return history, replace(request, messages=messages)

    async def find(self, owner: str, name: str) -> tuple[Document, History] | None:
        document = await self._archive.get(owner, KIND, name)
        if document is None:
            return None
        if len(document.data) > _SMALL:
            return document, await asyncio.to_thread(_load, document)
        return document, _load(document)

    async def list(self, owner: str, *, limit: int, after: str | None) -> Sequence[Document]:
        """`about` is JSON with `title` and `messages`, the number of them."""
        return await self._archive.list(owner, KIND, limit=limit, after=after)

    async def delete(self, owner: str, name: str) -> bool:
        """Whether there was one. An answer under way is given, and not kept."""
        place = self._places.get((owner, name))
        if place is not None:
            place.deletions += 1
        return await self._archive.delete(owner, KIND, name)


class Turn:
    """One request of a conversation, and what is kept of its answer. Two interceptors: `listen` hears
    what the engine says, `keep` is done before the client hears that the answer is whole."""

    def __init__(
        self,
        name: _Name,
        archive: Archive,
        history: History,
        request: ChatRequest,
        began: datetime,
    ) -> None:
        self.request = request
        """With the history as the model is to see it."""
        self.place, self.deletions = _Place(), 0
        """Whose turn it is, and how often the conversation was deleted before."""
        self.number = 0
        self._name = name
        self._archive = archive
        self._history = history
        self._began = began
        self._transcript = Transcript()
        self._kept = False

    def attach(self, delivery: Delivery) -> None:
        """What is interrupted if a newer request makes this one useless."""
        self.place.live = delivery
        if self.number < self.place.newest:
            delivery.interrupt(_superseded())  # it came while the history was read

    async def listen(self, call: Call, events: Events) -> Events:
        try:
            async with aclosing(events):
                async for batch in events:
                    self._transcript.feed(batch)
                    yield batch
        finally:
            # Broken off: what was said so far is part of the conversation, and no call of ours in it
            # is without a result.
            if self._is_to_be_kept() and (said := self._transcript.messages()):
                self._kept = True
                said = window.close_calls(said, ended=True)
                self._archive.save(self._document(said, broken=True))

    async def keep(self, call: Call, events: Events) -> Events:
        async with aclosing(events):
            async for batch in events:
                if isinstance(batch[-1], Complete) and self._is_to_be_kept():
                    self._kept = True
                    document = self._document(self._transcript.messages())
                    try:
                        await self._archive.put(document)
                    except asyncio.CancelledError:
                        # It was whole, though its client did not stay for the last word.
                        self._archive.save(document)
                        raise
                    except LedgerUnavailable as error:
                        log.error("a conversation could not be kept: %s", error.message)
                        batch = (*batch[:-1], error.event())
                yield batch

    def _is_to_be_kept(self) -> bool:
        return not self._kept and self.deletions == self.place.deletions

    def _document(self, said: Sequence[Message], *, broken: bool = False) -> Document:
        if said:
            self._history.add(said, broken=broken)
        data = dump(self._history.dump())
        if len(self._history.entries) > _MOST or len(data) > _LARGEST:
            self._history.shrink(_MOST, _LARGEST)
            data = dump(self._history.dump())
        messages = self._history.messages()
        about = {"title": _title(messages), "messages": len(messages)}
        return Document(
            owner=self._name[0],
            kind=KIND,
            id=self._name[1],
            about=dump(about).decode(),
            data=data,
            created_at=self._began,
            updated_at=datetime.now(UTC),
        )


def _load(document: Document) -> History:
    return History.load(cast(Json, orjson.loads(document.data)))


def _title(messages: Sequence[Message]) -> str:
    """The first words of the user, in one line."""
    for message in messages:
        line = " ".join(_words(message.get("content")).split())
        if message.get("role") == "user" and line:
            return line if len(line) <= _TITLE else line[: _TITLE - 1] + "…"
    return ""


def _words(content: object) -> str:
    """What is said beside the pictures."""
    match content:
        case str():
            return content
        case list():
            return " ".join(str(part["text"]) for part in content if part.get("type") == "text")
        case _:
            return ""


def _superseded() -> Superseded:
    return Superseded("A newer request of this conversation has taken the place of this one.")
