"""What a client may ask: checked, and told in the form that every provider reads.

Fields that OpenAI does not have are passed on as they came, for model servers that know more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field

from adapters.wires.openai_responses.items import read_input
from gateway.errors import InvalidRequest
from gateway.events import Json
from gateway.frozen import frozen
from gateway.request import ChatRequest, Message, missing, wrong_type
from gateway.secrets import conceal

_LONGEST_MODEL = 256
_MOST_TOOLS = 128
_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@frozen(kw_only=True)
class ResponsesRequest(ChatRequest):
    """A request together with what its answer says again of it."""

    said: Json = field(default_factory=dict)
    sealed_reasoning: bool = False
    """Whether the client takes the model's thinking with it."""


_READ = frozenset(
    {
        "access_programs",
        "background",
        "background_options",
        "client_metadata",  # of OpenAI's own coding agent
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "previous_response_id",
        "prompt",
        "reasoning",
        "store",
        "stream",
        "stream_options",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "truncation",
    }
)
"""Those that a provider of chat completions does not know, or that are told to it in other words."""
_ECHOED = (
    "instructions",
    "max_output_tokens",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "temperature",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
_UNSUPPORTED = {
    "prompt": "Stored prompts are not supported; send 'instructions' and 'input'.",
    "max_tool_calls": "'max_tool_calls' is not supported; the gateway's settings limit its tools.",
}
_SEARCHES = frozenset(
    {
        "web_search",
        "web_search_2025_08_26",
        "web_search_preview",
        "web_search_preview_2025_03_11",
    }
)
_SEARCH = "web_search"
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SUMMARIES = ("auto", "concise", "detailed")
VERBOSITIES = ("low", "medium", "high")


def parse(body: Mapping[str, object], size: int) -> ChatRequest:
    given = _Fields({name: value for name, value in body.items() if value is not None})
    model = _model(given)
    for name, reason in _UNSUPPORTED.items():
        if name in given.body:
            raise InvalidRequest(reason, param=name, code="unsupported_parameter")
    if given.boolean("background"):
        raise InvalidRequest(
            "'background' is not supported: an answer is given to the request that asks for it.",
            param="background",
            code="unsupported_parameter",
        )
    previous, conversation = given.text("previous_response_id"), _conversation(given)
    if previous is not None and conversation is not None:
        raise InvalidRequest(
            "Mutually exclusive parameters: ['previous_response_id', 'conversation']. "
            "Ensure you are only providing one of them.",
            param="previous_response_id",
            code="mutually_exclusive_parameters",
        )
    text, reasoning = given.mapping("text"), given.mapping("reasoning")
    include = _include(given)
    tools = _tools(given.body.get("tools"))
    functions = [_hub_tool(tool) for tool in tools if tool["type"] == "function"]
    functions, choice = _choose(given.body.get("tool_choice"), functions, tools)
    options = _options(given, text, reasoning, include)
    if choice is not None:
        options["tool_choice"] = choice
    given.choice("truncation", ("auto", "disabled"))
    stream = given.boolean("stream") or False
    given.mapping("stream_options")
    store = given.boolean("store")
    return ResponsesRequest(
        model=model,
        messages=_messages(given, alone=previous is None and conversation is None),
        tools=functions,
        options=options,
        stream=stream,
        include_usage=True,
        size=size,
        conversation=conversation,
        previous=previous,
        store=store is not False,
        said=_said(given, text, reasoning, tools),
        sealed_reasoning="reasoning.encrypted_content" in include,
    )


class _Fields:
    """A body without its nulls, read with OpenAI's words for what is wrong with it."""

    def __init__(self, body: Mapping[str, object], place: str = "") -> None:
        self.body = body
        self._place = place

    def text(self, name: str) -> str | None:
        value = self.body.get(name)
        if value is not None and not isinstance(value, str):
            raise wrong_type(self._place + name, "a string", value)
        return value

    def boolean(self, name: str) -> bool | None:
        value = self.body.get(name)
        if value is not None and not isinstance(value, bool):
            raise wrong_type(self._place + name, "a boolean", value)
        return value

    def mapping(self, name: str) -> "_Fields":
        value = self.body.get(name)
        if value is None:
            return _Fields({}, f"{self._place}{name}.")
        if not isinstance(value, dict):
            raise wrong_type(self._place + name, "an object", value)
        within = {key: item for key, item in value.items() if item is not None}
        return _Fields(within, f"{self._place}{name}.")

    def choice(self, name: str, known: Sequence[str]) -> str | None:
        value = self.text(name)
        if value is not None and value not in known:
            raise InvalidRequest(
                f"Invalid value: {conceal(value[:60])!r}. "
                f"Supported values are: {', '.join(map(repr, known))}.",
                param=self._place + name,
                code="invalid_value",
            )
        return value

    def number(self, name: str, least: float, most: float | None, *, whole: bool = False) -> None:
        value, kind = self.body.get(name), "integer" if whole else "decimal"
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise wrong_type(self._place + name, "an integer" if whole else "a decimal", value)
        if not isinstance(value, int | float):
            return
        if value < least:
            raise self._out_of_range(name, kind, "below minimum", ">=", least, value)
        if most is not None and value > most:
            raise self._out_of_range(name, kind, "above maximum", "<=", most, value)

    def _out_of_range(
        self, name: str, kind: str, said: str, sign: str, bound: float, value: object
    ) -> InvalidRequest:
        return InvalidRequest(
            f"Invalid '{self._place}{name}': {kind} {said} value. "
            f"Expected a value {sign} {bound:g}, but got {value} instead.",
            param=self._place + name,
            code=f"{kind}_{'below_min' if sign == '>=' else 'above_max'}_value",
        )


def _model(given: _Fields) -> str:
    model = given.text("model")
    if model is None:
        raise missing("model")
    if not model:
        raise InvalidRequest("you must provide a model parameter", param="model")
    if len(model) > _LONGEST_MODEL:
        raise InvalidRequest(
            f"Invalid 'model': more than {_LONGEST_MODEL} characters.", param="model"
        )
    return model


def _conversation(given: _Fields) -> str | None:
    value = given.body.get("conversation")
    if value is None or isinstance(value, str):
        return value or None
    if not isinstance(value, dict):
        raise wrong_type("conversation", "one of a string or object", value)
    if not isinstance(value.get("id"), str):
        raise missing("conversation.id")
    return str(value["id"])


def _include(given: _Fields) -> Sequence[str]:
    """Those that nothing here has (`file_search_call.results`) are asked in vain, as OpenAI does it."""
    include = given.body.get("include", [])
    if not isinstance(include, list) or not all(isinstance(item, str) for item in include):
        raise wrong_type("include", "an array of strings", include)
    return include


def _messages(given: _Fields, *, alone: bool) -> list[Message]:
    """The instructions first: whoever keeps the messages for a later request leaves them out."""
    instructions = given.text("instructions")
    first: list[Message] = (
        [] if instructions is None else [{"role": "system", "content": instructions}]
    )
    value = given.body.get("input")
    if value is None and not alone:
        return first
    if value is None:
        raise missing("input")
    rows = read_input(value)
    if not rows and alone:
        raise InvalidRequest(
            "Invalid 'input': there is no message in it.", param="input", code="empty_array"
        )
    return [*first, *rows]


def _options(
    given: _Fields, text: _Fields, reasoning: _Fields, include: Sequence[str]
) -> dict[str, object]:
    given.number("temperature", 0, 2)
    given.number("top_p", 0, 1)
    given.number("max_output_tokens", 1, None, whole=True)
    given.number("top_logprobs", 0, 20, whole=True)
    given.boolean("parallel_tool_calls")
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        given.text(name)
    options = {name: value for name, value in given.body.items() if name not in _READ}
    if (limit := given.body.get("max_output_tokens")) is not None:
        options["max_completion_tokens"] = limit
    if (effort := reasoning.choice("effort", EFFORTS)) is not None:
        options["reasoning_effort"] = effort
    if (verbosity := text.choice("verbosity", VERBOSITIES)) is not None:
        options["verbosity"] = verbosity
    top = given.body.get("top_logprobs")
    if top or "message.output_text.logprobs" in include:
        options["logprobs"] = True
        if top is not None:
            options["top_logprobs"] = top
    if (shape := _response_format(text.mapping("format"))) is not None:
        options["response_format"] = shape
    return options


def _response_format(shape: _Fields) -> Json | None:
    if not shape.body:
        return None
    if "type" not in shape.body:
        raise missing("text.format.type")
    match shape.choice("type", ("text", "json_object", "json_schema")):
        case "json_object":
            return {"type": "json_object"}
        case "json_schema":
            for name in ("name", "schema"):
                if name not in shape.body:
                    raise missing(f"text.format.{name}")
            shape.text("name")
            shape.mapping("schema")
            shape.boolean("strict")
            schema = {name: value for name, value in shape.body.items() if name != "type"}
            return {"type": "json_schema", "json_schema": schema}
        case _:
            return None


def _tools(value: object) -> list[Json]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong_type("tools", "an array of objects", value)
    if len(value) > _MOST_TOOLS:
        raise InvalidRequest(
            f"Invalid 'tools': array too long. Expected an array with maximum length {_MOST_TOOLS}, "
            f"but got an array with length {len(value)} instead.",
            param="tools",
            code="array_above_max_length",
        )
    for index, tool in enumerate(value):
        _check_tool(f"tools[{index}]", tool)
    return value


def _check_tool(place: str, tool: object) -> None:
    if not isinstance(tool, dict):
        raise wrong_type(place, "an object", tool)
    kind = tool.get("type")
    if kind is None:
        raise missing(f"{place}.type")
    if not isinstance(kind, str):
        raise wrong_type(f"{place}.type", "a string", kind)
    if kind in _SEARCHES:
        return
    if kind != "function":
        raise InvalidRequest(
            f"Tools of type {conceal(kind[:60])!r} are not supported. "
            "Supported are 'function', and 'web_search' where the model has it.",
            param=f"{place}.type",
            code="unsupported_value",
        )
    name = tool.get("name")
    if name is None:
        raise missing(f"{place}.name")
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise InvalidRequest(
            f"Invalid '{place}.name': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'.",
            param=f"{place}.name",
            code="invalid_value",
        )
    fields = _Fields(tool, f"{place}.")
    fields.text("description")
    fields.mapping("parameters")
    fields.boolean("strict")


def _hub_tool(tool: Json) -> Json:
    function = {
        name: tool[name]
        for name in ("name", "description", "parameters", "strict")
        if tool.get(name) is not None
    }
    return {"type": "function", "function": function}


def _choose(
    choice: object, functions: list[Json], tools: Sequence[Json]
) -> tuple[list[Json], object]:
    """The functions that may be called, and the choice among them in the form of chat completions."""
    match choice:
        case None | "none" | "auto":
            return functions, choice if functions or choice == "none" else None
        case "required":
            _need_tools(tools)
            return functions, choice
        case str():
            raise InvalidRequest(
                f"Invalid value: {conceal(choice[:60])!r}. "
                "Supported values are: 'none', 'auto', and 'required'.",
                param="tool_choice",
                code="invalid_value",
            )
        case {"type": "function", "name": str(name)}:
            _need_tools(tools)
            _find(name, functions, "tool_choice")
            return functions, {"type": "function", "function": {"name": name}}
        case {"type": "function"}:
            raise missing("tool_choice.name")
        case {"type": str(kind)} if kind in _SEARCHES:
            _need_tools([tool for tool in tools if _is_search(tool)])
            search = {"type": kind, "name": _SEARCH}  # which a tool of the gateway stands in for
            return [*functions, search], {"type": "function", "function": {"name": _SEARCH}}
        case {"type": "allowed_tools", "mode": "auto" | "required" as mode, "tools": list(allowed)}:
            _need_tools(tools)
            return _allowed(allowed, functions), mode
        case {"type": str(kind)}:
            raise InvalidRequest(
                f"A choice of type {conceal(kind[:60])!r} is not supported. Supported are 'none', "
                "'auto', 'required', a function, 'web_search' and 'allowed_tools'.",
                param="tool_choice",
                code="unsupported_value",
            )
        case dict():
            raise missing("tool_choice.type")
        case _:
            raise wrong_type("tool_choice", "one of a string or object", choice)


def _allowed(allowed: Sequence[object], functions: list[Json]) -> list[Json]:
    chosen = []
    for index, tool in enumerate(allowed):
        match tool:
            case {"type": "function", "name": str(name)}:
                chosen.append(_find(name, functions, f"tool_choice.tools[{index}]"))
            case dict() if _is_search(tool):
                pass
            case _:
                raise InvalidRequest(
                    f"Invalid 'tool_choice.tools[{index}]': expected a function of 'tools'.",
                    param=f"tool_choice.tools[{index}]",
                    code="invalid_value",
                )
    return chosen


def _find(name: str, functions: Sequence[Json], place: str) -> Json:
    for tool in functions:
        if tool["function"]["name"] == name:  # type: ignore[index]  # made by `_hub_tool`
            return tool
    raise InvalidRequest(
        f"Invalid value for '{place}': function {conceal(name[:64])!r} is not in 'tools'.",
        param=place,
        code="invalid_value",
    )


def _is_search(tool: Json) -> bool:
    return str(tool.get("type")) in _SEARCHES


def _need_tools(tools: Sequence[Json]) -> None:
    if not tools:
        raise InvalidRequest(
            "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"
        )


def _said(given: _Fields, text: _Fields, reasoning: _Fields, tools: Sequence[Json]) -> Json:
    said = {name: given.body[name] for name in _ECHOED if name in given.body}
    said["metadata"] = _metadata(given)
    said["tools"] = [_said_tool(tool) for tool in tools]
    choice = given.body.get("tool_choice", "auto")
    # OpenAI's schema of answers knows a forced search by this name only.
    said["tool_choice"] = (
        {"type": "web_search_preview"}
        if isinstance(choice, dict) and _is_search(choice)
        else choice
    )
    summary = reasoning.choice("summary", SUMMARIES)
    said["reasoning"] = {"effort": reasoning.body.get("effort"), "summary": summary}
    said["text"] = {**text.body, "format": text.mapping("format").body or {"type": "text"}}
    return said


def _said_tool(tool: Json) -> Json:
    if tool["type"] != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


def _metadata(given: _Fields) -> Json:
    metadata = given.mapping("metadata").body
    if len(metadata) > 16:
        raise InvalidRequest(
            f"Invalid 'metadata': too many properties. Expected an object with at most 16 "
            f"properties, but got an object with {len(metadata)} properties instead.",
            param="metadata",
            code="object_above_max_properties",
        )
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise wrong_type(f"metadata.{conceal(name[:64])}", "a string", value)
    return metadata
