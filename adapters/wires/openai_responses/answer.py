"""The response object: whole, as it begins, and as it ends in a stream."""

from collections.abc import Mapping, Sequence

from adapters.wires.openai_responses.output import Output
from adapters.wires.openai_responses.request import ResponsesRequest
from gateway.events import Complete, Error, FinishReason, Json, Usage
from gateway.outcome import Outcome
from gateway.records import Call

_INCOMPLETE: Mapping[FinishReason, str] = {
    "length": "max_output_tokens",
    "content_filter": "content_filter",
}


def response_id(call: Call) -> str:
    return "resp_" + call.id.replace("-", "")


def render(call: Call, outcome: Outcome) -> Json:
    output = Output(call)
    for event in outcome.story:
        output.take(event)
    end = outcome.end if isinstance(outcome.end, Complete) else Complete()
    output.close(whole=end.finish_reason not in _INCOMPLETE)
    return completed(call, output.items(), end)


def begun(call: Call) -> Json:
    return _response(call, "in_progress", [])


def completed(call: Call, items: Sequence[Json], end: Complete) -> Json:
    reason = _INCOMPLETE.get(end.finish_reason)
    return _response(
        call,
        "completed" if reason is None else "incomplete",
        items,
        incomplete_details=None if reason is None else {"reason": reason},
        usage=end.usage,
    )


def failed(call: Call, items: Sequence[Json], error: Error) -> Json:
    details = {"code": _error_code(error), "message": error.message}
    return _response(call, "failed", items, error=details)


def _error_code(error: Error) -> str:
    """OpenAI's list of them is closed; the event `error` has ours."""
    if error.status == 429:
        return "rate_limit_exceeded"
    return "server_error" if error.status >= 500 else "invalid_prompt"


def _response(
    call: Call,
    status: str,
    items: Sequence[Json],
    *,
    error: Json | None = None,
    incomplete_details: Json | None = None,
    usage: Usage | None = None,
) -> Json:
    request = call.request
    said = request.said if isinstance(request, ResponsesRequest) else {}
    body: dict[str, object] = {
        "id": response_id(call),
        "object": "response",
        "created_at": call.created,
        "status": status,
        "background": False,
        "error": error,
        "incomplete_details": incomplete_details,
        "model": request.model,
        "output": items,
        **_SAID,
        **said,
        "store": request.store,
    }
    if request.conversation is not None:
        body["conversation"] = {"id": request.conversation}
    if usage is not None:
        body["usage"] = _usage(usage)
    return body


_SAID: Json = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
}
"""What an answer says again of its request, where the request said nothing."""


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
