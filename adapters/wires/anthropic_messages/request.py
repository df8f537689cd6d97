"""What a client may send: checked where a mistake would surface late or unclear, else passed on.

Options that every provider may understand become OpenAI's; the request's own fields go along for
providers of the same API (`gateway.request.NATIVE`), which send them as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.wires.anthropic_messages.conversation import read
from adapters.wires.anthropic_messages.faults import missing, string, unsupported, wrong
from gateway.errors import InvalidRequest
from gateway.events import Json
from gateway.request import NATIVE, ChatRequest
from gateway.secrets import conceal

_OWN = (
    "cache_control",
    "container",
    "diagnostics",
    "inference_geo",
    "metadata",
    "output_config",
    "service_tier",
    "speed",
    "thinking",
    "top_k",
)
"""Fields that go to providers of this API as they are. Others are still tried out there, and need a
header that is not handed on: they are left out."""

_LONGEST_USER = 64
"""Characters that OpenAI takes for the name of a user."""

_BUDGETS = ((4096, "low"), (16384, "medium"))
"""Tokens of thinking below which an effort is called so."""


class Fields(BaseModel):
    """Types and ranges as Anthropic documents them. Strict: `"yes"` is no boolean."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    max_tokens: Annotated[int, Field(ge=1)]
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=1)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    stop_sequences: list[str] | None = None
    metadata: dict[str, object] | None = None
    thinking: dict[str, object] | None = None
    output_config: dict[str, object] | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: dict[str, object] | None = None


def parse(body: Mapping[str, object], size: int) -> ChatRequest:
    try:
        fields = Fields.model_validate(body)
    except ValidationError as error:
        raise _translate(error) from None
    if "messages" not in body:
        raise missing("messages")
    if body.get("thread") is not None:
        # In so many words that the SDK goes on without: its tool runner tries whether there are any.
        raise InvalidRequest(
            "thread: not supported; send the whole conversation",
            param="thread",
            code="thread_unsupported_request",
        )
    if body.get("mcp_servers"):
        raise unsupported("mcp_servers", "not supported; the operator connects MCP servers")
    tools = [_tool(tool, f"tools.{index}") for index, tool in enumerate(fields.tools or ())]
    return ChatRequest(
        model=fields.model,
        messages=read(body["messages"], body.get("system")),
        tools=tools,
        options={
            **_options(fields),
            **_choice(fields.tool_choice, tools),
            NATIVE: {name: body[name] for name in _OWN if body.get(name) is not None},
        },
        stream=bool(fields.stream),
        include_usage=True,
        size=size,
    )


def _options(fields: Fields) -> dict[str, object]:
    options: dict[str, object] = {"max_tokens": fields.max_tokens}
    if fields.temperature is not None:
        options["temperature"] = fields.temperature
    if fields.top_p is not None:
        options["top_p"] = fields.top_p
    if fields.stop_sequences:
        options["stop"] = fields.stop_sequences
    user = (fields.metadata or {}).get("user_id")
    if isinstance(user, str) and 0 < len(user) <= _LONGEST_USER:
        options["user"] = user
    if effort := _effort(fields):
        options["reasoning_effort"] = effort
    match (fields.output_config or {}).get("format"):
        case None:
            pass
        case {"type": "json_schema", "schema": dict() as schema}:
            answer = {"name": "answer", "schema": schema, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": answer}
        case _:
            raise wrong("output_config.format", "an object of type 'json_schema' with a schema")
    return options


def _effort(fields: Fields) -> str | None:
    """How much is thought, in OpenAI's one word for it. A model that decides by itself is told nothing."""
    match (fields.output_config or {}).get("effort"):
        case None:
            pass
        case "low" | "medium" | "high" | "xhigh" as effort:
            return effort
        case "max":
            return "xhigh"
        case _:
            raise wrong("output_config.effort", "'low', 'medium', 'high', 'xhigh' or 'max'")
    match fields.thinking:
        case None:
            return None
        case {"type": "enabled", "budget_tokens": int(budget)} if not isinstance(budget, bool):
            return next((effort for least, effort in _BUDGETS if budget < least), "high")
        case {"type": "enabled"}:
            raise wrong("thinking.enabled.budget_tokens", "a valid integer")
        case {"type": str()}:
            return None
        case _:
            raise missing("thinking.type")


# Tools


def _tool(tool: dict[str, object], place: str) -> Json:
    kind = tool.get("type")
    name = string(tool, "name", place)
    if not name:
        raise wrong(f"{place}.name", "a string with at least 1 character")
    if kind not in (None, "custom"):
        string(tool, "type", place)
        return tool
    schema = tool.get("input_schema")
    if schema is None:
        raise missing(f"{place}.input_schema")
    if not isinstance(schema, dict):
        raise wrong(f"{place}.input_schema", "an object")
    function: dict[str, object] = {"name": name, "parameters": schema}
    if "description" in tool:
        function["description"] = string(tool, "description", place)
    declared: dict[str, object] = {"type": "function", "function": function}
    further = {
        field: value
        for field, value in tool.items()
        if field not in ("type", "name", "description", "input_schema")
    }
    if further:
        declared[NATIVE] = further
    return declared


def _choice(choice: dict[str, object] | None, tools: Sequence[Json]) -> dict[str, object]:
    if choice is None:
        return {}
    if not tools:
        raise unsupported("tool_choice", "may only be specified while providing tools")
    options: dict[str, object] = {}
    if choice.get("disable_parallel_tool_use") is True:
        options["parallel_tool_calls"] = False
    match choice:
        case {"type": "auto" | "none" as kind}:
            options["tool_choice"] = kind
        case {"type": "any"}:
            options["tool_choice"] = "required"
        case {"type": "tool", "name": str(name)}:
            if name not in map(_name, tools):
                shown = conceal(name[:64])
                raise unsupported(
                    "tool_choice.tool.name", f"Tool '{shown}' not found in provided tools"
                )
            options["tool_choice"] = {"type": "function", "function": {"name": name}}
        case {"type": "tool"}:
            raise missing("tool_choice.tool.name")
        case _:
            raise wrong("tool_choice.type", "'auto', 'any', 'tool' or 'none'")
    return options


def _name(tool: Json) -> object:
    match tool:
        case {"function": {"name": name}} | {"name": name}:
            return name
        case _:
            return None


def _translate(error: ValidationError) -> InvalidRequest:
    detail = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "missing":
        return missing(place)
    return InvalidRequest(f"{place}: {detail['msg']}", param=place, code="invalid_value")
