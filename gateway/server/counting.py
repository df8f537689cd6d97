"""How many tokens a request would send, for wires that have a path to ask: no call, and so no row."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.engine.loop import declared, offered
from gateway.engine.router import Route
from gateway.errors import GatewayError, ShuttingDown
from gateway.ports import Counter, Wire
from gateway.records import ApiKey
from gateway.request import ChatRequest
from gateway.server import body, tokens
from gateway.server.answers import Answers
from gateway.server.auth import authenticate
from gateway.server.headers import read_headers
from gateway.server.operations import Operation
from gateway.server.routes import failure, json_response, unless_gone
from gateway.server.service import Service

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a provider has for its count."""


class CountEndpoint:
    """An ASGI app."""

    def __init__(self, wire: Wire, service: Service) -> None:
        self._wire = wire
        self._service = service

    @property
    def operation(self) -> Operation:
        told = self._wire.describe()
        return Operation(
            summary="How many tokens a request would send",
            request=told.request,
            error=told.error,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = read_headers(scope)
        try:
            if self._service.calls.draining:
                raise ShuttingDown("The server is shutting down. Try again.")
            key = await authenticate(headers, self._service.ledger)
            response = await self._answer(headers, key, scope, receive)
        except body.ClientGone:
            return
        except GatewayError as error:
            event = error.event()
            response = failure(self._wire.refuse(event, None), event, {})
        await response(scope, receive, send)

    async def _answer(
        self, headers: Mapping[str, str], key: ApiKey, scope: Scope, receive: Receive
    ) -> Response:
        settings = self._service.settings
        body.check_encoding(headers.get("content-encoding"))
        data = await body.read(
            receive,
            declared=headers.get("content-length"),
            limit=settings.max_body,
            timeout=settings.body_timeout,
        )
        answers = Answers(self._wire, self._service, key)
        content = await answers.dereference(body.parse(data))
        request = await answers.precede(content, self._wire.parse_count(content, len(data)))
        route = self._service.router.resolve(request.model, key.tier)
        count = await unless_gone(scope, receive, _count(route, request))
        return json_response(self._wire.render_count(count))


async def _count(route: Route, request: ChatRequest) -> int:
    """As the provider counts that is asked first. Only what is wrong with the request is told: where
    there is no count, an estimate serves as well."""
    request = _as_sent(route, request)
    target = route.targets[0]
    provider = target.upstream.provider
    if isinstance(provider, Counter):
        try:
            async with asyncio.timeout(_PATIENCE):
                return await provider.count(replace(request, model=target.model))
        except TimeoutError:
            log.info("provider %s did not count in time", provider.name)
        except GatewayError as error:
            if error.status in (400, 413):
                raise
            log.info("provider %s did not count (%s)", provider.name, error.code)
    return tokens.estimate(request)


def _as_sent(route: Route, request: ChatRequest) -> ChatRequest:
    """With what the gateway adds in its first round."""
    request = route.adapt(request)
    messages = request.messages
    if route.system is not None:
        messages = [{"role": "system", "content": route.system}, *messages]
    tools = declared(request, offered(request, route))
    return replace(request, messages=messages, tools=tools)
