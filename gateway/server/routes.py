"""The endpoints: one for each path of a wire, and the few that every gateway has."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypedDict, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.errors import (
    GatewayError,
    InternalError,
    LedgerUnavailable,
    ShuttingDown,
    UnknownModel,
    UnknownRequest,
    error_body,
)
from gateway.events import Error
from gateway.ports import Reply, Wire
from gateway.records import ApiKey, Call, Detail, Dialect, UsageRow
from gateway.request import ChatRequest, Notice
from gateway.secrets import conceal
from gateway.server import body, conversations, dialects, logs, openwebui, tokens
from gateway.server.account import Account
from gateway.server.answers import Answers
from gateway.server.auth import authenticate
from gateway.server.calls import LiveCall, new_id
from gateway.server.conversations import Conversations, Turn
from gateway.server.headers import read_headers
from gateway.server.interceptors.meter import Meter
from gateway.server.interceptors.notifications import ToolFilter
from gateway.server.operations import Operation, listing, operation, thing
from gateway.server.pipeline import Delivery, Refused, Step, run
from gateway.server.presence import Presence
from gateway.server.report import row_fields, row_id
from gateway.server.service import Service
from gateway.server.stream import CallStream
from gateway.sse import dump

log = logging.getLogger(__name__)

T = TypeVar("T")

_PLAIN = "".join(map(chr, range(0x20, 0x7F)))
"""What a header may hold as it is."""


_NOT_UNDERSTOOD = ChatRequest(model="", messages=())
"""Stands for a request that is none, in its row."""


class CallEndpoint:
    """Serves calls in one wire's format, from the key to the settled row. An ASGI app."""

    def __init__(self, wire: Wire, service: Service, guests: Sequence[Wire] = ()) -> None:
        """`guests`: wires that share the path, and are asked for each body whether it is theirs."""
        self._wire = wire
        self._service = service
        self._guests = guests

    @property
    def operation(self) -> Operation:
        told = self._wire.describe()
        return Operation(
            summary=told.summary,
            request=told.request,
            answer=told.answer,
            error=told.error,
            stream=told.stream,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = read_headers(scope)
        try:
            if self._service.calls.draining:
                raise ShuttingDown("The server is shutting down. Try again.")
            key = await authenticate(headers, self._service.ledger)
        except GatewayError as error:
            # No row, since there is nobody to account it to, and therefore no request id either.
            event = error.event()
            await failure(self._wire.refuse(event, None), event, {})(scope, receive, send)
            return
        request_id = new_id()
        with logs.request(request_id):
            exchange = _Exchange(self._wire, self._service, key, request_id, headers, self._guests)
            await exchange.serve(scope, receive, send)


class _Intended(TypedDict, total=False):
    provider: str
    upstream_model: str


class _Exchange:
    """One call of a known caller, and its answer."""

    def __init__(
        self,
        wire: Wire,
        service: Service,
        key: ApiKey,
        request_id: str,
        headers: Mapping[str, str],
        guests: Sequence[Wire],
    ) -> None:
        self._wire = wire
        self._guests = guests
        self._service = service
        self._settings = service.settings
        self._key = key
        self._id = request_id
        self._headers = headers
        self._tier = service.settings.file.tiers.get(key.tier)
        self._started_at = datetime.now(UTC)
        self._started = time.monotonic()
        self._content: Mapping[str, object] = {}
        self._answers = Answers(wire, service, key)
        self._request = _NOT_UNDERSTOOD
        """As the engine gets it, once that is known."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        parsed: ChatRequest | None = None
        dialect, detail = Dialect.OFF, Detail.OFF
        problem: GatewayError | None = None
        try:
            parsed = openwebui.adapt(await self._read(receive), self._headers, self._tier)
            parsed = conversations.identify(parsed, self._headers, self._content)
            parsed = await self._answers.precede(self._content, parsed)
            dialect, detail = self._negotiate(parsed)
        except body.ClientGone:
            return
        except Notice as notice:
            # No call, and so no row and no request id.
            await json_response(notice.reply)(scope, receive, send)
            return
        except GatewayError as error:
            problem = error
        request = self._request = parsed or _NOT_UNDERSTOOD
        account = Account(
            self._row(request),
            Meter(
                lambda: tokens.estimate(self._request),
                lambda: tokens.estimate(self._request, roughly=True),
            ),
            self._service.ledger,
            self._service.prices,
        )
        call = Call(
            id=self._id,
            key=self._key,
            request=request,
            created=int(self._started_at.timestamp()),
            dialect=dialect,
            detail=detail,
        )
        try:
            account.open()
        except LedgerUnavailable as error:
            await self._refuse(error, parsed)(scope, receive, send)
            return
        try:
            if problem is not None:
                await account.opened()
                account.meter.end = problem.event()
                response = self._refusal(account, account.meter.end, parsed, None)
                log_row(account.settle())
                await response(scope, receive, send)
            elif request.conversation is None or self._service.conversations is None:
                await self._answer(call, account, None, scope, receive, send)
            else:
                kept = self._service.conversations
                await self._converse(kept, call, account, scope, receive, send)
        except LedgerUnavailable as error:
            await self._refuse(error, parsed)(scope, receive, send)
        except Exception:
            if account.meter.end is None:
                account.meter.end = InternalError("The call could not be begun.").event()
            raise
        finally:
            account.settle()

    def _refuse(self, error: LedgerUnavailable, request: ChatRequest | None) -> Response:
        """There may be no row, so there is no request id."""
        event = error.event()
        return failure(self._wire.refuse(event, request), event, {})

    async def _converse(
        self,
        kept: Conversations,
        call: Call,
        account: Account,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """The answer, once it is this request's turn in its conversation."""
        await account.opened()
        thin = bool(self._wire.stored_paths) or self._headers.get("x-history") == "server"
        async with AsyncExitStack() as stack:
            join = kept.join(self._key.email, call.request, thin=thin)
            try:
                turn = await unless_gone(scope, receive, stack.enter_async_context(join))
            except GatewayError as error:
                event = account.meter.end = error.event()
                response = self._refusal(account, event, call.request, call)
                log_row(account.settle())
                await response(scope, receive, send)
                return
            except (body.ClientGone, asyncio.CancelledError) as left:
                log_row(account.settle())
                if isinstance(left, asyncio.CancelledError):
                    raise
                return
            self._request = turn.request
            call = replace(call, request=turn.request)
            await self._answer(call, account, turn, scope, receive, send)

    async def _read(self, receive: Receive) -> ChatRequest:
        body.check_encoding(self._headers.get("content-encoding"))
        data = await body.read(
            receive,
            declared=self._headers.get("content-length"),
            limit=self._settings.max_body,
            timeout=self._settings.body_timeout,
        )
        self._content = body.parse(data)
        for guest in self._guests:
            if guest.claims(self._content, self._key):
                self._wire = guest
                self._answers = Answers(guest, self._service, self._key)
                break
        self._content = await self._answers.dereference(self._content)
        return self._wire.parse(self._content, len(data))

    def _negotiate(self, request: ChatRequest) -> tuple[Dialect, Detail]:
        route = self._service.router.routes.get(request.model)
        return dialects.choose(
            self._headers,
            key=self._key,
            tier=self._tier,
            model=None if route is None else route.dialect,
            default=self._settings.notifications,
            detail=self._settings.notification_detail,
        )

    def _row(self, request: ChatRequest) -> UsageRow:
        return UsageRow(
            id=self._id,
            started_at=self._started_at,
            key_id=self._key.id,
            email=self._key.email,
            type=self._wire.type,
            model=self._keepable(request.model),
            stream=request.stream,
            attributes=_attributes(request),
            **self._intended(request),
        )

    def _keepable(self, name: str) -> str:
        """A model's name as an account may have it: where people mix up two fields, it is a key."""
        return name if name in self._service.router.routes else conceal(name)

    def _intended(self, request: ChatRequest) -> _Intended:
        """Where the call is going, should it never get there."""
        try:
            target = self._service.router.resolve(request.model, self._key.tier).targets[0]
        except UnknownModel:
            return {}
        return {
            "provider": target.upstream.provider.name,
            "upstream_model": self._keepable(target.model),
        }

    async def _answer(
        self,
        call: Call,
        account: Account,
        turn: Turn | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        meter = account.meter

        def note(error: Error) -> None:
            meter.end = error

        keepers = [
            keeper
            for keeper in (self._answers.keeping(self._content, call.request), turn)
            if keeper is not None
        ]
        steps: Sequence[Step] = (
            *(keeper.keep for keeper in keepers),
            *self._wire.interceptors(call),
            ToolFilter(call.detail),
            *(keeper.listen for keeper in keepers),
            *self._service.interceptors,
            meter,
        )
        delivery = Delivery(run(call, self._service.engine, steps), note)
        account.on_failure(delivery.interrupt)
        if turn is not None:
            turn.attach(delivery)
        with self._service.calls.track(LiveCall(account, delivery)):
            try:
                async with Presence(scope, receive, delivery.abandon) as client:
                    if call.request.stream:
                        await self._stream(call, account, delivery, client, scope, receive, send)
                    else:
                        await self._collect(call, account, delivery, scope, receive, send)
            except body.ClientGone:
                pass
            except LedgerUnavailable:
                raise
            except Exception:
                # A fault of a wire: the row says so, and the server above answers or cuts.
                meter.end = InternalError("The answer could not be written.").event()
                raise
            finally:
                account.delivered = account.delivered or delivery.delivered
                log_row(account.settle())
                await delivery.aclose()

    async def _stream(
        self,
        call: Call,
        account: Account,
        delivery: Delivery,
        client: Presence,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        patience, heartbeat = self._wire.patience, self._wire.heartbeat

        async def begin() -> Mapping[str, str]:
            await account.opened()
            account.http_status = 200
            delivery.begun = True
            return self._reply_headers(call)

        def settle() -> None:
            # Not only when the engine has closed: that may take long, and is no part of the answer.
            account.delivered = True
            account.settle()

        encoder = self._wire.encoder(call)
        response = CallStream(
            delivery.frames(encoder, settle),
            begin=begin,
            opening=encoder.begin(),
            patience=self._settings.first_event_wait if patience is None else patience,
            heartbeat=min(self._settings.heartbeat, heartbeat or self._settings.heartbeat),
            send_timeout=self._settings.send_timeout,
            drop=client.dismiss,
            last=lambda: delivery.ending,
        )
        try:
            await response(scope, receive, send)
        except Refused as refused:
            await account.opened()
            account.meter.end = refused.error
            refusal = self._refusal(account, refused.error, call.request, call)
            await refusal(scope, receive, send)

    async def _collect(
        self,
        call: Call,
        account: Account,
        delivery: Delivery,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        outcome = await delivery.collect()
        await account.opened()
        if isinstance(outcome.end, Error):
            await self._refusal(account, outcome.end, call.request, call)(scope, receive, send)
            return
        account.http_status = 200
        content = dump(self._wire.render(call, outcome))
        response = Response(
            content, media_type="application/json", headers=self._reply_headers(call)
        )
        await response(scope, receive, send)

    def _reply_headers(self, call: Call | None) -> dict[str, str]:
        headers = {
            "x-request-id": self._id,
            "openai-processing-ms": str(round((time.monotonic() - self._started) * 1000)),
        }
        if call is not None and self._wire.notifies:
            headers["x-tool-notifications"] = call.dialect
        if self._request.conversation is not None and self._service.conversations is not None:
            headers["x-conversation-id"] = quote(self._request.conversation, safe=_PLAIN)
        if client_id := self._headers.get("x-client-request-id"):
            headers["x-client-request-id"] = client_id[:512]
        return {**headers, **self._wire.headers(self._id)}

    def _refusal(
        self, account: Account, error: Error, request: ChatRequest | None, call: Call | None
    ) -> Response:
        """Some formats tell a failure with another status than its own: the row says which went out."""
        reply = self._wire.refuse(error, request)
        account.http_status = reply.status
        return failure(reply, error, self._reply_headers(call))


def _attributes(request: ChatRequest) -> dict[str, str]:
    """What a row says besides of who asked, and what for."""
    told = {
        "caller": request.caller,
        "user": request.user,
        "conversation": request.conversation,
        "task": request.task,
    }
    return {name: conceal(value) for name, value in told.items() if value is not None}


def log_row(row: UsageRow) -> None:
    """The one line that the log has of a call."""
    caller = row.attributes.get("caller")
    log.info(
        "call %s",
        row.status,
        extra={
            "key": row.key_id,
            "type": row.type,
            "model": row.model,
            "provider": row.provider,
            "status": row.http_status,
            "code": row.error_code,
            "duration_ms": row.duration_ms,
            "tokens_in": row.usage.input_tokens,
            "tokens_out": row.usage.output_tokens,
            **({} if caller is None else {"caller": f"…{caller[-2:]}"}),
        },
    )


async def unless_gone(scope: Scope, receive: Receive, step: Awaitable[T]) -> T:
    """The result of `step`; cancels it and raises `ClientGone` when the client leaves before."""
    async with Presence(scope, receive):
        return await step


def failure(reply: Reply, error: Error, headers: Mapping[str, str]) -> Response:
    """An error before the first byte, with what the SDKs read to decide on another attempt."""
    extra: dict[str, str] = {}
    if error.retry_after is not None:
        extra["retry-after"] = str(math.ceil(error.retry_after))
        extra["retry-after-ms"] = str(math.ceil(error.retry_after * 1000))
    if not error.retryable and (error.status in (408, 409, 429) or error.status >= 500):
        extra["x-should-retry"] = "false"
    if error.status == 401:
        extra["www-authenticate"] = "Bearer"
    return Response(
        reply.body,
        status_code=reply.status,
        media_type=reply.media_type,
        headers={**headers, **extra, **reply.headers},
    )


def plain_failure(error: GatewayError) -> Response:
    """An error on a path that no wire serves, in OpenAI's shape."""
    event = error.event()
    return failure(Reply(body=dump(error_body(event)), status=event.status), event, {})


def json_response(content: object, status: int = 200) -> Response:
    return Response(dump(content), status_code=status, media_type="application/json")


_MODEL = thing(
    "model",
    ("id", "created", "owned_by"),
    {
        "id": {"type": "string"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "name": {"type": "string"},
    },
)


@operation(Operation(summary="Which models can be asked for", answer=listing(_MODEL)))
async def list_models(request: Request) -> Response:
    service: Service = request.app.state.service
    key = await authenticate(request.headers, service.ledger)
    return json_response({"object": "list", "data": await service.models.list(key.tier)})


@operation(Operation(summary="One model", answer=_MODEL))
async def show_model(request: Request) -> Response:
    service: Service = request.app.state.service
    key = await authenticate(request.headers, service.ledger)
    return json_response(service.models.describe(request.path_params["name"], key.tier))


@operation(
    Operation(
        summary="The usage row of one request of this key",
        answer=thing("usage", ("request_id", "status"), {"request_id": {"type": "string"}}),
    )
)
async def show_usage(request: Request) -> Response:
    """The caller's own usage row of one request."""
    service: Service = request.app.state.service
    key = await authenticate(request.headers, service.ledger)
    reference = request.path_params["request_id"]
    row = await asyncio.to_thread(service.ledger.row, row_id(reference))
    if row is None or row.key_id != key.id:
        raise UnknownRequest(f"There is no usage row {reference[:80]!r} of this key.")
    return json_response({"object": "usage", **row_fields(row)})


@operation(Operation(summary="Whether the process answers", open=True))
async def show_health(request: Request) -> Response:
    """The process answers. Says nothing of what it depends on: restarting would not mend that."""
    return json_response({"status": "ok"})
