"""A tool that is a Python function of the operator's: its signature and docstring say what it takes."""

import asyncio
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_json

from gateway.engine.tools import fields
from gateway.engine.tools.tool import ToolContext, ToolFailed
from gateway.events import Json

_THREADS = 16
"""Calls of one blocking function that run at once."""
_SHOWN_MISFITS = 8


class PythonTool:
    """Calls a function with the arguments that a model wrote, as the types that it asks for.

    An async function runs as it is, any other in a thread. A parameter that is annotated
    `ToolContext` gets the context and is not shown to models.
    """

    def __init__(
        self, name: str, function: Callable[..., object], config: Mapping[str, object]
    ) -> None:
        """Raises `ValueError` in one line for a signature that cannot be told to a model."""
        fields.check(config, ("description", "timeout"))
        summary, told = _read(inspect.getdoc(function) or "")
        self.name = name
        self.description = fields.text(config, "description") or summary
        if not self.description:
            raise ValueError(
                "description: expected a docstring of the function, or words here: models choose by them"
            )
        self.timeout = fields.seconds(config, default=30.0)
        self._function = function
        self._context, self._names, self._arguments = _model(function, told)
        schema = self._arguments.model_json_schema(schema_generator=_Schema)
        schema.pop("title", None)
        self.parameters: Json = schema
        blocking = not (
            inspect.iscoroutinefunction(function)
            or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 # an object's
        )
        self._threads = ThreadPoolExecutor(_THREADS, f"tool {name}") if blocking else None

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        try:
            taken = self._arguments.model_validate(arguments)
        except ValidationError as error:
            raise ToolFailed(_misfits(error)) from error
        given: dict[str, object] = {
            self._names[field]: getattr(taken, field) for field in taken.model_fields_set
        }
        if self._threads is None:
            if self._context is not None:
                given[self._context] = context
            result = self._function(**given)
        else:
            loop = asyncio.get_running_loop()
            if self._context is not None:
                given[self._context] = _from_thread(context, loop)
            work = copy_context()
            result = await loop.run_in_executor(
                self._threads, lambda: work.run(self._function, **given)
            )
        if inspect.isawaitable(result):
            result = await result
        return _write(result)

    async def aclose(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)


def _model(
    function: Callable[..., object], told: Mapping[str, str]
) -> tuple[str | None, dict[str, str], type[BaseModel]]:
    """The parameter for the context, those for the model by their field, and what checks these."""
    try:
        signature = inspect.signature(function)
        called = function if inspect.isroutine(function) else type(function).__call__
        hints = typing.get_type_hints(called, include_extras=True)
    except (TypeError, ValueError, NameError, AttributeError) as error:
        raise ValueError(f"its signature cannot be read: {error}") from error
    context: str | None = None
    names: dict[str, str] = {}
    # Fields have names of their own, since a parameter may be called like an attribute of a model.
    made: dict[str, typing.Any] = {}  # what `create_model` asks for
    for name, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise ValueError(f"its parameter *{name} cannot be told to a model; name each one")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise ValueError(f"its parameter {name!r} is positional only; remove the / behind it")
        if name not in hints:
            raise ValueError(f"its parameter {name!r} has no type; write {name}: str, for example")
        if _is_context(hints[name]):
            context = name
            continue
        field = f"parameter_{len(names)}"
        names[field] = name
        default = ... if parameter.default is parameter.empty else parameter.default
        made[field] = (
            hints[name],
            Field(default, alias=name, description=told[name])
            if name in told
            else Field(default, alias=name),
        )
    try:
        model = create_model(
            getattr(function, "__name__", "Arguments"),
            __config__=ConfigDict(extra="forbid", protected_namespaces=(), serialize_by_alias=True),
            **made,
        )
        model.model_json_schema()  # some types can be checked, but not told
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"its parameters cannot be told to a model: {reason}") from error
    return context, names, model


def _is_context(hint: object) -> bool:
    """`ToolContext`, or a choice of it and None."""
    return hint is ToolContext or ToolContext in typing.get_args(hint)


class _Schema(GenerateJsonSchema):
    """Without the titles that only repeat names, and cost tokens."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def _misfits(error: ValidationError) -> str:
    """What the model should change, without a stack of classes that it does not know."""
    lines = ["The arguments do not fit."]
    found = error.errors(include_url=False, include_context=False)
    for misfit in found[:_SHOWN_MISFITS]:
        place = ".".join(map(str, misfit["loc"])) or "arguments"
        match misfit["type"]:
            case "missing":
                lines.append(f"{place}: missing.")
            case "extra_forbidden":
                lines.append(f"{place}: there is no such argument.")
            case _:
                lines.append(f"{place}: {misfit['msg']}, not {misfit['input']!r:.100}.")
    if len(found) > _SHOWN_MISFITS:
        lines.append(f"And {len(found) - _SHOWN_MISFITS} more.")
    return "\n".join(lines)


def _from_thread(context: ToolContext, loop: asyncio.AbstractEventLoop) -> ToolContext:
    def report(message: str, progress: float | None = None, total: float | None = None) -> None:
        loop.call_soon_threadsafe(context.report, message, progress, total)

    return replace(context, report=report)


def _write(result: object) -> str:
    """Text as it is, anything else as JSON. Raises `ValueError` for what has none."""
    if isinstance(result, str):
        return result
    if result is None:
        return "Done."
    return to_json(result).decode()


_SECTION = re.compile(r"^(?:Args|Arguments|Parameters):\s*$", re.MULTILINE)
_NEXT_SECTION = re.compile(r"^\S", re.MULTILINE)
_ENTRY = re.compile(r"^(?P<name>\*{0,2}\w+)\s*(?:\([^)]*\))?\s*:\s*(?P<words>.*)$")
_SPHINX = re.compile(
    r"^:param\s+(?:[^:]*\s)?(?P<name>\w+):\s*(?P<words>(?:.*(?:\n[ \t]+.*)*))", re.M
)
_SPHINX_REST = re.compile(r"^:(?:returns?|rtype|raises?|type|yields?)\b.*(?:\n[ \t]+.*)*", re.M)
_FURTHER = re.compile(r"^(?:Returns|Yields|Raises|Examples?|Notes?):\s*$", re.MULTILINE)


def _read(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter: in a section `Args:`, or as
    `:param name:`. What it says of results and errors is for programmers."""
    told = {
        match["name"]: " ".join(match["words"].split()) for match in _SPHINX.finditer(docstring)
    }
    text = _SPHINX_REST.sub("", _SPHINX.sub("", docstring))
    section = _SECTION.search(text)
    if section is not None:
        rest = text[section.end() :]
        end = _NEXT_SECTION.search(rest)
        told |= _entries(rest[: end.start()] if end else rest)
        text = text[: section.start()] + (rest[end.start() :] if end else "")
    further = _FURTHER.search(text)
    if further is not None:
        text = text[: further.start()]
    return text.strip(), told


def _entries(section: str) -> dict[str, str]:
    """`name: words` or `name (type): words`, with further lines indented deeper."""
    told: dict[str, str] = {}
    lines = inspect.cleandoc(section).splitlines()
    name = None
    for line in lines:
        entry = None if line[:1].isspace() else _ENTRY.match(line)
        if entry is not None:
            name = entry["name"].lstrip("*")
            told[name] = entry["words"].strip()
        elif name is not None and line.strip():
            told[name] = f"{told[name]} {line.strip()}".strip()
    return told
