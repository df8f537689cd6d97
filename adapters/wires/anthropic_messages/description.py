"""The Messages API in JSON schemas, for those who write clients."""

from adapters.wires.anthropic_messages.request import Fields
from gateway.events import Json
from gateway.ports import Description

_BLOCK: Json = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}},
}

_CONTENT: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": _BLOCK}]}

_MESSAGE: Json = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": {"enum": ["user", "assistant"]}, "content": _CONTENT},
}

_ANSWER: Json = {
    "type": "object",
    "required": [
        "id",
        "type",
        "role",
        "model",
        "content",
        "stop_reason",
        "stop_sequence",
        "usage",
    ],
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": {"type": "string"},
        "content": {"type": "array", "items": _BLOCK},
        "stop_reason": {"type": ["string", "null"]},
        "stop_sequence": {"type": ["string", "null"]},
        "usage": {
            "type": "object",
            "required": ["input_tokens", "output_tokens"],
            "properties": {
                "input_tokens": {"type": "integer", "minimum": 0},
                "output_tokens": {"type": "integer", "minimum": 0},
            },
        },
    },
}

_ERROR: Json = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}


def describe() -> Description:
    fields = Fields.model_json_schema()
    return Description(
        summary="Anthropic’s messages",
        request={
            "type": "object",
            "required": ["model", "max_tokens", "messages"],
            "properties": {
                **fields["properties"],
                "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
                "system": _CONTENT,
            },
        },
        answer=_ANSWER,
        error=_ERROR,
        stream="Events from `message_start` to `message_stop`, as Anthropic sends them; or `error`.",
    )
