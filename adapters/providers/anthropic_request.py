"""A request in OpenAI's form, put into the form of Anthropic's Messages API. Pure: no I/O, no SDK.

What Anthropic has no word for is dropped (`seed`, `logprobs`, `logit_bias`, penalties, unknown
fields), unless the client could not tell that it got something else: that is refused, naming the
field. `thinking`, `top_k`, `cache_control` (also on a message part or a tool), `output_config` and
`service_tier` are Anthropic's own words and pass through, and so do its own tools
(`{"type": "web_search_…", "name": "web_search"}`), which it runs itself. What came in this API's own
form (`NATIVE`) goes out as it came.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import orjson

from adapters.providers.sealed import is_sealed
from gateway.errors import InvalidRequest
from gateway.request import NATIVE, ChatRequest, Message

Block: TypeAlias = dict[str, object]

Thinking: TypeAlias = Literal["adaptive", "budget", "off"]
"""How `reasoning_effort` is said: the model decides how much it thinks, an older model gets a number
of tokens, or it does not think at all."""

_SAMPLING = ("temperature", "top_p")
_COUNTED = (
    *("model", "messages", "system", "tools", "tool_choice", "thinking"),
    *("output_config", "cache_control"),
)
_SAID_BY = {
    "thinking": ("reasoning_effort",),
    "output_config": ("reasoning_effort", "response_format"),
    "metadata": ("user",),
}
"""Which of OpenAI's options say what one of Anthropic's does."""

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
_EFFORTS["max"] = "max"
_BUDGETS = {"low": 1024, "medium": 4096, "high": 16384, "xhigh": 24576, "max": 32768}
_SMALLEST_BUDGET = 1024

_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_DATA_URI = re.compile(r"data:([^;,]+)(?:;[^;,]*)*;base64,", re.IGNORECASE)
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NOT_ID = re.compile(r"[^a-zA-Z0-9_-]")
_USER = re.compile(r"[^@\s]{1,256}")

# Anthropic wants a user's row first, with something in it. Voice platforms let the assistant greet
# first, or send no row but the system's.
_OPENING = "(The conversation starts.)"
_NOTHING = "(nothing)"
_JSON_ONLY = "Answer with one JSON object and nothing else: no prose around it, no code fence."


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What differs between the models of this API, for the operator to say."""

    max_tokens: int = 8192
    """The most that a model may write when the client does not say; this API asks for a number."""
    sampling: bool = False
    """Whether `temperature` and `top_p` are sent. Newer models refuse them."""
    thinking: Thinking = "adaptive"
    unsigned: bool = False
    """Whether thinking without a signature is sent back. Anthropic refuses it; servers that only speak
    its API have no other."""


def translate(request: ChatRequest, style: Style) -> dict[str, object]:
    """The body to post. Raises `InvalidRequest` for what is malformed or cannot be said."""
    _refuse(request)
    request, native = _settle_options(request)
    options = request.options
    system, messages = _Conversation(style.unsigned).read(request.messages)
    body: dict[str, object] = {
        "model": request.model,
        "max_tokens": _max_tokens(options, style.max_tokens),
        "messages": messages,
        "stream": True,
    }
    _add_tools(body, request)
    _add_output(body, options, system)
    _add_thinking(body, options, style.thinking)
    if native is not None:
        # Such a client knows what its model takes.
        body.update((name, options[name]) for name in _SAMPLING if name in options)
    elif style.sampling:
        _add_sampling(body, options)
    if system:
        body["system"] = system
    if stops := _stops(options.get("stop")):
        body["stop_sequences"] = stops
    if user := _user(options):
        body["metadata"] = {"user_id": user}
    _pass_through(body, options)
    for name in native or ():
        body.setdefault(name, options[name])
    return body


def count(request: ChatRequest, style: Style) -> dict[str, object]:
    """The body to post where the tokens of a prompt are told."""
    body = translate(request, style)
    return {name: body[name] for name in _COUNTED if name in body}


def _settle_options(request: ChatRequest) -> tuple[ChatRequest, Mapping[str, object] | None]:
    """The request with the options that came in this API's own form in the place of those that say
    them in OpenAI's, and those options. None where there are none."""
    native = request.options.get(NATIVE)
    if not isinstance(native, Mapping):
        return request, None
    said = {NATIVE} | {name for own in native for name in _SAID_BY.get(own, ())}
    options = {name: value for name, value in request.options.items() if name not in said}
    return replace(request, options={**options, **native}), native


def _refuse(request: ChatRequest) -> None:
    if request.n > 1:
        raise InvalidRequest("This model gives one answer at a time: 'n' has to be 1.", param="n")
    if request.options.get("functions"):
        raise InvalidRequest("'functions' is not supported: use 'tools'.", param="functions")
    modalities = request.options.get("modalities")
    if isinstance(modalities, list) and "audio" in modalities:
        raise InvalidRequest("This model gives no audio.", param="modalities")


# Messages


class _Conversation:
    """Rows into Anthropic's turns, which alternate between user and assistant."""

    def __init__(self, unsigned: bool) -> None:
        self._unsigned = unsigned
        self._system: list[Block] = []
        self._turns: list[tuple[str, list[Block]]] = []
        self._ids = _Ids()

    def read(self, rows: Sequence[Message]) -> tuple[list[Block], list[Block]]:
        """The system's blocks and the messages."""
        if not rows:
            raise InvalidRequest("At least one message is needed.", param="messages")
        for index, row in enumerate(rows):
            self._read(row, f"messages[{index}]")
        if not self._turns or self._turns[0][0] != "user":
            self._turns.insert(0, ("user", [_text(_OPENING)]))
        _strip_end(self._turns)
        return self._system, [{"role": role, "content": blocks} for role, blocks in self._turns]

    def _read(self, row: object, path: str) -> None:
        if not isinstance(row, Mapping):
            raise _invalid(path, "an object")
        match row.get("role"):
            case "system" | "developer":
                blocks = self._native(row, path)
                if blocks is not None and self._turns:
                    self._add("system", blocks)
                else:
                    self._add_system(_content(row, path) if blocks is None else blocks)
            case "user":
                blocks = self._native(row, path)
                if blocks is None:
                    blocks = _content(row, path) or [_text(_NOTHING)]
                self._add("user", blocks)
            case "assistant":
                blocks = self._native(row, path)
                self._add("assistant", self._assistant(row, path) if blocks is None else blocks)
            case "tool":
                blocks = self._native(row, path)
                self._add_result([self._result(row, path)] if blocks is None else blocks)
            case _:
                raise _invalid(f"{path}.role", "system, developer, user, assistant or tool")

    def _add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self._turns and self._turns[-1][0] == role:
            self._turns[-1][1].extend(blocks)
        else:
            self._turns.append((role, blocks))

    def _add_system(self, blocks: list[Block]) -> None:
        if not self._turns:
            self._system.extend(blocks)
            return
        # Later ones stay where they were said. Only some models know a system's row in between.
        marked = [
            {**block, "text": f"<system>\n{block['text']}\n</system>"}
            for block in blocks
            if block["type"] == "text"
        ]
        self._add("user", marked)

    def _add_result(self, result: list[Block]) -> None:
        """Results stand first in their turn, whatever was said in between."""
        if not result:
            return
        if not self._turns or self._turns[-1][0] != "user":
            self._turns.append(("user", []))
        turn = self._turns[-1][1]
        results = [index for index, block in enumerate(turn) if block["type"] == "tool_result"]
        place = results[-1] + 1 if results else 0
        turn[place:place] = result

    def _native(self, row: Message, path: str) -> list[Block] | None:
        """The blocks that a row came as, where it has them. Only their ids may have to be others."""
        given = row.get(NATIVE)
        if given is None:
            return None
        path = f"{path}.{NATIVE}"
        if not isinstance(given, list):
            raise _invalid(path, "a list")
        blocks = [self._native_block(block, f"{path}[{n}]") for n, block in enumerate(given)]
        return [block for block in blocks if block is not None]

    def _native_block(self, block: object, path: str) -> Block | None:
        if not isinstance(block, Mapping):
            raise _invalid(path, "an object")
        match _string(block, "type", path):
            case "text" if not isinstance(block.get("text"), str):
                raise _invalid(f"{path}.text", "a string")
            case "thinking" if not block.get("signature") and not self._unsigned:
                return None
            case "tool_use":
                _string(block, "name", path)
                return {**block, "id": self._ids.announce(_string(block, "id", path))}
            case "tool_result":
                call_id = _string(block, "tool_use_id", path)
                return {**block, "tool_use_id": self._ids.find(call_id)}
            case _:
                return dict(block)

    def _assistant(self, row: Message, path: str) -> list[Block]:
        details = row.get("reasoning_details")
        blocks = _thoughts(details, f"{path}.reasoning_details", self._unsigned)
        blocks += _content(row, path)
        calls = row.get("tool_calls") or []
        if not isinstance(calls, list):
            raise _invalid(f"{path}.tool_calls", "a list")
        for index, call in enumerate(calls):
            blocks.append(self._call(call, f"{path}.tool_calls[{index}]"))
        return blocks

    def _call(self, call: object, path: str) -> Block:
        if not isinstance(call, Mapping):
            raise _invalid(path, "an object")
        function = call.get("function")
        if not isinstance(function, Mapping):
            raise _invalid(f"{path}.function", "an object")
        return {
            "type": "tool_use",
            "id": self._ids.announce(_string(call, "id", path)),
            "name": _string(function, "name", f"{path}.function"),
            "input": _arguments(function.get("arguments"), f"{path}.function.arguments"),
        }

    def _result(self, row: Message, path: str) -> Block:
        result: Block = {
            "type": "tool_result",
            "tool_use_id": self._ids.find(_string(row, "tool_call_id", path)),
        }
        if content := _content(row, path):
            result["content"] = content
        if row.get("is_error") is True:
            result["is_error"] = True
        return result


class _Ids:
    """Ids of tool calls as Anthropic takes them: of few characters, and each only once."""

    def __init__(self) -> None:
        self._current: dict[str, str] = {}
        self._taken: set[str] = set()

    def announce(self, call_id: str) -> str:
        clean = _clean(call_id)
        name, again = clean, 1
        while name in self._taken:
            again += 1
            name = f"{clean}_{again}"
        self._taken.add(name)
        self._current[call_id] = name
        return name

    def find(self, call_id: str) -> str:
        """For a result: the call of that id announced last."""
        return self._current.get(call_id) or _clean(call_id)


def _clean(call_id: str) -> str:
    if _ID.fullmatch(call_id):
        return call_id
    # The digest keeps apart what would look the same without the characters that had to go.
    return f"{_NOT_ID.sub('_', call_id)}_{_digest(call_id)[:8]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _content(row: Message, path: str) -> list[Block]:
    """The blocks of a row, without blank texts: Anthropic refuses those."""
    path = f"{path}.content"
    match row.get("content"):
        case None:
            return []
        case str(text):
            return [_text(text)] if text.strip() else []
        case list(parts):
            pictures = row.get("role") in ("user", "tool")
            blocks = [_part(part, f"{path}[{index}]", pictures) for index, part in enumerate(parts)]
            return [block for block in blocks if block is not None]
        case _:
            raise _invalid(path, "text or a list of parts")


def _part(part: object, path: str, pictures: bool) -> Block | None:
    if not isinstance(part, Mapping):
        raise _invalid(path, "an object")
    kind = part.get("type")
    match kind:
        case "text" | "refusal":
            text = part.get(kind)
            if not isinstance(text, str):
                raise _invalid(f"{path}.{kind}", "a string")
            block = _text(text) if text.strip() else None
        case "image_url" if pictures:
            block = _image(part.get("image_url"), f"{path}.image_url")
        case "file" if pictures:
            block = _document(part.get("file"), f"{path}.file")
        case _:
            taken = "text, image_url or file" if pictures else "text"
            raise _invalid(f"{path}.type", f"{taken}; this model takes nothing else here")
    if block is not None and part.get("cache_control") is not None:
        block["cache_control"] = part["cache_control"]
    return block


def _image(value: object, path: str) -> Block:
    if isinstance(value, Mapping):
        value, path = value.get("url"), f"{path}.url"
    if isinstance(value, str) and value.lower().startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": value}}
    if not isinstance(value, str) or not (start := _DATA_URI.match(value)):
        raise _invalid(path, "an http(s) address or a data URI in base64")
    media_type = start[1].strip().lower().replace("image/jpg", "image/jpeg")
    if media_type not in _IMAGES:
        raise _invalid(path, f"one of {', '.join(_IMAGES)}")
    source = {"type": "base64", "media_type": media_type, "data": value[start.end() :]}
    return {"type": "image", "source": source}


def _document(value: object, path: str) -> Block:
    data = value.get("file_data") if isinstance(value, Mapping) else None
    start = _DATA_URI.match(data) if isinstance(data, str) else None
    if (
        not isinstance(value, Mapping)
        or not isinstance(data, str)
        or start is None
        or start[1].strip().lower() != "application/pdf"
    ):
        raise _invalid(f"{path}.file_data", "a PDF as a data URI in base64")
    source = {"type": "base64", "media_type": "application/pdf", "data": data[start.end() :]}
    block: Block = {"type": "document", "source": source}
    if isinstance(name := value.get("filename"), str) and name.strip():
        block["title"] = name
    return block


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _thoughts(details: object, path: str, unsigned: bool) -> list[Block]:
    """Thinking as it was, to be replayed; without a signature only where that is taken.

    An entry may hold a whole stretch or a piece of one, as its deltas came.
    """
    if details is None:
        return []
    if not isinstance(details, list):
        raise _invalid(path, "a list")
    blocks: list[Block] = []
    text = ""
    for index, entry in enumerate(details):
        if not isinstance(entry, Mapping):
            raise _invalid(f"{path}[{index}]", "an object")
        if isinstance(piece := entry.get("text"), str):
            text += piece
        if isinstance(signature := entry.get("signature"), str) and signature:
            blocks.append({"type": "thinking", "thinking": text, "signature": signature})
            text = ""
        redacted = entry.get("redacted")
        if isinstance(redacted, str) and redacted and not is_sealed(redacted):
            blocks.append({"type": "redacted_thinking", "data": redacted})
            text = ""
    if text and unsigned:
        blocks.append({"type": "thinking", "thinking": text, "signature": ""})
    return blocks


def _arguments(value: object, path: str) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return value
    if value is None:
        return {}
    if not isinstance(value, str):
        raise _invalid(path, "a string of JSON")
    if not value.strip():
        return {}
    try:
        arguments = orjson.loads(value)
    except orjson.JSONDecodeError:
        arguments = None
    # What a model wrote wrong is shown to it as it was, beside the result that says so.
    return arguments if isinstance(arguments, dict) else {"_raw": value}


def _strip_end(turns: Sequence[tuple[str, list[Block]]]) -> None:
    """The model would go on after the last words of an assistant; they must not end in a blank."""
    role, blocks = turns[-1]
    if role == "assistant" and isinstance(text := blocks[-1].get("text"), str):
        blocks[-1] = {**blocks[-1], "text": text.rstrip()}


# Tools


def _add_tools(body: dict[str, object], request: ChatRequest) -> None:
    tools = [_tool(tool, f"tools[{index}]") for index, tool in enumerate(request.tools)]
    choice = _tool_choice(request.options.get("tool_choice"))
    if not tools:
        # A history with tool calls needs their tools, also when none is offered any more.
        tools = _tools_used(body["messages"])
        choice = {"type": "none"}
    elif request.options.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice = {**choice, "disable_parallel_tool_use": True}
    if tools:
        body["tools"] = tools
        if choice is not None:
            body["tool_choice"] = choice


def _tool(tool: object, path: str) -> Block:
    if not isinstance(tool, Mapping):
        raise _invalid(path, "an object")
    kind = tool.get("type")
    if isinstance(kind, str) and kind not in ("function", "custom"):
        _string(tool, "name", path)
        return dict(tool)
    if kind != "function":
        raise _invalid(f"{path}.type", "function, or the name of a tool of Anthropic's")
    function = tool.get("function")
    path = f"{path}.function"
    if not isinstance(function, Mapping):
        raise _invalid(path, "an object")
    # `strict` is left out: Anthropic's takes fewer schemas than OpenAI's, and refuses the others.
    translated: Block = {"name": _string(function, "name", path)}
    if isinstance(description := function.get("description"), str) and description.strip():
        translated["description"] = description
    translated["input_schema"] = _schema(function.get("parameters"), f"{path}.parameters")
    if (cache := tool.get("cache_control", function.get("cache_control"))) is not None:
        translated["cache_control"] = cache
    if isinstance(further := tool.get(NATIVE), Mapping):
        translated = {**further, **translated}
    return translated


def _schema(schema: object, path: str) -> Mapping[str, object]:
    if schema is None:
        return {"type": "object", "properties": {}}
    if not isinstance(schema, Mapping):
        raise _invalid(path, "a JSON schema")
    if schema.get("type") is None:
        return {"type": "object", **{key: schema[key] for key in schema if key != "type"}}
    if schema["type"] != "object":
        raise _invalid(f"{path}.type", "object")
    return schema


def _tools_used(messages: object) -> list[Block]:
    names: dict[str, None] = {}  # a set that keeps the order: the prompt's cache depends on it
    for message in messages if isinstance(messages, list) else ():
        for block in message["content"]:
            if block["type"] == "tool_use":
                names[block["name"]] = None
    return [{"name": name, "input_schema": {"type": "object"}} for name in names]


def _tool_choice(choice: object) -> Block | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return {"type": choice}
        case "required":
            return {"type": "any"}
        case {"type": "function", "function": {"name": str(name)}}:
            return {"type": "tool", "name": name}
        case _:
            raise _invalid("tool_choice", "auto, none, required or one function")


# Options


def _max_tokens(options: Mapping[str, object], default: int) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        value = options.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _invalid(name, "a whole number above 0")
        return value
    return default


def _add_output(
    body: dict[str, object], options: Mapping[str, object], system: list[Block]
) -> None:
    path = "response_format"
    match options.get(path):
        case None | {"type": "text"}:
            pass
        case {"type": "json_schema", "json_schema": {"schema": Mapping() as schema}}:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        case {"type": "json_schema"}:
            raise _invalid(f"{path}.json_schema.schema", "a JSON schema")
        case {"type": "json_object"}:
            # Anthropic's JSON mode needs a closed schema; for any object there are only words.
            system.append(_text(_JSON_ONLY))
        case _:
            raise _invalid(f"{path}.type", "text, json_object or json_schema")


def _add_thinking(body: dict[str, object], options: Mapping[str, object], style: Thinking) -> None:
    if (thinking := options.get("thinking")) is not None:
        if not isinstance(thinking, Mapping):
            raise _invalid("thinking", "an object")
        body["thinking"] = thinking
    effort = options.get("reasoning_effort")
    if effort is None or style == "off":
        return
    if not isinstance(effort, str) or effort not in ("none", *_EFFORTS):
        raise _invalid("reasoning_effort", f"one of none, {', '.join(_EFFORTS)}")
    implied: Mapping[str, object] | None
    if effort == "none":
        implied = {"type": "disabled"}
    elif style == "adaptive":
        _merge_output(body, {"effort": _EFFORTS[effort]})
        # Some models give no text of their thinking unless they are asked for it.
        implied = {"type": "adaptive", "display": "summarized"} if effort != "minimal" else None
    else:
        implied = _budget(effort, body["max_tokens"])
    if implied is None or "thinking" in body:
        return
    if _forced(body.get("tool_choice")) and implied["type"] != "disabled":
        return  # refused together; the choice was asked for in so many words
    body["thinking"] = implied


def _budget(effort: str, max_tokens: object) -> Mapping[str, object] | None:
    """Thinking counts against `max_tokens`: at most half of it, so that an answer fits."""
    limit = max_tokens // 2 if isinstance(max_tokens, int) else 0
    if effort == "minimal" or limit < _SMALLEST_BUDGET:
        return None
    return {"type": "enabled", "budget_tokens": min(_BUDGETS[effort], limit)}


def _forced(choice: object) -> bool:
    return isinstance(choice, Mapping) and choice["type"] in ("any", "tool")


def _add_sampling(body: dict[str, object], options: Mapping[str, object]) -> None:
    thinking = body.get("thinking")
    if isinstance(thinking, Mapping) and thinking.get("type") != "disabled":
        return  # a thinking model takes only the default
    for name in _SAMPLING:
        value = options.get(name)
        if value is None:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise _invalid(name, "a number from 0")
        body[name] = min(value, 1.0)
        return  # several models refuse both at once


def _stops(value: object) -> list[str]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise _invalid("stop", "a string or a list of strings")
    return [stop for stop in stops if stop.strip()]


def _user(options: Mapping[str, object]) -> str | None:
    """Who asks, as an opaque word: Anthropic wants nothing personal there, such as an address."""
    metadata = options.get("metadata")
    given = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    for value in (given, options.get("safety_identifier"), options.get("user")):
        if isinstance(value, str) and value.strip():
            return value if _USER.fullmatch(value) else _digest(value)
    return None


def _pass_through(body: dict[str, object], options: Mapping[str, object]) -> None:
    match options.get("top_k"):
        case None:
            pass
        case int(top_k) if not isinstance(top_k, bool):
            body["top_k"] = top_k
        case _:
            raise _invalid("top_k", "a whole number")
    for name in ("cache_control", "output_config"):
        value = options.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise _invalid(name, "an object")
    if (cache := options.get("cache_control")) is not None:
        body["cache_control"] = cache
    if isinstance(config := options.get("output_config"), Mapping):
        _merge_output(body, config)
    match options.get("service_tier"):
        case "auto" | "standard_only" as tier:
            body["service_tier"] = tier
        case "default":
            body["service_tier"] = "standard_only"
        case _:
            pass  # OpenAI's other tiers have no counterpart


def _merge_output(body: dict[str, object], config: Mapping[str, object]) -> None:
    existing = body.get("output_config")
    body["output_config"] = {**(existing if isinstance(existing, Mapping) else {}), **config}


# Complaints


def _string(owner: Mapping[str, object], name: str, path: str) -> str:
    value = owner.get(name)
    if not isinstance(value, str) or not value:
        raise _invalid(f"{path}.{name}", "a string")
    return value


def _invalid(path: str, expected: str) -> InvalidRequest:
    return InvalidRequest(
        f"Invalid '{path}': expected {expected}.", param=path, code="invalid_value"
    )
