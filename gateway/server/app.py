"""The composition root: an ASGI app from settings."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    UnknownPath,
)
from gateway.ports import Reply, Wire
from gateway.server import archives, plugins, tokens
from gateway.server.assembly import assemble, wires
from gateway.server.conformance import Conformance
from gateway.server.counting import CountEndpoint
from gateway.server.embeddings import EmbeddingEndpoint
from gateway.server.openapi import Documentation
from gateway.server.readiness import show_readiness
from gateway.server.routes import (
    CallEndpoint,
    failure,
    list_models,
    plain_failure,
    show_health,
    show_model,
    show_usage,
)
from gateway.server.service import Service
from gateway.server.settings import Settings
from gateway.server.stored import StoredAnswers, StoredConversations
from gateway.sse import dump

log = logging.getLogger(__name__)

_LAST_WAIT = 5.0
"""Seconds for interrupted calls to tell their clients and settle, at the end of the process."""

_START_WAIT = 10.0
"""Seconds for servers of tools to be there before the first call. One that is slow comes later."""

_EXPOSED = [
    "x-request-id",
    "request-id",
    "x-tool-notifications",
    "x-conversation-id",
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
]


def create_app(settings: Settings) -> Starlette:
    """Raises `SettingsError` or `PluginError`. The ledger is opened when the app starts."""
    plugins.check_ownership()
    service = assemble(settings)
    served = wires(settings)
    routes = _routes(service, served)
    app = Starlette(
        routes=routes,
        middleware=[*_middleware(settings), Middleware(Shortcut, routes=routes)],
        lifespan=_lifespan,
        exception_handlers={
            HTTPException: _answer_http_error,
            GatewayError: _answer_gateway_error,
            Exception: _answer_fault,
        },
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.wires = served
    return app


def _routes(service: Service, served: Sequence[Wire]) -> list[BaseRoute]:
    calls: list[BaseRoute] = []
    owned = {path for wire in served for path in wire.paths}
    for wire in served:
        count = CountEndpoint(wire, service)
        for path in (*wire.paths, *(path for path in wire.shared_paths if path not in owned)):
            guests = [other for other in served if other is not wire and path in other.shared_paths]
            calls.append(Route(path, CallEndpoint(wire, service, guests), methods=["POST"]))
        calls += [Route(path, show_health, methods=["GET"]) for path in wire.probe_paths]
        calls += [Route(path, count, methods=["POST"]) for path in wire.count_paths]
        calls += StoredAnswers(wire, service).routes()
    embeddings = EmbeddingEndpoint(service)
    routes = [
        *calls,
        *(Route(path, embeddings, methods=["POST"]) for path in embeddings.paths),
        *_model_routes(),
        *StoredConversations(service).routes(),
        *Conformance(served, service).routes(),
        Route("/v1/usage/{request_id}", show_usage),
        Route("/healthz", show_health),
        Route("/readyz", show_readiness),
    ]
    return [*routes, *Documentation(routes).routes()]


def _model_routes() -> list[BaseRoute]:
    """Below every base URL that chat completions are served below."""
    return [
        route
        for base in ("/v1", "/api", "")
        for route in (
            Route(f"{base}/models", list_models),
            Route(f"{base}/models/", list_models),
            Route(f"{base}/models/{{name:path}}", show_model),
        )
    ]


class Shortcut:
    """Takes calls straight to their endpoints, which answer for all that can go wrong themselves. The
    router would try 50 paths one after the other, and its layers are resumed with each chunk."""

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._endpoints = {
            route.path: route.endpoint
            for route in routes
            if isinstance(route, Route) and isinstance(route.endpoint, CallEndpoint)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = None
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._endpoints.get(scope["path"])
        await (endpoint or self._app)(scope, receive, send)


def _middleware(settings: Settings) -> list[Middleware]:
    if not settings.cors_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=_EXPOSED,
            max_age=3600,
        )
    ]


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncGenerator[None, None]:
    service: Service = app.state.service
    await asyncio.to_thread(tokens.load)
    await asyncio.to_thread(
        service.ledger.start
    )  # again, under `sluice serve`: that changes nothing
    if service.archive is not None:
        await asyncio.to_thread(service.archive.start)
    if service.mirror is not None:
        service.mirror.start()
    await service.start(_START_WAIT)
    chores = [asyncio.create_task(service.calls.checkpoint())]
    if service.archive is not None:
        days = service.settings.retention
        chores.append(asyncio.create_task(archives.expire(service.archive, days)))
    try:
        yield
    finally:
        # The server may have given up on streams already: their rows are settled before the ledger
        # closes, whatever became of the connections.
        service.calls.interrupt()
        if not await service.calls.wait_until_empty(_LAST_WAIT):
            log.error("%d calls did not end", len(service.calls))
        for chore in chores:
            chore.cancel()
        await service.aclose()
        if service.mirror is not None:
            await asyncio.to_thread(service.mirror.close)
        if service.archive is not None:
            await asyncio.to_thread(service.archive.close)
        await asyncio.to_thread(service.ledger.close)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    method, path = request.method, request.scope["path"]
    match error.status_code:
        case 404:
            told: GatewayError = UnknownPath(f"Unknown request URL: {method} {path[:200]}.")
        case 405:
            told = MethodNotAllowed(f"Not allowed to {method} on {path[:200]}.")
        case _:
            told = InvalidRequest(error.detail)
            told.status = error.status_code
    response = _failure(request, told)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _answer_gateway_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, GatewayError):
        raise error
    return _failure(request, error)


async def _answer_fault(request: Request, error: Exception) -> Response:
    response = _failure(
        request, InternalError("The server had an error while processing your request.")
    )
    response.headers["connection"] = "close"  # the server closes it after this, so say so
    return response


def _failure(request: Request, error: GatewayError) -> Response:
    """In the format of the wire that is served at the path or above it: a client that asks for what is
    not there (batches, a method) reads no other."""
    path = request.scope["path"]
    above = [
        (len(base), wire)
        for wire in request.app.state.wires
        for base in (place.rstrip("/") for place in wire.paths)
        if path == base or path.startswith(f"{base}/")
    ]
    if not above:
        return plain_failure(error)
    _, wire = max(above, key=lambda place: place[0])
    event = error.event()
    return failure(Reply(body=dump(wire.render_error(event)), status=event.status), event, {})
