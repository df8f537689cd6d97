"""`POST /v1/embeddings`: texts to vectors, with the key, the limits and the row of any other call."""

import base64
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.engine.asking import embed
from gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    LedgerUnavailable,
    ShuttingDown,
    error_body,
)
from gateway.events import Complete, Json, StepStart, Usage
from gateway.ports import Reply
from gateway.records import ApiKey, Embeddings, UsageRow
from gateway.request import EmbeddingRequest, missing, wrong_type
from gateway.secrets import conceal
from gateway.server import body, logs, tokens
from gateway.server.account import Account
from gateway.server.auth import authenticate
from gateway.server.calls import new_id
from gateway.server.headers import read_headers
from gateway.server.interceptors.meter import Meter
from gateway.server.operations import Operation, listing
from gateway.server.routes import failure, log_row, plain_failure, unless_gone
from gateway.server.service import Service
from gateway.sse import dump

_MOST_INPUTS = 2048
"""Of one request, as with OpenAI."""

T = TypeVar("T")


class _Fields(BaseModel):
    """Types and ranges as OpenAI documents them."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1 << 16)] | None = None
    user: str | None = None


class EmbeddingEndpoint:
    """An ASGI app."""

    type: ClassVar[str] = "embedding"
    paths: ClassVar[Sequence[str]] = tuple(
        f"{base}/embeddings{slash}" for base in ("/v1", "/api", "") for slash in ("", "/")
    )

    def __init__(self, service: Service) -> None:
        self._service = service

    @property
    def operation(self) -> Operation:
        return Operation(summary="Texts to vectors", request=_request_schema(), answer=_ANSWER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = read_headers(scope)
        try:
            if self._service.calls.draining:
                raise ShuttingDown("The server is shutting down. Try again.")
            key = await authenticate(headers, self._service.ledger)
        except GatewayError as error:
            await plain_failure(error)(scope, receive, send)
            return
        request_id = new_id()
        with logs.request(request_id):
            await self._serve(key, request_id, headers, scope, receive, send)

    async def _serve(
        self,
        key: ApiKey,
        request_id: str,
        headers: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        started = time.monotonic()
        row = UsageRow(
            id=request_id,
            started_at=datetime.now(UTC),
            key_id=key.id,
            email=key.email,
            type=self.type,
        )
        request: EmbeddingRequest | None = None
        problem: GatewayError | None = None
        try:
            request = await self._read(receive, headers)
            row = replace(row, model=self._keepable(request.model))
        except body.ClientGone:
            return
        except GatewayError as error:
            problem = error
        inputs = () if request is None else request.inputs
        account = Account(
            row, Meter(partial(_count, inputs)), self._service.ledger, self._service.prices
        )
        try:
            account.open()
            try:
                await account.opened()
            except BaseException:
                account.settle()
                raise
        except LedgerUnavailable as error:
            await plain_failure(error)(scope, receive, send)
            return

        def reply_headers() -> dict[str, str]:
            spent = round((time.monotonic() - started) * 1000)
            return {"x-request-id": request_id, "openai-processing-ms": str(spent)}

        try:
            if request is None:
                raise problem or InvalidRequest("The request was not understood.")
            made = await unless_gone(scope, receive, self._embed(request, key, account))
            account.http_status = 200
            response = Response(
                dump(_render(request, made, account.meter.usage()[0])),
                media_type="application/json",
                headers=reply_headers(),
            )
            account.delivered = True
        except body.ClientGone:
            return
        except GatewayError as error:
            event = account.meter.end = error.event()
            reply = Reply(body=dump(error_body(event)), status=event.status)
            response = failure(reply, event, reply_headers())
        except Exception:
            # A fault of ours or of a provider: the row says so, and the server above answers.
            account.meter.end = InternalError("The embeddings could not be made.").event()
            raise
        finally:
            log_row(account.settle())
        await response(scope, receive, send)

    async def _read(self, receive: Receive, headers: Mapping[str, str]) -> EmbeddingRequest:
        body.check_encoding(headers.get("content-encoding"))
        data = await body.read(
            receive,
            declared=headers.get("content-length"),
            limit=self._service.settings.max_body,
            timeout=self._service.settings.body_timeout,
        )
        return parse(body.parse(data))

    def _keepable(self, name: str) -> str:
        return name if name in self._service.router.routes else conceal(name)

    async def _embed(self, request: EmbeddingRequest, key: ApiKey, account: Account) -> Embeddings:
        route = self._service.router.resolve(request.model, key.tier)
        target, made, attempts = await embed(route.targets, request)
        account.meter.step = StepStart(1, target.model, target.upstream.provider.name)
        account.meter.attempts += attempts
        account.meter.close(Complete(usage=made.usage))
        return made


def parse(fields: Mapping[str, object]) -> EmbeddingRequest:
    """Raises `InvalidRequest` naming the parameter."""
    try:
        known = _Fields.model_validate(fields)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        param = ".".join(map(str, detail["loc"]))
        if detail["type"] == "missing":
            raise missing(param) from None
        raise InvalidRequest(
            f"Invalid '{param}': {detail['msg']}.", param=param, code="invalid_value"
        ) from None
    return EmbeddingRequest(
        model=known.model,
        inputs=_inputs(fields.get("input")),
        options={
            name: value
            for name, value in fields.items()
            if value is not None and name not in ("model", "input")
        },
    )


def _inputs(value: object) -> Sequence[str] | Sequence[Sequence[int]]:
    match value:
        case None:
            raise missing("input")
        case "" | []:
            raise InvalidRequest("Invalid 'input': it is empty.", param="input", code="empty_array")
        case str():
            return [value]
        case [*rows] if _are(rows, int):
            return [[row for row in rows if isinstance(row, int)]]
        case [*rows] if _are(rows, str) and all(rows):
            return _few([row for row in rows if isinstance(row, str)])
        case [*rows] if all(isinstance(row, list) and row and _are(row, int) for row in rows):
            return _few([row for row in rows if isinstance(row, list)])
        case _:
            raise wrong_type(
                "input", "a string, an array of strings, or tokens, none of them empty", value
            )


def _are(values: Sequence[object], kind: type) -> bool:
    return all(isinstance(value, kind) and not isinstance(value, bool) for value in values)


def _few(inputs: list[T]) -> list[T]:
    if len(inputs) > _MOST_INPUTS:
        raise InvalidRequest(
            f"Invalid 'input': array too long. Expected an array with maximum length "
            f"{_MOST_INPUTS}, but got an array with length {len(inputs)} instead.",
            param="input",
            code="array_above_max_length",
        )
    return inputs


def _count(inputs: Sequence[str] | Sequence[Sequence[int]]) -> int:
    return sum(tokens.count(item) if isinstance(item, str) else len(item) for item in inputs)


def _render(request: EmbeddingRequest, made: Embeddings, usage: Usage) -> Json:
    packed = request.options.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _pack(vector) if packed else _unpack(vector),
            }
            for index, vector in enumerate(made.vectors)
        ],
        "model": request.model,
        "usage": {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens},
    }


def _pack(vector: Sequence[float] | str) -> str:
    """As base64. Some servers tell numbers whatever they are asked for, and a client believes what it
    asked for."""
    if isinstance(vector, str):
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _unpack(vector: Sequence[float] | str) -> Sequence[float]:
    if not isinstance(vector, str):
        return vector
    data = base64.b64decode(vector)
    return struct.unpack(f"<{len(data) // 4}f", data)


def _request_schema() -> Json:
    text: Json = {"type": "string", "minLength": 1}
    ids: Json = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
    inputs = [text, {"type": "array", "minItems": 1, "items": text}, ids]
    several = {"type": "array", "minItems": 1, "maxItems": _MOST_INPUTS, "items": ids}
    fields = _Fields.model_json_schema()
    return {
        "type": "object",
        "required": ["model", "input"],
        "properties": {**fields["properties"], "input": {"anyOf": [*inputs, several]}},
    }


_ANSWER = listing(
    {
        "type": "object",
        "required": ["object", "index", "embedding"],
        "properties": {
            "object": {"const": "embedding"},
            "index": {"type": "integer"},
            "embedding": {
                "anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]
            },
        },
    },
    {
        "model": {"type": "string"},
        "usage": {
            "type": "object",
            "required": ["prompt_tokens", "total_tokens"],
            "properties": {
                "prompt_tokens": {"type": "integer"},
                "total_tokens": {"type": "integer"},
            },
        },
    },
)
