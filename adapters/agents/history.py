"""A request's messages as agents take them, and what of a request they cannot do."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from gateway.errors import InvalidRequest
from gateway.request import ChatRequest, Message, function_name

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+=-]+)*?);base64,", re.IGNORECASE)
_ROLES: Mapping[object, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: its bytes, or where it is."""

    url: str
    """Empty where the request holds the picture itself."""
    data: bytes
    media_type: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call of an earlier turn."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. Only those of users have images, only those of assistants have calls."""

    role: Role
    parts: tuple[str | Image, ...] = ()
    calls: tuple[Called, ...] = ()
    answers: Called | None = None
    """The call whose result it is."""

    @property
    def text(self) -> str:
        return "\n".join(part for part in self.parts if isinstance(part, str))


def read(request: ChatRequest, *, tools: bool = False) -> list[Turn]:
    """All messages, the last of which is a user's or a tool's. Raises `InvalidRequest`.

    `tools`: whether the framework takes tools that the client runs.
    """
    _refuse(request, tools)
    turns: list[Turn] = []
    waiting: dict[str, Called] = {}
    """Calls without a result so far. A model's server would refuse them, and less clearly."""
    for index, message in enumerate(request.messages):
        turn = _turn(f"messages[{index}]", message, waiting)
        if turn.answers is not None:
            del waiting[turn.answers.call_id]
        elif waiting:
            raise _unanswered(index, waiting)
        waiting |= {call.call_id: call for call in turn.calls}
        if turn.parts or turn.calls or turn.role in ("user", "tool"):
            turns.append(turn)
    if waiting:
        raise _unanswered(len(turns), waiting)
    if request.messages[-1].get("role") not in ("user", "tool"):
        raise InvalidRequest(
            "An agent answers a message of the user: the last one must be theirs, or a tool's result.",
            param="messages",
        )
    return turns


def _refuse(request: ChatRequest, tools: bool) -> None:
    if request.tools and not tools:
        names = ", ".join(repr(function_name(tool)) for tool in request.tools[:3])
        raise InvalidRequest(
            f"The model {request.model!r} is an agent with tools of its own, and takes none from its "
            f"caller ({names}).",
            param="tools",
            code="unsupported_parameter",
        )
    if request.n > 1:
        raise InvalidRequest(
            f"The model {request.model!r} is an agent, and gives one answer at a time.",
            param="n",
            code="unsupported_parameter",
        )
    match request.options.get("response_format"):
        case None | {"type": "text"}:
            pass
        case _:
            raise InvalidRequest(
                f"The model {request.model!r} is an agent: the form of its answers is its own.",
                param="response_format",
                code="unsupported_parameter",
            )


def _turn(place: str, message: Message, calls: Mapping[str, Called]) -> Turn:
    role = _ROLES.get(message.get("role"))
    if role is None:
        raise InvalidRequest(
            f"An agent does not take messages of the role {message.get('role')!r}.",
            param=f"{place}.role",
            code="invalid_value",
        )
    parts = _parts(f"{place}.content", role, message.get("content"))
    if role == "assistant":
        return Turn(role, parts, _calls(message.get("tool_calls")))
    if role == "tool":
        call = calls.get(str(message.get("tool_call_id")))
        if call is None:
            raise InvalidRequest(
                "A message of the role 'tool' must follow the 'tool_calls' that it answers.",
                param=f"{place}.tool_call_id",
                code="invalid_value",
            )
        return Turn(role, parts, answers=call)
    return Turn(role, parts)


def _parts(place: str, role: Role, content: object) -> tuple[str | Image, ...]:
    match content:
        case str():
            return (content,) if content else ()
        case list():
            return tuple(
                _part(f"{place}[{number}]", role, part) for number, part in enumerate(content)
            )
        case _:
            return ()


def _part(place: str, role: Role, part: object) -> str | Image:
    match part:
        case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url), **further}} if role == "user":
            detail = further.get("detail")
            return _image(place, url, detail if isinstance(detail, str) else None)
        case {"type": kind}:
            raise InvalidRequest(
                f"An agent does not take parts of the type {str(kind)[:40]!r} in messages of the role "
                f"{role!r}.",
                param=f"{place}.type",
                code="invalid_value",
            )
        case _:
            raise InvalidRequest("A part of a message has a type.", param=place)


def _image(place: str, url: str, detail: str | None) -> Image:
    if url.startswith(("http://", "https://")):
        return Image(url, b"", "", detail)
    try:
        start = _DATA_URL.match(url)
        if start is None:
            raise ValueError("no data")
        data = base64.b64decode(url[start.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(
            "An image is an http:// or https:// address, or data:image/…;base64,…",
            param=f"{place}.image_url.url",
            code="invalid_value",
        ) from error
    return Image("", data, start[1] or "image/png", detail)


def _calls(calls: object) -> tuple[Called, ...]:
    found: list[Called] = []
    for call in calls if isinstance(calls, Sequence) else ():
        match call:
            case {"id": str(call_id), "function": {"name": str(name), **further}}:
                found.append(Called(call_id, name, str(further.get("arguments") or "{}")))
            case _:
                raise InvalidRequest(
                    "An agent takes tool calls of functions only.", param="messages"
                )
    return tuple(found)


def _unanswered(index: int, waiting: Mapping[str, Called]) -> InvalidRequest:
    return InvalidRequest(
        "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        f"'tool_call_id'. These have no response: {', '.join(waiting)}.",
        param=f"messages[{index}]",
    )
