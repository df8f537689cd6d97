"""Messages in JSON schemas, for those who write clients."""

from adapters.wires.anthropic_messages.parts import ERROR_KINDS
from adapters.wires.anthropic_messages.request import Fields
from gateway.events import Json
from gateway.ports import Description

_BLOCK: Json = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"type": "string"}, "text": {"type": "string"}},
}

_BLOCKS: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": _BLOCK}]}

_MESSAGE: Json = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {"role": {"enum": ["user", "assistant", "system"]}, "content": _BLOCKS},
}

_TOOL: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "type": {"type": ["string", "null"]},
        "description": {"type": "string"},
        "input_schema": {"type": "object", "description": "Needed but for tools of Anthropic's."},
    },
}

_COUNT: Json = {"type": "integer", "minimum": 0}

_USAGE: Json = {
    "type": "object",
    "required": [
        "input_tokens",
        "cache_creation_input_tokens",
        "cache_read_input_tokens",
        "output_tokens",
    ],
    "properties": {
        "input_tokens": {**_COUNT, "description": "Those that no cache had a part in."},
        "cache_creation_input_tokens": _COUNT,
        "cache_read_input_tokens": _COUNT,
        "output_tokens": _COUNT,
        "output_tokens_details": {"type": "object", "properties": {"thinking_tokens": _COUNT}},
    },
}

_STREAM = (
    "Anthropic's events: `message_start`; for each block `content_block_start`, "
    "`content_block_delta` and `content_block_stop`; `message_delta`, `message_stop`. A failure is "
    "`error`."
)


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
                "system": _BLOCKS,
                "tools": {"anyOf": [{"type": "array", "items": _TOOL}, {"type": "null"}]},
                "tool_choice": {
                    "type": ["object", "null"],
                    "properties": {"type": {"enum": ["auto", "any", "tool", "none"]}},
                    "description": "Only with `tools`.",
                },
            },
            "additionalProperties": True,
            "$defs": fields.get("$defs", {}),
        },
        answer={
            "type": "object",
            "required": ["id", "type", "role", "model", "content", "stop_reason", "usage"],
            "properties": {
                "id": {"type": "string"},
                "type": {"const": "message"},
                "role": {"const": "assistant"},
                "model": {"type": "string"},
                "content": {"type": "array", "items": _BLOCK},
                "stop_reason": {"type": "string"},
                "stop_sequence": {"type": ["string", "null"]},
                "usage": _USAGE,
            },
        },
        error={
            "type": "object",
            "required": ["type", "error"],
            "properties": {
                "type": {"const": "error"},
                "error": {
                    "type": "object",
                    "required": ["type", "message"],
                    "properties": {
                        "type": {"enum": sorted(ERROR_KINDS)},
                        "message": {"type": "string"},
                        "details": {
                            "type": "object",
                            "properties": {"error_code": {"type": "string"}},
                        },
                    },
                },
            },
        },
        stream=_STREAM,
    )
