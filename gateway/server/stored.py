"""The endpoints for answers and conversations that are kept: fetched, listed, deleted."""

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.engine.history import visible
from gateway.errors import GatewayError, InvalidRequest
from gateway.events import Json
from gateway.ports import Wire
from gateway.records import Document
from gateway.secrets import conceal
from gateway.server.answers import Answers
from gateway.server.auth import authenticate
from gateway.server.conversations import Conversations
from gateway.server.operations import Operation, listing, operation, thing
from gateway.server.routes import json_response
from gateway.server.service import Service

_MOST = 100


class UnknownAnswer(InvalidRequest):
    status = 404


class StoredAnswers:
    """Those of one wire."""

    def __init__(self, wire: Wire, service: Service) -> None:
        self._wire = wire
        self._service = service

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = []
        for path in self._wire.stored_paths:
            routes += [
                Route(path, self.show, methods=["GET"]),
                Route(path, self.delete, methods=["DELETE"]),
                Route(f"{path}/input_items", self.list_input, methods=["GET"]),
            ]
        return routes

    @operation(Operation(summary="An answer that was kept", answer=thing("response", ["id"], {})))
    async def show(self, request: Request) -> Response:
        if request.query_params.get("stream", "false") == "true":
            raise InvalidRequest(
                "'stream' is not supported: an answer that is kept is whole.",
                param="stream",
                code="unsupported_parameter",
            )
        _, kept = await self._find(request)
        return json_response(kept["body"])

    @operation(
        Operation(
            summary="Delete an answer",
            answer=thing(
                "response",
                ["id", "deleted"],
                {"id": {"type": "string"}, "deleted": {"const": True}},
            ),
        )
    )
    async def delete(self, request: Request) -> Response:
        answers, answer_id = await self._answers(request), request.path_params["id"]
        if not await answers.delete(answer_id):
            raise _unknown(answer_id)
        return json_response({"id": answer_id, "object": "response", "deleted": True})

    @operation(
        Operation(
            summary="What an answer answered",
            query={
                "limit": {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 20},
                "order": {"enum": ["asc", "desc"], "default": "desc"},
                "after": {"type": "string"},
            },
            answer=listing(
                {"type": "object"},
                {
                    "first_id": {"type": ["string", "null"]},
                    "last_id": {"type": ["string", "null"]},
                    "has_more": {"type": "boolean"},
                },
            ),
        )
    )
    async def list_input(self, request: Request) -> Response:
        limit = _limit(request.query_params.get("limit", "20"))
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise InvalidRequest(
                "Invalid 'order': expected 'asc' or 'desc'.", param="order", code="invalid_value"
            )
        _, kept = await self._find(request)
        items = kept["input"]
        assert isinstance(items, list)
        page = _after(items if order == "asc" else items[::-1], request.query_params.get("after"))
        shown = page[:limit]
        return json_response(
            {
                "object": "list",
                "data": shown,
                "first_id": shown[0]["id"] if shown else None,
                "last_id": shown[-1]["id"] if shown else None,
                "has_more": len(page) > limit,
            }
        )

    async def _find(self, request: Request) -> tuple[Answers, Json]:
        answers, answer_id = await self._answers(request), request.path_params["id"]
        kept = await answers.find(answer_id)
        if kept is None:
            raise _unknown(answer_id)
        return answers, kept

    async def _answers(self, request: Request) -> Answers:
        key = await authenticate(request.headers, self._service.ledger)
        return Answers(self._wire, self._service, key)


_CONVERSATION = thing(
    "conversation",
    ["id", "title", "created_at", "updated_at"],
    {
        "id": {"type": "string"},
        "title": {"type": "string"},
        "created_at": {"type": "integer"},
        "updated_at": {"type": "integer"},
    },
)


class StoredConversations:
    """A user's own: listed, looked into, deleted."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[BaseRoute]:
        path = "/v1/conversations"
        return [
            Route(path, self.list, methods=["GET"]),
            Route(f"{path}/{{id:path}}", self.show, methods=["GET"]),
            Route(f"{path}/{{id:path}}", self.delete, methods=["DELETE"]),
        ]

    @operation(
        Operation(
            summary="Conversations, last changed first",
            query={
                "limit": {"type": "integer", "minimum": 1, "maximum": _MOST, "default": 20},
                "after": {"type": "string"},
            },
            answer=listing(_CONVERSATION, {"has_more": {"type": "boolean"}}),
        )
    )
    async def list(self, request: Request) -> Response:
        owner, kept = await self._enter(request)
        limit = _limit(request.query_params.get("limit", "20"))
        after = request.query_params.get("after")
        page = await kept.list(owner, limit=limit + 1, after=after) if kept is not None else []
        shown = [_overview(document) for document in page[:limit]]
        return json_response({"object": "list", "data": shown, "has_more": len(page) > limit})

    @operation(
        Operation(
            summary="A conversation with its messages",
            query={"branch": {"type": "string", "description": "one of `branches`"}},
            answer=_CONVERSATION,
        )
    )
    async def show(self, request: Request) -> Response:
        owner, kept = await self._enter(request)
        name = request.path_params["id"]
        found = None if kept is None else await kept.find(owner, name)
        if found is None:
            raise _unknown_conversation(name)
        document, history = found
        ends = [str(end) for end in history.ends()]
        branch = request.query_params.get("branch", ends[0] if ends else "")
        if branch not in ends:
            raise InvalidRequest(
                f"Invalid 'branch'. Supported values are: {', '.join(map(repr, ends))}.",
                param="branch",
                code="invalid_value",
            )
        messages = [visible(message) for message in history.messages(int(branch))]
        return json_response(
            {**_overview(document), "messages": messages, "branch": branch, "branches": ends}
        )

    @operation(
        Operation(
            summary="Delete a conversation",
            answer=thing(
                "conversation.deleted",
                ["id", "deleted"],
                {"id": {"type": "string"}, "deleted": {"const": True}},
            ),
        )
    )
    async def delete(self, request: Request) -> Response:
        owner, kept = await self._enter(request)
        name = request.path_params["id"]
        if kept is None or not await kept.delete(owner, name):
            raise _unknown_conversation(name)
        return json_response({"id": name, "object": "conversation.deleted", "deleted": True})

    async def _enter(self, request: Request) -> tuple[str, Conversations | None]:
        key = await authenticate(request.headers, self._service.ledger)
        return key.email, self._service.conversations


def _overview(document: Document) -> Json:
    about = orjson.loads(document.about)
    return {
        "id": document.id,
        "object": "conversation",
        "title": about["title"],
        "message_count": about["messages"],
        "created_at": int(document.created_at.timestamp()),
        "updated_at": int(document.updated_at.timestamp()),
    }


def _unknown_conversation(name: str) -> GatewayError:
    return UnknownAnswer(
        f"Conversation with id {conceal(name[:80])!r} not found.", code="conversation_not_found"
    )


def _unknown(answer_id: str) -> GatewayError:
    return UnknownAnswer(f"Response with id {conceal(answer_id[:80])!r} not found.")


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= _MOST:
        raise InvalidRequest(
            f"Invalid 'limit': expected a whole number from 1 to {_MOST}.",
            param="limit",
            code="invalid_value",
        )
    return int(text)


def _after(items: Sequence[Json], after: str | None) -> Sequence[Json]:
    """What comes after the item of that id; all of them where there is none."""
    ids = [item["id"] for item in items]
    return items[ids.index(after) + 1 :] if after in ids else items
