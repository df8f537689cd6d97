"""The pieces that a streamed and a whole message have in common."""

import orjson

from gateway.events import Complete, Error, Json, Usage
from gateway.records import Call

_ERRORS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
ERROR_KINDS = frozenset({*_ERRORS.values(), "api_error", "invalid_request_error"})

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
# What a provider says for itself, or the engine when it may not go on: sent back as it is, a message
# that was paused is gone on with.
_OWN_STOPS = {
    "model_context_window_exceeded": "model_context_window_exceeded",
    "pause_turn": "pause_turn",
    "tool_rounds": "pause_turn",
}


def message(call: Call, content: list[Json], usage: Json) -> dict[str, object]:
    return {
        "id": "msg_" + call.id.replace("-", ""),
        "type": "message",
        "role": "assistant",
        "model": call.request.model,
        "content": content,
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }


def read_input(arguments: str) -> Json:
    """Always an object: what a model wrote wrong is handed on as it is, and known when it returns."""
    try:
        value = orjson.loads(arguments or "{}")
        orjson.dumps(
            [[[[value]]]]
        )  # the parser takes what is nested too deeply to be written again
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return {"_raw": arguments}
    return value if isinstance(value, dict) else {"_raw": arguments}


def stop(end: Complete, refusal: str) -> dict[str, object]:
    """How a message ended, as the fields that say so."""
    reason = _STOPS[end.finish_reason]
    if end.finish_reason in ("stop", "length"):
        reason = _OWN_STOPS.get(end.provider_reason or "", reason)
    if end.finish_reason == "stop" and end.stop_sequence is not None:
        reason = "stop_sequence"
    if end.finish_reason == "stop" and refusal:
        reason = "refusal"
    fields: dict[str, object] = {"stop_reason": reason, "stop_sequence": end.stop_sequence}
    if reason == "refusal":
        fields["stop_details"] = {
            "type": "refusal",
            "category": None,
            "explanation": refusal or None,
        }
    return fields


def usage_body(usage: Usage | None) -> Json:
    """Here a prompt's tokens are those that no cache had a part in; everywhere else they are all."""
    usage = usage or Usage()
    fresh = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    body: dict[str, object] = {
        "input_tokens": max(fresh, 0),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }
    if usage.reasoning_tokens:
        body["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return body


def error_body(error: Error) -> Json:
    kind = _ERRORS.get(
        error.status, "api_error" if error.status >= 500 else "invalid_request_error"
    )
    text = error.message
    if error.param and error.param not in text:
        text = f"{error.param}: {text}"
    told: dict[str, object] = {"type": kind, "message": text}
    if error.code is not None:
        told["details"] = {"error_code": error.code}
    return {"type": "error", "error": told}
