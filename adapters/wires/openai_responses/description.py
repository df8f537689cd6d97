"""The Responses API in JSON schemas, for those who write clients."""

from adapters.wires.openai_responses.items import PARTS, READERS, ROLES, SAID
from adapters.wires.openai_responses.request import EFFORTS, SUMMARIES, VERBOSITIES
from gateway.errors import ERROR_SCHEMA
from gateway.events import Json
from gateway.ports import Description

_PART: Json = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": sorted({*PARTS, *SAID})},
        "text": {"type": "string"},
        "refusal": {"type": "string"},
        "image_url": {"type": "string"},
        "file_data": {"type": "string"},
    },
}

_CONTENT: Json = {"anyOf": [{"type": "string"}, {"type": "array", "items": _PART}]}

_ITEM: Json = {
    "type": "object",
    "properties": {
        "type": {"enum": [*READERS], "description": "May be left out of a message."},
        "role": {"enum": [*ROLES]},
        "content": _CONTENT,
        "call_id": {"type": "string"},
        "name": {"type": "string"},
        "arguments": {"type": "string"},
        "output": _CONTENT,
        "summary": {"type": "array", "items": {"type": "object"}},
        "encrypted_content": {"type": ["string", "null"]},
        "id": {"type": "string"},
    },
}

_TOOL: Json = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["function", "web_search", "web_search_preview"]},
        "name": {"type": "string", "pattern": "^[a-zA-Z0-9_-]{1,64}$"},
        "description": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"]},
        "strict": {"type": ["boolean", "null"]},
    },
}

_FORMAT: Json = {
    "type": ["object", "null"],
    "properties": {
        "type": {"enum": ["text", "json_object", "json_schema"]},
        "name": {"type": "string"},
        "schema": {"type": "object"},
        "strict": {"type": ["boolean", "null"]},
    },
}

_REQUEST: Json = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string", "minLength": 1, "maxLength": 256},
        "input": {
            "anyOf": [
                {"type": ["string", "null"]},
                {"type": "array", "items": _ITEM},
            ],
            "description": "Needed unless an answer or a conversation is followed.",
        },
        "instructions": {"type": ["string", "null"]},
        "previous_response_id": {"type": ["string", "null"]},
        "conversation": {
            "anyOf": [
                {"type": ["string", "null"]},
                {
                    "type": "object",
                    "required": ["id"],
                    "properties": {"id": {"type": "string"}},
                },
            ]
        },
        "store": {"type": ["boolean", "null"], "default": True},
        "stream": {"type": ["boolean", "null"]},
        "tools": {"type": ["array", "null"], "maxItems": 128, "items": _TOOL},
        "tool_choice": {
            "anyOf": [{"enum": ["none", "auto", "required", None]}, {"type": "object"}],
            "description": "`required`, and an object that names one, only with `tools`.",
        },
        "parallel_tool_calls": {"type": ["boolean", "null"]},
        "text": {
            "type": ["object", "null"],
            "properties": {"format": _FORMAT, "verbosity": {"enum": [*VERBOSITIES, None]}},
        },
        "reasoning": {
            "type": ["object", "null"],
            "properties": {
                "effort": {"enum": [*EFFORTS, None]},
                "summary": {"enum": [*SUMMARIES, None]},
            },
        },
        "include": {"type": ["array", "null"], "items": {"type": "string"}},
        "max_output_tokens": {"type": ["integer", "null"], "minimum": 1},
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
        "truncation": {"enum": ["auto", "disabled", None]},
        "metadata": {
            "type": ["object", "null"],
            "maxProperties": 16,
            "additionalProperties": {"type": "string"},
        },
        "user": {"type": ["string", "null"]},
    },
    "additionalProperties": True,
}

_ANSWER: Json = {
    "type": "object",
    "required": ["id", "object", "created_at", "status", "model", "output", "error"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "response"},
        "created_at": {"type": "integer"},
        "status": {"enum": ["completed", "incomplete"]},
        "model": {"type": "string"},
        "output": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id", "type"],
                "properties": {
                    "id": {"type": "string"},
                    "type": {
                        "enum": [
                            "message",
                            "reasoning",
                            "function_call",
                            "web_search_call",
                            "mcp_call",
                        ]
                    },
                },
            },
        },
        "error": {"type": "null"},
        "incomplete_details": {"type": ["object", "null"]},
        "previous_response_id": {"type": ["string", "null"]},
        "store": {"type": "boolean"},
        "usage": {
            "type": "object",
            "required": ["input_tokens", "output_tokens", "total_tokens"],
            "properties": {
                "input_tokens": {"type": "integer"},
                "output_tokens": {"type": "integer"},
                "total_tokens": {"type": "integer"},
            },
        },
    },
}


def describe() -> Description:
    return Description(
        summary="OpenAI’s responses",
        request=_REQUEST,
        answer=_ANSWER,
        error=ERROR_SCHEMA,
        stream=(
            "OpenAI's events, each frame named after its `type`, numbered from zero: "
            "`response.created` first; `response.completed`, `response.incomplete` or "
            "`response.failed` last, which `error` stands before."
        ),
    )
