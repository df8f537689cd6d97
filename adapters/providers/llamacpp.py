"""Models in GGUF files, run by llama.cpp on this machine: no server, no account. See docs/llamacpp.md."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.providers import llamacpp_process
from adapters.providers.failures import scrub
from adapters.providers.llamacpp_process import Busy, Crashed, Worker
from adapters.providers.rows import complain
from gateway.errors import GatewayError, InvalidRequest, ProviderFailed, UnknownModel
from gateway.events import Complete, Delta, Event, FinishReason, Json, Usage
from gateway.ports import Events
from gateway.request import ChatRequest, Message, plain, wrong_type

_BUSY_FOR = 5.0
"""Seconds after which a client that found no place may try again."""
_DEFAULTS: Json = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05}
"""llama.cpp's own; its Python binding has others."""
_NUMBERS: Mapping[str, tuple[str, float, float]] = {
    # a request's word for it: the binding's, the least and the most
    "temperature": ("temp", 0, 100),
    "top_p": ("top_p", 0, 1),
    "min_p": ("min_p", 0, 1),
    "typical_p": ("typical_p", 0, 1),
    "presence_penalty": ("presence_penalty", -2, 2),
    "frequency_penalty": ("frequency_penalty", -2, 2),
    "repeat_penalty": ("repeat_penalty", 0.01, 10),
}
_INTEGERS: Mapping[str, tuple[str, int, int]] = {
    "top_k": ("top_k", 0, 1 << 20),
    "seed": ("seed", -(1 << 63), 1 << 63),
    "max_tokens": ("max_tokens", 1, 1 << 31),
    "max_completion_tokens": ("max_tokens", 1, 1 << 31),
}
_REFUSED = ("logprobs", "top_logprobs", "logit_bias", "audio", "functions", "function_call")
"""Options that would change what the answer is or has. Others that are not known are left out."""
_MOST_STOPS = 16


class _Config(BaseModel):
    """A row of `providers` in `sluice.yaml` whose type is `llamacpp`."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    files: Annotated[dict[str, Path], Field(min_length=1)]
    """Models by the names that clients use."""
    n_ctx: int = Field(default=4096, ge=256, multiple_of=256)
    """Tokens of a prompt and its answer."""
    n_batch: int = Field(default=512, ge=32)
    """Tokens of a prompt that are read at once; a cancelled request ends between two such parts."""
    threads: int | None = Field(default=None, ge=1)
    gpu_layers: int = Field(default=0, ge=-1)
    """-1 for all. Needs a llama.cpp that was built for the GPU."""
    queue: int = Field(default=8, ge=0)
    """Requests that may wait for each model while it answers another one."""
    connect_timeout: float = 0.0
    """Every provider is told; nothing connects here."""


class LlamaCppProvider:
    """Runs each model in a process of its own, from its first request on.

    Made only if all files can be loaded. To find out, its construction reads what they say of
    themselves, in processes that end again.
    """

    retries = 0
    """A request that made a process crash would do so again."""

    def __init__(self, name: str, config: Mapping[str, object]) -> None:
        self.name = name
        try:
            row = _Config.model_validate(dict(config))
        except ValidationError as error:
            raise ValueError(complain(error, _Config)) from None
        if find_spec("llama_cpp") is None:
            raise ValueError("type: llamacpp needs pip install 'sluice-gateway[llamacpp]'")
        paths = {model: path.expanduser() for model, path in row.files.items()}
        llamacpp_process.check(paths)
        settings: dict[str, object] = {
            "n_ctx": row.n_ctx,
            "n_batch": min(row.n_batch, row.n_ctx),
            "n_threads": row.threads,
            "n_threads_batch": row.threads,
            "n_gpu_layers": row.gpu_layers,
        }
        self._workers = {
            model: Worker(model, path, settings, row.queue) for model, path in paths.items()
        }

    async def stream(self, request: ChatRequest, /) -> Events:
        worker = self._workers.get(request.model)
        if worker is None:
            known = ", ".join(self._workers)
            raise UnknownModel(
                f"{self.name} has no model {request.model!r}; it has {known}.", param="model"
            )
        try:
            async with aclosing(worker.ask(_question(plain(request)))) as answer:
                async for lines in answer:
                    yield [self._event(line) for line in lines]
        except Busy:
            raise ProviderFailed(
                f"The model {request.model!r} is busy, and so many requests wait for it as may.",
                status=429,
                code="rate_limit_exceeded",
                retry_after=_BUSY_FOR,
            ) from None
        except Crashed as error:
            raise ProviderFailed(
                f"The process of the model {request.model!r} ended before its answer did.",
                code="upstream_crashed",
            ) from error

    async def models(self) -> Sequence[str]:
        return tuple(self._workers)

    async def aclose(self) -> None:
        await asyncio.gather(*(worker.aclose() for worker in self._workers.values()))

    def _event(self, line: Json) -> Event:
        match line:
            case {"text": str(text)}:
                return Delta(text)
            case {"end": str(end), "usage": [int(read), int(written), int(cached)], **further}:
                reason: FinishReason = "length" if end == "length" else "stop"
                stopped_by = further.get("stopped_by")
                return Complete(
                    reason,
                    end,
                    Usage(read, written, cached_tokens=cached),
                    stop_sequence=stopped_by if isinstance(stopped_by, str) else None,
                )
            case {"error": str(code), "message": str(message)}:
                raise _refusal(code, scrub(message))
        raise ProviderFailed(
            f"The provider {self.name!r} sent a line that says nothing.", code="upstream_malformed"
        )


def _refusal(code: str, message: str) -> GatewayError:
    if code == "invalid_schema":
        return InvalidRequest(message, param="response_format", code=code)
    return InvalidRequest(message, param="messages", code=code)


def _question(request: ChatRequest) -> Json:
    """What the process is asked. Raises `InvalidRequest` for what it cannot do."""
    if request.n > 1:
        raise _unsupported("n", "This model gives one answer at a time.")
    for name in _REFUSED:
        if request.options.get(name):
            raise _unsupported(name, f"This model does not support {name!r}.")
    tools = request.tools
    match request.options.get("tool_choice"):
        case None | "auto":
            pass
        case "none":
            tools = ()
        case _:
            raise _unsupported(
                "tool_choice", "This model cannot be made to call a tool: 'auto' or 'none' only."
            )
    messages = [_message(f"messages[{i}]", m) for i, m in enumerate(request.messages)]
    return {"messages": messages, "tools": tools, "options": _options(request.options)}


def _options(options: Mapping[str, object]) -> Json:
    """In the binding's words."""
    taken: dict[str, object] = {"stop": _stops(options.get("stop"))}
    for name, (word, least, most) in {**_NUMBERS, **_INTEGERS}.items():
        value = options.get(name)
        if value is None:
            value = _DEFAULTS.get(name)
        if value is None:
            continue
        whole = name in _INTEGERS
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise wrong_type(name, "an integer" if whole else "a decimal", value)
        if not least <= value <= most:
            raise InvalidRequest(
                f"Invalid '{name}': expected a value from {least} to {most}.",
                param=name,
                code="invalid_value",
            )
        taken[word] = value
    wanted = options.get("response_format")
    if wanted is not None:
        if not isinstance(wanted, dict):
            raise wrong_type("response_format", "an object", wanted)
        taken["response_format"] = wanted
    return taken


def _stops(value: object) -> Sequence[str]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) for stop in stops):
        raise wrong_type("stop", "a string or an array of strings", value)
    if len(stops) > _MOST_STOPS:
        raise InvalidRequest(
            f"Invalid 'stop': expected {_MOST_STOPS} strings at most.",
            param="stop",
            code="array_above_max_length",
        )
    return [stop for stop in stops if stop]


def _message(place: str, message: Message) -> Message:
    """As templates of chats expect it: text for content, and no role that came after them."""
    role = "system" if message["role"] == "developer" else message["role"]
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_text(f"{place}.content", part) for part in content)
    return {**message, "role": role, "content": content or ""}


def _text(place: str, part: Mapping[str, object]) -> str:
    match part:
        case {"type": "text" | "input_text", "text": str(text)}:
            return text
        case {"type": "refusal", "refusal": str(text)}:
            return text
    raise _unsupported(place, "This model reads text only.")


def _unsupported(param: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, param=param, code="unsupported_parameter")
