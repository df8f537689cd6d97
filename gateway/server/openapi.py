"""`/openapi.json`: every route in one document, made of what the endpoints say of themselves; and `/docs`,
the same as a page for people."""

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from gateway.events import Json
from gateway.server.operations import Operation, find, operation
from gateway.server.plugins import DISTRIBUTION

_TITLE = "Sluice"
_FRAME = {
    "type": "object",
    "required": ["data"],
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
}
"""One server-sent event."""

_CALL_HEADERS = {
    "x-request-id": {
        "description": "Id of the call and of its usage row, where there is one.",
        "schema": {"type": "string"},
    }
}


class Documentation:
    """Its two endpoints. Made once, of all routes."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._described = routes

    def routes(self) -> list[BaseRoute]:
        return [Route("/openapi.json", self.show_document), Route("/docs", self.show_page)]

    @operation(Operation(summary="This document", open=True))
    async def show_document(self, request: Request) -> Response:
        return Response(orjson.dumps(self.document), media_type="application/json")

    @operation(Operation(summary="This document as a page", open=True, media_type="text/html"))
    async def show_page(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html")

    @cached_property
    def document(self) -> Json:
        paths: dict[str, dict[str, Json]] = {}
        for path, method, told in _operations([*self._described, *self.routes()]):
            paths.setdefault(path, {})[method] = _describe(path, method, told)
        return {
            "openapi": "3.1.0",
            "info": {
                "title": _TITLE,
                "version": version(DISTRIBUTION),
                "description": "A chat engine behind the API that every AI client already speaks.",
            },
            "paths": paths,
            "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        }

    @cached_property
    def _page(self) -> str:
        return _page(self.document)


def _operations(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str, Operation]]:
    """Path, method and description of each. Raises `LookupError` for an endpoint without one."""
    for route in routes:
        if not isinstance(route, Route):
            continue
        told = find(route.endpoint)
        if told is None:
            raise LookupError(f"nothing is said of {route.path}")
        path = re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            yield path, method.lower(), told


def _describe(path: str, method: str, told: Operation) -> Json:
    content: dict[str, Json] = {}
    if not told.streams_only:
        content[told.media_type] = {"schema": told.answer}
    if told.stream is not None:
        content["text/event-stream"] = {"schema": {**_FRAME, "description": told.stream}}
    failure = {
        "description": "What went wrong.",
        "content": {"application/json": {"schema": told.error}},
    }
    body: dict[str, object] = {
        "summary": told.summary,
        "operationId": re.sub(r"\W+", "_", f"{method} {path.strip('/') or 'root'}").strip("_"),
        "security": [] if told.open else [{"key": []}],
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"\{(\w+)\}", path)
            ),
            *(
                {"name": name, "in": "query", "required": False, "schema": schema}
                for name, schema in told.query.items()
            ),
        ],
        "responses": {
            "200": {"description": "Success.", "headers": _CALL_HEADERS, "content": content},
            "4XX": failure,
            "5XX": failure,
        },
    }
    if told.request is not None:
        body["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": told.request}},
        }
    return body


_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 2.5rem; border-top: 1px solid #8884; padding-top: 1rem; font-size: 1.1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #8882; border-radius: 3px }
code { padding: 0 .25em }
pre { padding: .75rem; overflow-x: auto }
summary { cursor: pointer }
.method { color: #fff; background: #2b6cb0; border-radius: 3px; padding: 0 .5em }
.open { opacity: .6; font-size: .9rem; font-weight: normal }
"""


def _page(document: Json) -> str:
    paths = document["paths"]
    assert isinstance(paths, Mapping)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<meta name=viewport content='width=device-width'><title>{_TITLE}: API</title>"
        f"<style>{_STYLE}</style><h1>{_TITLE}</h1>"
        "<p>A key goes into <code>Authorization: Bearer …</code>. The same for programs: "
        "<a href=/openapi.json>openapi.json</a>.</p>"
    ]
    for path, methods in _grouped(paths):
        for method, told in methods.items():
            parts += _section(path, method, told)
    return "\n".join(parts)


def _grouped(paths: Mapping[str, Mapping[str, Json]]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    """Each once: paths that differ by a slash at the end or by what they are below are the same."""
    seen: set[tuple[object, str]] = set()
    for path, methods in paths.items():
        bare = re.sub(r"^/(v1|api)/", "/", path.rstrip("/"))
        summary = next(iter(methods.values()))["summary"]
        if (summary, bare) not in seen:
            seen.add((summary, bare))
            yield path, methods


def _section(path: str, method: str, told: Json) -> Iterator[str]:
    match told:
        case {
            "summary": str() as summary,
            "security": list() as security,
            "parameters": list() as parameters,
            "responses": {"200": {"content": dict() as content}},
        }:
            pass
        case _:
            raise TypeError("no operation of this document")
    free = "" if security else " <span class=open>no key needed</span>"
    yield (
        f"<h2><span class=method>{method.upper()}</span> <code>{html.escape(path)}</code>"
        f" {html.escape(summary)}{free}</h2>"
    )
    if parameters:
        yield "<p>Parameters: " + ", ".join(map(_parameter, parameters)) + "</p>"
    if isinstance(taken := told.get("requestBody"), Mapping):
        yield _details("Request", taken["content"]["application/json"]["schema"])
    for kind, body in content.items():
        schema = body["schema"]
        if kind == "text/event-stream":
            yield f"<p>Streamed: {_words(schema['description'])}</p>"
        else:
            yield _details(f"Answer ({kind})", schema)


def _parameter(told: Mapping[str, object]) -> str:
    schema = told["schema"]
    words = schema.get("description", "") if isinstance(schema, Mapping) else ""
    name = f"<code>{html.escape(str(told['name']))}</code>"
    return f"{name} ({html.escape(str(words))})" if words else name


def _details(title: str, schema: object) -> str:
    text = orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()
    return f"<details><summary>{title}</summary><pre>{html.escape(text)}</pre></details>"


def _words(text: str) -> str:
    return re.sub("`(.+?)`", r"<code>\1</code>", html.escape(text))
