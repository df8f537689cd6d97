"""What a client may send: checked where a mistake would surface late or unclear, else passed on.

Fields that are not named here belong to the provider and are forwarded as they came.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.errors import InvalidRequest
from gateway.request import ChatRequest, check_messages, function_name, missing, wrong_type
from gateway.secrets import conceal

Penalty = Annotated[float, Field(ge=-2, le=2)]


class StreamOptions(BaseModel):
    """`stream_options`."""

    model_config = ConfigDict(strict=True, extra="allow")

    include_usage: bool | None = None


class Fields(BaseModel):
    """Types and ranges as OpenAI documents them. Strict: `"yes"` is no boolean."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    seed: int | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = None
    logit_bias: dict[str, float] | None = None
    metadata: dict[str, object] | None = None
    response_format: dict[str, object] | None = None


_READ = frozenset({"model", "messages", "tools", "n", "stream", "stream_options"})

# What pydantic calls an error, in OpenAI's words: the kind that was expected, or the code of a range.
_KINDS = {
    "string_type": "a string",
    "bool_type": "a boolean",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a decimal",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_RANGES = {
    "greater_than_equal": ("below minimum value", ">=", "below_min_value"),
    "less_than_equal": ("above maximum value", "<=", "above_max_value"),
}


def parse(body: Mapping[str, object], size: int) -> ChatRequest:
    try:
        fields = Fields.model_validate(body)
    except ValidationError as error:
        raise translate(error) from None
    if "messages" not in body:
        raise missing("messages")
    options = {
        name: value for name, value in body.items() if value is not None and name not in _READ
    }
    check_stop(options.get("stop"))
    tools = _check_tools(body.get("tools"))
    _check_choice(options.get("tool_choice"), tools)
    _check_old_fields(options)
    return ChatRequest(
        model=fields.model,
        messages=check_messages(body["messages"]),
        tools=tools,
        options=options,
        n=fields.n or 1,
        stream=bool(fields.stream),
        include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
        size=size,
    )


def check_stop(stop: object) -> None:
    """Raises `InvalidRequest`."""
    if stop is None or isinstance(stop, str):
        return
    if not isinstance(stop, list) or not all(isinstance(item, str) for item in stop):
        raise wrong_type("stop", "one of a string or array of strings", stop)
    if len(stop) > 4:
        raise InvalidRequest(
            f"Invalid 'stop': array too long. Expected an array with maximum length 4, "
            f"but got an array with length {len(stop)} instead.",
            param="stop",
            code="array_above_max_length",
        )


def _check_tools(tools: object) -> list[Mapping[str, object]]:
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise wrong_type("tools", "an array of objects", tools)
    if len(tools) > 128:
        raise InvalidRequest(
            f"Invalid 'tools': array too long. Expected an array with maximum length 128, "
            f"but got an array with length {len(tools)} instead.",
            param="tools",
            code="array_above_max_length",
        )
    for index, tool in enumerate(tools):
        _check_tool(f"tools[{index}]", tool)
    return tools


_FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def _check_old_fields(options: Mapping[str, object]) -> None:
    """What came before tools would have to come back as `function_call`, which is not spoken here."""
    for old, new in (("functions", "tools"), ("function_call", "tool_choice")):
        if old in options:
            raise InvalidRequest(
                f"'{old}' is not supported; use '{new}'.", param=old, code="unsupported_parameter"
            )


def _check_tool(place: str, tool: object) -> None:
    if not isinstance(tool, dict):
        raise wrong_type(place, "an object", tool)
    if not isinstance(tool.get("type"), str):
        raise missing(f"{place}.type")
    if tool["type"] != "function":
        return
    function = tool.get("function")
    if not isinstance(function, dict):
        raise missing(f"{place}.function")
    if not isinstance(function.get("name"), str) or not function["name"]:
        raise missing(f"{place}.function.name")
    if not _FUNCTION_NAME.fullmatch(function["name"]):
        raise InvalidRequest(
            f"Invalid '{place}.function.name': string does not match pattern. "
            "Expected a string that matches the pattern '^[a-zA-Z0-9_-]{1,64}$'.",
            param=f"{place}.function.name",
            code="invalid_value",
        )
    parameters = function.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong_type(f"{place}.function.parameters", "an object", parameters)


def _check_choice(choice: object, tools: Sequence[Mapping[str, object]]) -> None:
    """A choice may force only what the client brings: the gateway's own tools are the model's to choose."""
    match choice:
        case None | "none" | "auto":
            return
        case "required":
            pass
        case str():
            raise InvalidRequest(
                f"Invalid value: {conceal(choice[:60])!r}. "
                "Supported values are: 'none', 'auto', and 'required'.",
                param="tool_choice",
                code="invalid_value",
            )
        case {"type": "function", "function": {"name": str() as name}} if tools:
            if name not in map(function_name, tools):
                raise InvalidRequest(
                    f"Invalid value for 'tool_choice': function {conceal(name[:64])!r} is not in 'tools'.",
                    param="tool_choice",
                    code="invalid_value",
                )
        case dict():
            pass
        case _:
            raise wrong_type("tool_choice", "one of a string or object", choice)
    if not tools:
        raise InvalidRequest(
            "'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"
        )


def translate(error: ValidationError) -> InvalidRequest:
    """The first of pydantic's complaints, as OpenAI would say it."""
    detail = error.errors(include_url=False)[0]
    param = ".".join(str(part) for part in detail["loc"])
    value, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "missing":
            return missing(param)
        case "string_too_short" if param == "model":
            return InvalidRequest("you must provide a model parameter", param="model")
        case kind if kind in _KINDS:
            return wrong_type(param, _KINDS[kind], value)
        case kind if kind in _RANGES:
            said, sign, code = _RANGES[kind]
            bound = context.get("ge", context.get("le"))
            number = "decimal" if isinstance(bound, float) else "integer"
            return InvalidRequest(
                f"Invalid '{param}': {number} {said}. "
                f"Expected a value {sign} {bound:g}, but got {value} instead.",
                param=param,
                code=f"{number}_{code}",
            )
        case _:
            return InvalidRequest(
                f"Invalid '{param}': {detail['msg']}.", param=param, code="invalid_value"
            )
