"""OpenAI's text completions of old, `POST /v1/completions`: a prompt in, its continuation out.

The prompt is what a user says to the model; models that only continue text have gone. Several prompts
are several answers, each a choice (with `n`, as many as that). Tools that the gateway runs for the
model run unseen: the format has no word for them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, assert_never

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.wires.openai_chat.parts import USAGE_SCHEMA, usage_body
from adapters.wires.openai_chat.request import Penalty, StreamOptions, check_stop, translate
from gateway.errors import ERROR_SCHEMA, InvalidRequest, error_body
from gateway.events import (
    Citation,
    Complete,
    Delta,
    Error,
    Event,
    FinishReason,
    Json,
    ReasoningDelta,
    RefusalDelta,
    StepStart,
    ToolCallDelta,
    ToolCallProgress,
    ToolCallReady,
    ToolCallResult,
    ToolCallStart,
)
from gateway.frozen import frozen
from gateway.outcome import Choice, Outcome
from gateway.ports import Batch, Description, Encoder, Wire
from gateway.records import Call
from gateway.request import ChatRequest, Message, missing, wrong_type
from gateway.sse import CLOSE, DONE, OPEN, dump, frame

_MOST_PROMPTS = 20
"""They are answered one after another, while the client waits."""


@frozen(kw_only=True)
class CompletionRequest(ChatRequest):
    """A request of this format, with what only its answer needs."""

    prompts: Sequence[str]
    echo: bool
    """Each choice begins with its prompt."""


class _Fields(BaseModel):
    """Types and ranges as OpenAI documents them."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: Annotated[str, Field(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    best_of: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    seed: int | None = None
    user: str | None = None
    logit_bias: dict[str, float] | None = None


_READ = frozenset(
    {"model", "prompt", "n", "stream", "stream_options", "best_of", "echo", "suffix", "logprobs"}
)


class OpenAICompletionsWire(Wire):
    type: ClassVar[str] = "completion"
    paths: ClassVar[tuple[str, ...]] = ("/v1/completions", "/v1/completions/")

    def parse(self, body: Mapping[str, object], size: int, /) -> ChatRequest:
        try:
            fields = _Fields.model_validate(body)
        except ValidationError as error:
            raise translate(error) from None
        prompts = _prompts(body)
        _refuse(fields)
        options = {
            name: value for name, value in body.items() if value is not None and name not in _READ
        }
        check_stop(options.get("stop"))
        if fields.logprobs is not None:
            options |= {"logprobs": True, "top_logprobs": fields.logprobs}
        first, *further = map(_history, prompts)
        return CompletionRequest(
            model=fields.model,
            messages=first,
            further=further,
            options=options,
            n=fields.n or 1,
            stream=bool(fields.stream),
            include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
            size=size,
            prompts=prompts,
            echo=bool(fields.echo),
        )

    def encoder(self, call: Call, /) -> Encoder:
        return _Encoder(call)

    def render(self, call: Call, outcome: Outcome, /) -> Mapping[str, object]:
        body = _head(call) | {
            "choices": [
                _choice(
                    index,
                    _echo(call, index) + "".join([*choice.text, *choice.refusal]),
                    _reason(choice.finish_reason),
                    _whole_logprobs(choice),
                )
                for index, choice in enumerate(outcome.choices)
            ]
        }
        if isinstance(outcome.end, Complete) and outcome.end.usage is not None:
            body["usage"] = usage_body(outcome.end.usage)
        return body

    def render_error(self, error: Error, /) -> Mapping[str, object]:
        return error_body(error)

    def describe(self) -> Description:
        fields = _Fields.model_json_schema()
        prompt = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
        choice = {
            "type": "object",
            "required": ["text", "index", "logprobs", "finish_reason"],
            "properties": {
                "text": {"type": "string"},
                "index": {"type": "integer"},
                "logprobs": {"type": ["object", "null"]},
                "finish_reason": {"enum": ["stop", "length", "content_filter"]},
            },
        }
        return Description(
            summary="OpenAI’s text completions of old",
            request={
                "type": "object",
                "required": ["model", "prompt"],
                "properties": {**fields["properties"], "prompt": prompt},
                "$defs": fields.get("$defs", {}),
            },
            answer={
                "type": "object",
                "required": ["id", "object", "created", "model", "choices"],
                "properties": {
                    "id": {"type": "string"},
                    "object": {"const": "text_completion"},
                    "created": {"type": "integer"},
                    "model": {"type": "string"},
                    "choices": {"type": "array", "items": choice},
                    "usage": USAGE_SCHEMA,
                },
            },
            error=ERROR_SCHEMA,
            stream="`text_completion` objects, and `[DONE]` at the end.",
        )


class _Encoder(Encoder):
    """The chunks of one response."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._head = dump(_head(call))[:-1]
        self._scored: dict[int, int] = {}
        """For each choice that has begun: the length of its text so far."""

    def encode(self, batch: Batch, /) -> bytes:
        return b"".join([self._encode(event) for event in batch])

    def _encode(self, event: Event) -> bytes:
        match event:
            case Delta() | RefusalDelta():
                return self._begin(event.choice) + self._text(event)
            case Complete():
                return self._end(event)
            case Error():
                return frame(dump(error_body(event)), "error")
            case (
                ReasoningDelta()
                | Citation()
                | StepStart()
                | ToolCallStart()
                | ToolCallDelta()
                | ToolCallReady()
                | ToolCallProgress()
                | ToolCallResult()
            ):
                return b""
            case _:
                assert_never(event)

    def _begin(self, choice: int) -> bytes:
        if choice in self._scored:
            return b""
        prompt = _echo(self._call, choice)
        self._scored[choice] = len(prompt)
        return self._chunk(_choice(choice, prompt, None, None)) if prompt else b""

    def _text(self, event: Delta | RefusalDelta) -> bytes:
        offset = self._scored[event.choice]
        self._scored[event.choice] += len(event.text)
        scores = None if event.logprobs is None else _logprobs(event.logprobs, offset)
        return self._chunk(_choice(event.choice, event.text, None, scores))

    def _end(self, event: Complete) -> bytes:
        parts = []
        for choice, reason in enumerate((event.finish_reason, *event.further)):
            parts += [
                self._begin(choice),
                self._chunk(_choice(choice, "", _reason(reason), None)),
            ]
        if self._call.request.include_usage and event.usage is not None:
            rest = b',"choices":[],"usage":' + dump(usage_body(event.usage))
            parts.append(OPEN + self._head + rest + b"}" + CLOSE)
        return b"".join([*parts, DONE])

    def _chunk(self, choice: Json) -> bytes:
        return OPEN + self._head + b',"choices":[' + dump(choice) + b"]}" + CLOSE


def _prompts(body: Mapping[str, object]) -> Sequence[str]:
    match body.get("prompt"):
        case None:
            raise missing("prompt")
        case str() as prompt:
            return [prompt]
        case [str(), *_] as prompts if all(isinstance(prompt, str) for prompt in prompts):
            if len(prompts) > _MOST_PROMPTS:
                raise InvalidRequest(
                    f"Invalid 'prompt': array too long. Expected an array with maximum length "
                    f"{_MOST_PROMPTS}, but got an array with length {len(prompts)} instead.",
                    param="prompt",
                    code="array_above_max_length",
                )
            return [prompt for prompt in prompts if isinstance(prompt, str)]
        case [int() | list(), *_]:
            raise InvalidRequest(
                "A prompt of token ids is not taken: models of several makers are served here, and "
                "each has tokens of its own. Send the text.",
                param="prompt",
                code="unsupported_value",
            )
        case []:
            raise InvalidRequest(
                "Invalid 'prompt': empty array. Expected an array with minimum length 1, "
                "but got an empty array instead.",
                param="prompt",
                code="empty_array",
            )
        case other:
            raise wrong_type("prompt", "one of a string or array of strings", other)


def _refuse(fields: _Fields) -> None:
    """What a model that is talked to cannot do."""
    if fields.suffix:
        raise _unsupported("suffix", "the models here continue a text; they do not fill one in")
    if fields.best_of is not None and fields.best_of not in (0, fields.n or 1):
        raise _unsupported("best_of", "ask for 'n' choices and choose yourself")
    if fields.echo and fields.logprobs is not None:
        raise _unsupported("echo", "with 'logprobs', which nobody tells of a prompt")


def _unsupported(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{param}' is not supported: {why}.", param=param, code="unsupported_parameter"
    )


def _history(prompt: str) -> list[Message]:
    return [{"role": "user", "content": prompt}]


def _head(call: Call) -> dict[str, object]:
    return {
        "id": "cmpl-" + call.id.replace("-", ""),
        "object": "text_completion",
        "created": call.created,
        "model": call.request.model,
    }


def _choice(
    index: int, text: str, reason: FinishReason | None, logprobs: Json | None
) -> dict[str, object]:
    return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": reason}


def _echo(call: Call, choice: int) -> str:
    request = call.request
    if isinstance(request, CompletionRequest) and request.echo:
        return request.prompts[choice // request.n]
    return ""


def _reason(reason: FinishReason) -> FinishReason:
    """There are no calls here that a client could run."""
    return "stop" if reason == "tool_calls" else reason


def _whole_logprobs(choice: Choice) -> Json | None:
    """Without an offset: what is scored is never echoed."""
    scores = [*choice.logprobs, *choice.refusal_logprobs]
    return _logprobs(scores, 0) if scores else None


def _logprobs(scores: Sequence[Json], offset: int) -> Json:
    """In the format of old: columns instead of rows."""
    tokens = [str(score.get("token", "")) for score in scores]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [score.get("logprob") for score in scores],
        "top_logprobs": [_alternatives(score.get("top_logprobs")) for score in scores],
        "text_offset": offsets,
    }


def _alternatives(rows: object) -> Json:
    if not isinstance(rows, list):
        return {}
    return {
        str(row.get("token", "")): row.get("logprob") for row in rows if isinstance(row, Mapping)
    }
