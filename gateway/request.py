"""What a client asked for, in the one form that every provider reads.

Messages keep the shape of OpenAI's chat format, as plain mappings: most providers speak it, fields
that nobody here knows survive, and a long history is neither copied nor dumped again. A wire that
speaks another format translates into it; a provider that speaks another format translates out of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import TypeAlias

from gateway.errors import InvalidRequest
from gateway.events import Json
from gateway.frozen import frozen
from gateway.secrets import conceal

Message: TypeAlias = Mapping[str, object]
"""`role` is system, developer, user, assistant or tool; `content` is text, a list of parts, or None.

An assistant message of an earlier round may carry `reasoning_content` (text) and `reasoning_details`
(a list of `{"text"?, "signature"?, "redacted"?}`) for providers that want their thinking back.
A message may carry `NATIVE` as well.
"""

NATIVE = "anthropic"
"""A field of messages, tools and options that only providers of Anthropic's API read, for requests that
came in its form: a message's blocks, where its other fields do not say all that they do; the further
fields of a tool; the request's own fields (`thinking`, `top_k`). Whoever changes the content of a
message leaves its `NATIVE` out. Other providers send what `plain` leaves.
"""


@frozen(kw_only=True)
class ChatRequest:
    """One request for an answer. Frozen: a changed copy is made with `dataclasses.replace`."""

    model: str
    messages: Sequence[Message]
    tools: Sequence[Json] = ()
    """Tools offered to the model, in OpenAI's form: `{"type": "function", "function": {…}}`."""
    options: Mapping[str, object] = field(default_factory=dict)
    """All other fields as the client sent them (`temperature`, `max_tokens`, `seed`, `tool_choice`,
    `response_format`, `logprobs`, unknown ones), to be forwarded untouched where the provider can."""
    n: int = 1
    further: Sequence[Sequence[Message]] = ()
    """Other histories to be answered as well, by `n` choices each after the first one's."""
    stream: bool = False
    include_usage: bool = False
    size: int = 0
    """Bytes of the request's body: what its history takes in memory, roughly."""
    conversation: str | None = None
    """The client's name for what this request goes on with."""
    previous: str | None = None
    """Id of the stored answer that this one follows, whose messages come before these."""
    store: bool = False
    """Keep the answer, to be fetched and followed."""
    newest_wins: bool = False
    """An earlier call of the same conversation that still runs is of no use any more."""
    caller: str | None = None
    """The telephone number of who speaks, as the client tells it."""
    user: str | None = None
    """The person behind the client, where the client is trusted to say so."""
    task: str | None = None
    """Work beside the conversation that the client wants done (`title_generation`): answered without
    tools, and not kept."""


@frozen(kw_only=True)
class EmbeddingRequest:
    """Texts that are to become vectors."""

    model: str
    inputs: Sequence[str] | Sequence[Sequence[int]]
    """Texts, or their tokens where the client has made them."""
    options: Mapping[str, object] = field(default_factory=dict)
    """`encoding_format`, `dimensions` and what else the client sent, to be forwarded untouched."""


def plain(request: ChatRequest) -> ChatRequest:
    """The request without the fields that are the gateway's own, which strict servers refuse."""
    messages, tools, options = request.messages, request.tools, request.options
    if any("reasoning_details" in message or NATIVE in message for message in messages):
        messages = [_without(message, "reasoning_details", NATIVE) for message in messages]
    if any(NATIVE in tool for tool in tools):
        tools = [_without(tool, NATIVE) for tool in tools]
    if NATIVE in options:
        options = _without(options, NATIVE)
    if messages is request.messages and tools is request.tools and options is request.options:
        return request
    return replace(request, messages=messages, tools=tools, options=options)


def _without(mapping: Json, *names: str) -> Json:
    return {name: value for name, value in mapping.items() if name not in names}


class Notice(Exception):
    """What came is no request, but news whose sender wants `reply` for an answer."""

    def __init__(self, reply: Mapping[str, object]) -> None:
        super().__init__("a notice, no request")
        self.reply = reply


def function_name(tool: Json) -> str | None:
    """The name in a declared tool, where it is one of a function."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None


ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def check_messages(value: object) -> list[Message]:
    """`value` if it is a history in the form above, looked into only as far as all providers rely on.

    Raises `InvalidRequest` with OpenAI's words, codes and way of naming a place.
    """
    if not isinstance(value, list):
        raise wrong_type("messages", "an array of objects", value)
    if not value:
        raise InvalidRequest(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            param="messages",
            code="empty_array",
        )
    for index, message in enumerate(value):
        _check_message(f"messages[{index}]", message)
    return value


def _check_message(place: str, message: object) -> None:
    if not isinstance(message, dict):
        raise wrong_type(place, "an object", message)
    role = message.get("role")
    if role is None:
        raise missing(f"{place}.role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(
            f"Invalid value: {_show(role)}. Supported values are: {', '.join(map(repr, sorted(ROLES)))}.",
            param=f"{place}.role",
            code="invalid_value",
        )
    _check_content(place, role, message)
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise missing(f"{place}.tool_call_id")
    calls = message.get("tool_calls")
    if calls is not None:
        _check_calls(f"{place}.tool_calls", calls)


def _check_content(place: str, role: str, message: Message) -> None:
    content = message.get("content")
    if content is None:
        if role != "assistant":
            raise (
                missing(f"{place}.content")
                if "content" not in message
                else wrong_type(f"{place}.content", "one of a string or array of objects", content)
            )
    elif isinstance(content, list):
        for number, part in enumerate(content):
            if not isinstance(part, dict):
                raise wrong_type(f"{place}.content[{number}]", "an object", part)
            if not isinstance(part.get("type"), str):
                raise missing(f"{place}.content[{number}].type")
            if part["type"] == "text" and not isinstance(part.get("text"), str):
                raise wrong_type(f"{place}.content[{number}].text", "a string", part.get("text"))
    elif not isinstance(content, str):
        raise wrong_type(f"{place}.content", "one of a string or array of objects", content)


def _check_calls(place: str, calls: object) -> None:
    if not isinstance(calls, list):
        raise wrong_type(place, "an array of objects", calls)
    for number, call in enumerate(calls):
        if not isinstance(call, dict):
            raise wrong_type(f"{place}[{number}]", "an object", call)
        if not isinstance(call.get("id"), str):
            raise missing(f"{place}[{number}].id")
        if call.get("type", "function") != "function":
            continue
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise missing(f"{place}[{number}].function.name")
        if not isinstance(function.get("arguments", ""), str):
            raise wrong_type(
                f"{place}[{number}].function.arguments", "a string", function["arguments"]
            )


def missing(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def wrong_type(param: str, expected: str, value: object) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid type for '{param}': expected {expected}, but got {_kind(value)} instead.",
        param=param,
        code="invalid_type",
    )


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a decimal"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"


def _show(value: object) -> str:
    text = conceal(repr(value))
    return text if len(text) <= 60 else text[:60] + "…"
