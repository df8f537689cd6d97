"""What an endpoint is to those who write clients, kept beside it; `/openapi.json` is made of these."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.errors import ERROR_SCHEMA
from gateway.events import Json

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    summary: str
    answer: Json = field(default_factory=lambda: {"type": "object"})
    """JSON schema of the body of a success."""
    request: Json | None = None
    """JSON schema of the body that it takes, if any."""
    query: Mapping[str, Json] = field(default_factory=dict)
    """JSON schemas of the parameters in the address, by name."""
    error: Json = field(default_factory=lambda: ERROR_SCHEMA)
    stream: str | None = None
    """What a success consists of where it is streamed."""
    streams_only: bool = False
    open: bool = False
    """Whether it is for everybody, without a key."""
    media_type: str = "application/json"


def operation(told: Operation) -> Callable[[F], F]:
    """Describes a function that is an endpoint."""

    def remember(endpoint: F) -> F:
        _OPERATIONS[endpoint] = told
        return endpoint

    return remember


def find(endpoint: object) -> Operation | None:
    """Of a function, a bound method, or an object that has one as `operation`."""
    if isinstance(told := getattr(endpoint, "operation", None), Operation):
        return told
    function = getattr(endpoint, "__func__", endpoint)
    return _OPERATIONS.get(function) if callable(function) else None


_OPERATIONS: dict[Callable[..., object], Operation] = {}


def listing(item: Json, more: Mapping[str, Json] | None = None) -> Json:
    """JSON schema of a list as OpenAI tells one."""
    return {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": item},
            **(more or {}),
        },
    }


def thing(kind: str, required: Sequence[str], properties: Mapping[str, Json]) -> Json:
    """JSON schema of an object that says under `object` what it is."""
    return {
        "type": "object",
        "required": ["object", *required],
        "properties": {"object": {"const": kind}, **properties},
    }
