"""`/v1/conformance`: a catalogue of streams as they can come, for authors of clients to test parsers on.

A probe is what an engine might say; every wire renders it as it would a call. Nothing is run, nothing is
accounted, and the same probe is the same bytes each time.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from gateway import events
from gateway.errors import InvalidRequest, UnknownProbe
from gateway.events import Complete, Delta, Error, Event, Json, Step, StepStart, Usage
from gateway.outcome import Outcome
from gateway.ports import Events, Wire
from gateway.records import ApiKey, Call, Dialect
from gateway.request import ChatRequest, Notice
from gateway.server import body
from gateway.server.auth import authenticate
from gateway.server.operations import Operation, listing, operation
from gateway.server.routes import failure, json_response
from gateway.server.service import Service
from gateway.sse import HEARTBEAT, dump

_ID = "0198c0de-0000-7000-8000-000000000001"
_CREATED = 1764000000
_LONGEST = 60.0
"""Seconds that a stream with pauses may take."""


@dataclass(frozen=True, slots=True)
class Probe:
    name: str
    about: str
    """In one sentence, for people."""
    request: ChatRequest
    events: Sequence[Event]

    def call(self, key: ApiKey, dialect: Dialect) -> Call:
        """Always the same call, but for whose it is."""
        return Call(id=_ID, key=key, request=self.request, created=_CREATED, dialect=dialect)

    def outcome(self) -> Outcome:
        outcome = Outcome()
        outcome.feed(self.events)
        return outcome


@cache
def catalogue() -> Mapping[str, Probe]:
    """All probes by their names."""
    files = resources.files("gateway.server") / "probes"
    return {
        name: _read(name, file.read_text("utf-8"))
        for file in sorted(files.iterdir(), key=lambda file: file.name)
        if (name := file.name.removesuffix(".jsonl")) != file.name
    }


def _read(name: str, text: str) -> Probe:
    """A line about it and its request, then a line for each event with the name of its class under
    `event`; `times` repeats its text, and `repeat` the event."""
    head, *lines = [json.loads(line) for line in text.split("\n") if line]
    messages = [{"role": "user", "content": "Hi"}]
    request = ChatRequest(model="m", messages=messages, stream=True, **head.get("request", {}))
    told = [_event(**line) for line in lines for _ in range(line.pop("repeat", 1))]
    return Probe(name, head["about"], request, told)


def _event(event: str, *, times: int = 1, **given: object) -> Event:
    made: Event = getattr(events, event)(**{name: _value(name, given[name]) for name in given})
    return replace(made, text=made.text * times) if isinstance(made, Delta) else made


def _value(name: str, value: object) -> object:
    match name, value:
        case ("usage" | "spent", dict()):
            return Usage(**value)
        case ("steps", list()):
            return tuple(Step(**(row | {"usage": _value("usage", row["usage"])})) for row in value)
        case ("further", list()):
            return tuple(value)
        case _:
            return value


async def perform(wire: Wire, call: Call, told: Sequence[Event]) -> list[Event]:
    """A probe's events as the wire is to write them."""
    stream = _replay(told)
    for interceptor in reversed(wire.interceptors(call)):
        stream = interceptor(call, stream)
    async with aclosing(stream):
        return [event async for batch in stream for event in batch]


async def _replay(told: Sequence[Event]) -> Events:
    for event in told:
        yield (event,)


def render_stream(wire: Wire, call: Call, told: Sequence[Event]) -> bytes:
    """All bytes of a stream of what was performed."""
    encoder = wire.encoder(call)
    return encoder.begin() + b"".join([encoder.encode((event,)) for event in told])


class Conformance:
    """The endpoints, for the wires that are served."""

    def __init__(self, wires: Sequence[Wire], service: Service) -> None:
        self._service = service
        self._wires = {wire.type: wire for wire in wires}
        self._paths = {path: wire for wire in wires for path in wire.paths}

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/v1/conformance", self.list),
            Route("/v1/conformance/stream", self.stream),
            Route("/v1/conformance/{probe}/{path:path}", self.call, methods=["POST"]),
        ]

    @operation(
        Operation(
            summary="The catalogue of streams to test a client on",
            answer=listing(
                {
                    "type": "object",
                    "required": ["name", "about", "expected"],
                    "properties": {
                        "name": {"type": "string"},
                        "about": {"type": "string"},
                        "expected": {"type": "object"},
                    },
                }
            ),
        )
    )
    async def list(self, request: Request) -> Response:
        """What there is, and what a client should make of it."""
        await authenticate(request.headers, self._service.ledger)
        return json_response(
            {
                "object": "list",
                "data": [
                    {"name": probe.name, "about": probe.about, "expected": _expected(probe)}
                    for probe in catalogue().values()
                ],
                "wires": list(self._wires),
                "dialects": list(Dialect),
            }
        )

    @operation(
        Operation(
            summary="Replay one of them",
            query={
                "probe": {"type": "string", "description": "its name"},
                "wire": {"type": "string", "default": "chat"},
                "dialect": {"enum": [str(dialect) for dialect in Dialect]},
                "cut": {"type": "integer", "minimum": 1, "description": "bytes in a piece"},
                "pause": {"type": "integer", "minimum": 0, "description": "milliseconds after it"},
                "comments": {"enum": ["0", "1"]},
            },
            stream="What the wire makes of the probe.",
            streams_only=True,
        )
    )
    async def stream(self, request: Request) -> Response:
        """`probe`, as `wire` and `dialect` write it, in pieces of `cut` bytes with `pause` milliseconds
        after each, with a comment between any two frames if `comments` is 1."""
        key = await authenticate(request.headers, self._service.ledger)
        asked = request.query_params
        probe = _pick(asked.get("probe", ""))
        wire = self._wires.get(asked.get("wire", "chat"))
        if wire is None:
            raise _choose("wire", self._wires)
        call = probe.call(key, _dialect(asked.get("dialect", Dialect.NAMED)))
        data = render_stream(wire, call, await perform(wire, call, probe.events))
        if asked.get("comments", "0") != "0":
            data = HEARTBEAT + data.replace(b"\n\n", b"\n\n" + HEARTBEAT)
        cut = _number(asked, "cut", default=len(data) or 1, least=1, most=1 << 30)
        pause = _number(asked, "pause", default=0, least=0, most=10_000) / 1000
        if len(data) / cut * pause > _LONGEST:
            raise InvalidRequest(
                f"That would take more than {_LONGEST:g} s; ask for larger pieces.", param="pause"
            )
        return _streamed(wire, call, _pieces(data, cut, pause))

    @operation(
        Operation(
            summary="Replay one of them as the answer to a call",
            request={"type": "object"},
            stream="What the wire makes of the probe.",
        )
    )
    async def call(self, request: Request) -> Response:
        """The probe as an answer to a call: with `/v1/conformance/PROBE` for a base URL any SDK gets
        it, streamed or not, and a failure before the first word as a status."""
        key = await authenticate(request.headers, self._service.ledger)
        probe = _pick(request.path_params["probe"])
        path = "/" + request.path_params["path"]
        wire = self._paths.get(path) or self._paths.get(f"/v1{path}")
        if wire is None:
            raise _choose("path", self._paths)
        data = await body.read(
            request.receive,
            declared=request.headers.get("content-length"),
            limit=self._service.settings.max_body,
            timeout=self._service.settings.body_timeout,
        )
        try:
            asked = wire.parse(body.parse(data), len(data))
        except Notice as notice:
            return json_response(notice.reply)
        call = probe.call(key, _dialect(request.headers.get("x-tool-notifications", "named")))
        call = replace(call, request=replace(call.request, include_usage=asked.include_usage))
        told = await perform(wire, call, probe.events)
        outcome = Outcome()
        outcome.feed(told)
        heard = [event for event in told if not isinstance(event, StepStart)]
        if isinstance(outcome.end, Error) and (not asked.stream or heard[0] is outcome.end):
            return failure(wire.refuse(outcome.end, asked), outcome.end, {})
        if asked.stream:
            stream = render_stream(wire, call, told)
            return _streamed(wire, call, _pieces(stream, len(stream) or 1, 0))
        return Response(dump(wire.render(call, outcome)), media_type="application/json")


def _streamed(wire: Wire, call: Call, pieces: AsyncGenerator[bytes, None]) -> Response:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    if wire.notifies:
        headers["x-tool-notifications"] = call.dialect
    return StreamingResponse(pieces, media_type="text/event-stream", headers=headers)


async def _pieces(data: bytes, cut: int, pause: float) -> AsyncGenerator[bytes, None]:
    for start in range(0, len(data), cut):
        yield data[start : start + cut]
        await asyncio.sleep(pause)


def _pick(name: str) -> Probe:
    probe = catalogue().get(name)
    if probe is None:
        raise UnknownProbe(
            f"There is no probe {name[:80]!r}. GET /v1/conformance lists them.", param="probe"
        )
    return probe


def _dialect(name: str) -> Dialect:
    try:
        return Dialect(name)
    except ValueError:
        raise _choose("dialect", list(Dialect)) from None


def _choose(param: str, known: Mapping[str, object] | Sequence[str]) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{param}'. Supported values are: {', '.join(map(repr, known))}.",
        param=param,
        code="invalid_value",
    )


class _Query(Protocol):
    def get(self, key: str, default: str, /) -> str: ...


def _number(asked: _Query, name: str, *, default: int, least: int, most: int) -> int:
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
        raise InvalidRequest(
            f"Invalid '{name}': expected a whole number from {least} to {most}.", param=name
        )
    return int(text)


def _expected(probe: Probe) -> Json:
    """What a client should have in the end. Long texts are told by their length."""
    outcome = probe.outcome()
    end = outcome.end
    body: dict[str, object] = {
        "choices": [
            {
                "text": _short("".join(choice.text)),
                "reasoning": "".join(choice.reasoning),
                "refusal": "".join(choice.refusal),
                "tool_calls": [
                    {"id": item.call_id, "name": item.name, "arguments": item.arguments}
                    for item in choice.tool_calls
                    if item.executor == "client"
                ],
                "finish_reason": None if isinstance(end, Error) else choice.finish_reason,
            }
            for choice in outcome.choices
        ],
        "notified": [
            {"id": item.call_id, "tool": item.name, "status": item.result and item.result.status}
            for item in outcome.calls.values()
            if item.executor != "client"
        ],
    }
    if isinstance(end, Error):
        body["error"] = {"type": end.type, "code": end.code, "message": end.message}
    if isinstance(end, Complete) and end.usage is not None and probe.request.include_usage:
        body["usage"] = {"input": end.usage.input_tokens, "output": end.usage.output_tokens}
    return body


def _short(text: str) -> object:
    return text if len(text) <= 1000 else {"length": len(text), "start": text[:16]}
