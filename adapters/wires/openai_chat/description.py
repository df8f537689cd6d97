"""Chat completions in JSON schemas, for those who write clients."""

from adapters.wires.openai_chat.parts import USAGE_SCHEMA
from adapters.wires.openai_chat.request import Fields
from gateway.errors import ERROR_SCHEMA
from gateway.events import Json
from gateway.ports import Description
from gateway.request import ROLES

_FUNCTION: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": {"type": "string"},
        "parameters": {"type": "object", "description": "JSON schema of the arguments."},
        "strict": {"type": ["boolean", "null"]},
    },
}

_TOOL: Json = {
    "type": "object",
    "required": ["type", "function"],
    "properties": {"type": {"const": "function"}, "function": _FUNCTION},
}

_PART: Json = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["text", "image_url", "input_audio", "file", "refusal"]},
        "text": {"type": "string"},
        "image_url": {"type": "object"},
    },
}

_TOOL_CALL: Json = {
    "type": "object",
    "required": ["id", "type", "function"],
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "required": ["name", "arguments"],
            "properties": {"name": {"type": "string"}, "arguments": {"type": "string"}},
        },
    },
}

_MESSAGE: Json = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": sorted(ROLES)},
        "content": {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": _PART},
                {"type": "null"},
            ],
            "description": "Null, or absent, only with the role assistant.",
        },
        "name": {"type": "string"},
        "tool_calls": {"type": "array", "items": _TOOL_CALL},
        "tool_call_id": {"type": "string", "description": "Of the call that this answers."},
    },
}

_CHOICE: Json = {
    "type": "object",
    "required": ["index", "message", "logprobs", "finish_reason"],
    "properties": {
        "index": {"type": "integer"},
        "message": {
            "type": "object",
            "required": ["role", "content", "refusal"],
            "properties": {
                "role": {"const": "assistant"},
                "content": {"type": ["string", "null"]},
                "refusal": {"type": ["string", "null"]},
                "annotations": {"type": "array", "items": {"type": "object"}},
                "reasoning_content": {"type": "string"},
                "tool_calls": {"type": "array", "items": _TOOL_CALL},
            },
        },
        "logprobs": {"type": ["object", "null"]},
        "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter"]},
    },
}


def describe() -> Description:
    fields = Fields.model_json_schema()
    return Description(
        summary="OpenAI\u2019s chat completions",
        request={
            "type": "object",
            "required": ["model", "messages"],
            "properties": {
                **fields["properties"],
                "messages": {"type": "array", "minItems": 1, "items": _MESSAGE},
                "tools": {"type": ["array", "null"], "maxItems": 128, "items": _TOOL},
                "tool_choice": {
                    "anyOf": [{"enum": ["none", "auto", "required", None]}, {"type": "object"}],
                    "description": "`required`, and an object that names one, only with `tools`.",
                },
                "stop": {
                    "anyOf": [
                        {"type": ["string", "null"]},
                        {"type": "array", "maxItems": 4, "items": {"type": "string"}},
                    ]
                },
            },
            "additionalProperties": True,
            "$defs": fields.get("$defs", {}),
        },
        answer={
            "type": "object",
            "required": ["id", "object", "created", "model", "choices"],
            "properties": {
                "id": {"type": "string"},
                "object": {"const": "chat.completion"},
                "created": {"type": "integer"},
                "model": {"type": "string"},
                "choices": {"type": "array", "items": _CHOICE},
                "usage": USAGE_SCHEMA,
            },
        },
        error=ERROR_SCHEMA,
        stream=(
            "`chat.completion.chunk` objects and `[DONE]` at the end; while tools of the gateway run, "
            "`tool_notification` events, which are whole chunks as well."
        ),
    )
