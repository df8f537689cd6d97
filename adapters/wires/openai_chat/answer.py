"""A whole answer as one `chat.completion`, for `stream: false`."""

from adapters.wires.openai_chat.parts import annotation, completion_id, usage_body
from gateway.events import Complete, Json
from gateway.outcome import Choice, Outcome
from gateway.records import Call


def render(call: Call, outcome: Outcome) -> Json:
    body: dict[str, object] = {
        "id": completion_id(call),
        "object": "chat.completion",
        "created": call.created,
        "model": call.request.model,
        "choices": [_choice(index, choice) for index, choice in enumerate(outcome.choices)],
    }
    if isinstance(outcome.end, Complete) and outcome.end.usage is not None:
        body["usage"] = usage_body(outcome.end.usage)
    return body


def _choice(index: int, choice: Choice) -> Json:
    calls = [
        {
            "id": call.call_id,
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for call in choice.tool_calls
        if call.executor == "client"
    ]
    text, refusal = "".join(choice.text), "".join(choice.refusal)
    message: dict[str, object] = {
        "role": "assistant",
        "content": text if text or not (calls or refusal) else None,
        "refusal": refusal or None,
        "annotations": [annotation(citation) for citation in choice.citations],
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if calls:
        message["tool_calls"] = calls
    logprobs = None
    if choice.logprobs or choice.refusal_logprobs:
        logprobs = {
            "content": choice.logprobs or None,
            "refusal": choice.refusal_logprobs or None,
        }
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": choice.finish_reason,
    }
