"""What voice platforms send: a chat request with the telephone call around it.

Only what is named here goes on. The rest of such a body has credentials in it (a telephone provider's, a
webhook's), and is neither kept nor sent to a model.
"""

from collections.abc import Mapping
from dataclasses import fields

from adapters.wires.openai_chat import request as chat
from gateway.frozen import frozen
from gateway.request import ChatRequest, Notice

_OPTIONS = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "seed",
        "logit_bias",
        "response_format",
        "reasoning_effort",
        "verbosity",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    }
)

_NAMES = ("conversation_id", "session_id")
"""What a conversation's name is called by platforms that let their users choose the fields."""


@frozen(kw_only=True)
class VoiceRequest(ChatRequest):
    """A request of this format, with what only its answer needs."""

    flushes: bool
    """The platform takes `<flush />` for a sign to speak, and does not read it out."""


def recognise(body: Mapping[str, object]) -> bool:
    """Whether a body is a voice platform's: by what no client of OpenAI's API sends."""
    return (
        isinstance(body.get("call"), Mapping)
        or isinstance(body.get("phoneNumber"), Mapping)
        or isinstance(body.get("customer"), Mapping)
        or isinstance(body.get("elevenlabs_extra_body"), Mapping)
        or _is_news(body)
    )


def parse(body: Mapping[str, object], size: int, model: str | None = None) -> VoiceRequest:
    """`model` is asked for where the body names none. Raises `InvalidRequest`, or `Notice` for news of
    a call that were sent here by mistake."""
    if _is_news(body):
        raise Notice({})
    kept = {name: value for name, value in body.items() if name in _OPTIONS}
    if kept.get("model") is None and model is not None:
        kept["model"] = model
    if "messages" in body:
        kept["messages"] = _mend(body["messages"])
    if not body.get("tools") and isinstance(functions := body.get("functions"), list):
        kept["tools"] = [{"type": "function", "function": each} for each in functions]
    request = chat.parse(kept, size)
    conversation = _conversation(body)
    same = {field.name: getattr(request, field.name) for field in fields(ChatRequest)}
    return VoiceRequest(
        **same
        | {
            "stream": body.get("stream") is not False,
            "conversation": conversation,
            "newest_wins": conversation is not None,
            "caller": _caller(body),
        },
        flushes=_flushes(body),
    )


def _is_news(body: Mapping[str, object]) -> bool:
    """A webhook's body, `{"message": {"type": "status-update", …}}`."""
    message = body.get("message")
    return "messages" not in body and isinstance(message, Mapping) and "type" in message


def _mend(messages: object) -> object:
    """Platforms have rows of what they heard, also of nothing. A list that is none is told as such."""
    if not isinstance(messages, list):
        return messages
    return [
        {**row, "content": ""}
        if isinstance(row, dict) and row.get("content") is None and row.get("role") != "assistant"
        else row
        for row in messages
    ]


def _conversation(body: Mapping[str, object]) -> str | None:
    call, extra = _object(body, "call"), _object(body, "elevenlabs_extra_body")
    return _text(call, "id", "callId") or _text(extra, *_NAMES, "call_id") or _text(body, *_NAMES)


def _caller(body: Mapping[str, object]) -> str | None:
    """The number of who speaks; none in a browser's call. `phoneNumber` would be our own line."""
    customers = (_object(body, "customer"), _object(_object(body, "call"), "customer"))
    extra = _object(body, "elevenlabs_extra_body")
    for name in ("number", "sipUri"):
        for customer in customers:
            if number := _text(customer, name):
                return number
    return _text(extra, "caller_id", "caller")


def _flushes(body: Mapping[str, object]) -> bool:
    """Vapi's bodies alone: other platforms read the tag out."""
    call = _object(body, "call")
    return "phoneNumber" in body or bool(call.keys() & {"orgId", "assistantId", "type"})


def _object(body: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = body.get(name)
    return value if isinstance(value, Mapping) else {}


def _text(body: Mapping[str, object], *names: str) -> str | None:
    """The first that is a text of a sensible length."""
    for name in names:
        value = body.get(name)
        if isinstance(value, str) and 0 < len(value.strip()) <= 256:
            return value.strip()
    return None
