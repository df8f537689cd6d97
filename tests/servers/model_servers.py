"""Servers that speak OpenAI's API each in a way of its own, as scripts for `scripted`.

The name of the model says what is played: `text`, `thinking`, `tool`, `tools`, `talk` (which thinks and calls
a tool, and answers once it has the result), `breaking`, or one of the server's refusals. What is said is the
same on all of them; what is refused is what the real one refuses.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import orjson

from tests.servers.scripted import CHUNKED, LAST_CHUNK, Exchange, answer, chunk, frames

WORDS = ("Hel", "lo, ", "Ørsta.")
THOUGHTS = ("Let me ", "see.")
CALLS = (("weather", '{"city": "Ørsta"}'), ("clock", "{}"))
COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}

Fields = Mapping[str, object]


def wrong(status: int, message: str, headers: Fields | None = None, **fields: object) -> bytes:
    body = {"error": {"message": message, **fields}}
    given = [(name, str(value)) for name, value in (headers or {}).items()]
    return answer(status, orjson.dumps(body), given)


class ModelServer:
    """What most of them have in common. `bodies` are the requests that were answered."""

    thinks_as: ClassVar[str] = "reasoning_content"
    comment: ClassVar[bytes] = b""
    refusals: ClassVar[Mapping[str, bytes]] = {}
    more: ClassVar[Fields] = {}
    """Further fields of each chunk."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, object]] = []

    async def __call__(self, exchange: Exchange) -> None:
        body = exchange.json
        assert isinstance(body, dict)
        model = str(body["model"])
        refusal = self.refusals.get(model) or self.refuse(body)
        if refusal is not None:
            await exchange.send(refusal)
            return
        self.bodies.append(body)
        options = body.get("stream_options") or {}
        pieces = self.play(model, usage=options.get("include_usage", False))
        await exchange.send(CHUNKED)
        for piece in pieces:
            await exchange.send(chunk(self.comment + frames(piece)))
        await exchange.send(LAST_CHUNK)

    def refuse(self, body: Fields) -> bytes | None:
        """As the server refuses a request, if it does."""
        return None

    def play(self, scene: str, *, usage: bool) -> Sequence[object]:
        said = [self.delta(**self.word(word)) for word in WORDS]
        match scene:
            case "thinking":
                thought = [self.delta(**self.thought(text)) for text in THOUGHTS]
                return [*self.opening(), *thought, *said, *self.ending("stop", usage)]
            case "tool":
                calls = [self.delta(**each) for each in self.calls(CALLS[:1])]
                return [*self.opening(), *calls, *self.ending("tool_calls", usage)]
            case "tools":
                calls = [self.delta(**each) for each in self.calls(CALLS)]
                return [*self.opening(), *calls, *self.ending("tool_calls", usage)]
            case "talk" if not self._has_result():
                thought = [self.delta(**self.thought(text)) for text in THOUGHTS]
                calls = [self.delta(**each) for each in self.calls(CALLS[:1])]
                return [*self.opening(), *thought, *calls, *self.ending("tool_calls", usage)]
            case "breaking":
                return [*self.opening(), said[0], *self.breaking()]
            case _:
                return [*self.opening(), *said, *self.ending("stop", usage)]

    def _has_result(self) -> bool:
        messages = self.bodies[-1]["messages"]
        assert isinstance(messages, list)
        return messages[-1]["role"] == "tool"

    def chunk(self, choices: Sequence[object], **more: object) -> Fields:
        common = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return {**common, **self.more, "choices": choices, **more}

    def delta(self, finish: str | None = None, **fields: object) -> Fields:
        return self.chunk([{"index": 0, "delta": fields, "finish_reason": finish}])

    def opening(self) -> Sequence[object]:
        return [self.delta(role="assistant", content="")]

    def word(self, text: str) -> Fields:
        return {"content": text}

    def thought(self, text: str) -> Fields:
        return {self.thinks_as: text}

    def calls(self, calls: Sequence[tuple[str, str]]) -> Sequence[Fields]:
        """In pieces, one call after the other."""
        deltas: list[Fields] = []
        for index, (name, arguments) in enumerate(calls):
            head = {"id": f"call_{name}_{index}", "type": "function"}
            half = len(arguments) // 2
            for more, function in (
                (head, {"name": name, "arguments": ""}),
                ({}, {"arguments": arguments[:half]}),
                ({}, {"arguments": arguments[half:]}),
            ):
                deltas.append({"tool_calls": [{"index": index, **more, "function": function}]})
        return deltas

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        told = [self.chunk([], usage=COUNTS)] if usage else []
        return [self.delta(finish), *told, b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        return [{"error": {"message": "Broken.", "type": "server_error", "param": None}}]


class OpenAI(ModelServer):
    more: ClassVar = {"service_tier": "default", "system_fingerprint": "fp_1", "obfuscation": "aB3"}
    refusals: ClassVar = {
        "unpaid": wrong(
            429,
            "You exceeded your current quota.",
            type="insufficient_quota",
            param=None,
            code="insufficient_quota",
        ),
    }

    def refuse(self, body: Fields) -> bytes | None:
        if "max_tokens" in body:
            text = "Unsupported parameter: 'max_tokens' is not supported with this model."
            return wrong(
                400,
                text,
                type="invalid_request_error",
                param="max_tokens",
                code="unsupported_parameter",
            )
        return _refuse_fields(body, "reasoning_content", "reasoning")

    def word(self, text: str) -> Fields:
        return {"content": text, "refusal": None}

    def thought(self, text: str) -> Fields:
        return {}  # is never shown


class Ollama(ModelServer):
    """Calls come whole and several at once; what it does not know it ignores, and errors it swallows."""

    thinks_as = "reasoning"
    more: ClassVar = {"system_fingerprint": "fp_ollama"}
    refusals: ClassVar = {
        "absent": wrong(404, 'model "m" not found', type="not_found_error", param=None, code=None)
    }

    def refuse(self, body: Fields) -> bytes | None:
        return _refuse_effort(body)

    def play(self, scene: str, *, usage: bool) -> Sequence[object]:
        # Whatever `tool_choice` says: a model that knows of tools calls them.
        forced = scene == "text" and self.bodies[-1].get("tools")
        return super().play("tool" if forced else scene, usage=usage)

    def opening(self) -> Sequence[object]:
        return []

    def word(self, text: str) -> Fields:
        return {"role": "assistant", "content": text}

    def thought(self, text: str) -> Fields:
        return {"role": "assistant", "content": "", "reasoning": text}

    def calls(self, calls: Sequence[tuple[str, str]]) -> Sequence[Fields]:
        whole = [
            {
                "id": f"call_{name}_{index}",
                "index": index,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            for index, (name, arguments) in enumerate(calls)
        ]
        return [{"role": "assistant", "content": "", "tool_calls": whole}]

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        told = [self.chunk([], usage=COUNTS)] if usage else []
        return [self.delta(finish, role="assistant", content=""), *told, b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        return [self.delta(role="assistant", content="")]


class DeepSeek(ModelServer):
    """Comments while it is busy, usage with the finish reason, and thinking that it wants back."""

    comment = b": keep-alive\n\n"
    refusals: ClassVar = {
        "unpaid": wrong(
            402,
            "Insufficient Balance",
            type="unknown_error",
            param=None,
            code="invalid_request_error",
        ),
    }

    def refuse(self, body: Fields) -> bytes | None:
        messages = body["messages"]
        assert isinstance(messages, list)
        for place, message in enumerate(messages):
            if message["role"] == "developer":
                return _invalid("unknown variant `developer`")
            missing = not message.get("reasoning_content")
            if message.get("tool_calls") and missing:
                return _invalid(f"Missing `reasoning_content` field at message index {place}.")
        return None

    def word(self, text: str) -> Fields:
        return {"content": text, "reasoning_content": None}

    def thought(self, text: str) -> Fields:
        return {"content": None, "reasoning_content": text}

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        last = self.delta(finish, content="", reasoning_content=None)
        hit = {"prompt_cache_hit_tokens": 4, "prompt_cache_miss_tokens": 6}
        return [{**last, "usage": {**COUNTS, **hit} if usage else None}, b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        return [self.delta("insufficient_system_resource", content=""), b"[DONE]"]


class Groq(ModelServer):
    """Strict with requests; usage is where nobody else has it, and so are some errors."""

    thinks_as = "reasoning"
    refusals: ClassVar = {
        "too-large": wrong(
            413,
            "Request too large for model `m` on tokens per minute (TPM)",
            type="tokens",
            code="rate_limit_exceeded",
        ),
        "misled": wrong(
            400,
            "Failed to call a function.",
            type="invalid_request_error",
            code="tool_use_failed",
            failed_generation="<function=weather>",
        ),
        "full": wrong(498, "Flex tier capacity exceeded", code="capacity_exceeded"),
    }

    def refuse(self, body: Fields) -> bytes | None:
        for name in ("logprobs", "logit_bias", "top_logprobs"):
            if name in body:
                return _invalid(f"property '{name}' is unsupported")
        if body.get("n", 1) != 1:
            return _invalid("'n' : number must be at most 1")
        strange = _refuse_fields(body, "name", "reasoning_content", "reasoning")
        return strange or _refuse_effort(body)

    def opening(self) -> Sequence[object]:
        first = self.delta(role="assistant", content="")
        return [{**first, "x_groq": {"id": "req_1"}}]

    def thought(self, text: str) -> Fields:
        return {"reasoning": text, "channel": "analysis"}

    def calls(self, calls: Sequence[tuple[str, str]]) -> Sequence[Fields]:
        return [
            {
                "tool_calls": [
                    {
                        "id": f"call_{name}_{index}",
                        "type": "function",
                        "index": index,
                        "function": {"name": name, "arguments": arguments},
                    }
                ]
            }
            for index, (name, arguments) in enumerate(calls)
        ]

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        counts = {"queue_time": 0.1, **COUNTS, "total_time": 0.3}
        return [{**self.delta(finish), "x_groq": {"id": "req_1", "usage": counts}}, b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        return [{**self.delta(), "x_groq": {"id": "req_1", "error": "Over capacity"}}, b"[DONE]"]


class LlamaServer(ModelServer):
    """Comments against silence, codes that are numbers, counts that come unasked."""

    comment = b":\n\n"
    more: ClassVar = {"system_fingerprint": "b1"}
    refusals: ClassVar = {
        "loading": wrong(503, "Loading model", type="unavailable_error", code=503),
        "too-long": wrong(
            400,
            "the request exceeds the available context size",
            type="exceed_context_size_error",
            code=400,
            n_prompt_tokens=900,
            n_ctx=512,
        ),
    }

    def opening(self) -> Sequence[object]:
        return [self.delta(role="assistant", content=None)]

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        timings = {"cache_n": 4, "prompt_n": 6, "prompt_ms": 1.5, "predicted_n": 5}
        if usage:
            told = self.chunk([], usage=COUNTS, timings=timings)
            return [self.delta(finish), told, b"[DONE]"]
        return [{**self.delta(finish), "timings": timings}, b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        return [{"error": {"code": 500, "message": "Compute error.", "type": "server_error"}}]


class VLLM(ModelServer):
    thinks_as = "reasoning"
    refusals: ClassVar = {
        "too-long": answer(
            400,
            b'{"object":"error","message":"maximum context length is 512","type":"BadRequestError",'
            b'"param":null,"code":400}',
        ),
    }

    def delta(self, finish: str | None = None, **fields: object) -> Fields:
        ended = {} if finish is None else {"stop_reason": None}
        choice = {"index": 0, "delta": fields, "logprobs": None, "finish_reason": finish}
        return self.chunk([{**choice, **ended, "token_ids": None}])

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        counts = {**COUNTS, "prompt_tokens_details": None}
        told = [self.chunk([], usage=counts)] if usage else []
        return [self.delta(finish, content=""), *told, b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        error = {"message": "Engine dead.", "type": "InternalServerError", "param": None}
        return [{"error": {**error, "code": 500}}, b"[DONE]"]


class OpenRouter(ModelServer):
    """Another server's errors within its own, and choices in the chunk with the usage."""

    thinks_as = "reasoning"
    comment = b": OPENROUTER PROCESSING\n\n"
    more: ClassVar = {"provider": "Somebody"}
    refusals: ClassVar = {
        "unpaid": wrong(402, "Insufficient credits", code=402),
        "limited": wrong(
            429,
            "Provider returned error",
            {"retry-after": 7},
            code=429,
            metadata={"raw": "m is temporarily rate-limited upstream.", "provider_name": "X"},
        ),
        "moderated": wrong(
            403,
            "m requires moderation. Your input was flagged.",
            code=403,
            metadata={"reasons": ["violence"], "flagged_input": "…", "provider_name": "X"},
        ),
    }

    sealed: ClassVar = [
        {
            "type": "reasoning.text",
            "text": "".join(THOUGHTS),
            "format": "anthropic-claude-v1",
            "index": 0,
            "signature": "c2ln",
        },
        {
            "type": "reasoning.encrypted",
            "data": "ZW5j",
            "format": "anthropic-claude-v1",
            "index": 1,
        },
    ]
    """What a model that called a tool wants back."""

    def refuse(self, body: Fields) -> bytes | None:
        messages = body["messages"]
        assert isinstance(messages, list)
        calls = [message for message in messages if message.get("tool_calls")]
        lost = any(message.get("reasoning_details") != self.sealed for message in calls)
        return (
            _invalid("Thinking must be passed back.") if lost and body["model"] == "talk" else None
        )

    def calls(self, calls: Sequence[tuple[str, str]]) -> Sequence[Fields]:
        signed = {"type": "reasoning.text", "signature": "c2ln", "index": 0}
        closing = [{"reasoning_details": [signed]}, {"reasoning_details": self.sealed[1:]}]
        return [*closing, *super().calls(calls)]

    def word(self, text: str) -> Fields:
        return {"role": "assistant", "content": text, "reasoning": None, "reasoning_details": []}

    def thought(self, text: str) -> Fields:
        form = "anthropic-claude-v1"
        detail = {"type": "reasoning.text", "text": text, "format": form, "index": 0}
        return {
            "role": "assistant",
            "content": "",
            "reasoning": text,
            "reasoning_details": [detail],
        }

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}}
        last = {**choice, "finish_reason": finish, "native_finish_reason": "end_turn"}
        counts = {**COUNTS, "cost": 0.00014, "is_byok": False}
        told = self.chunk([{**choice, "finish_reason": None}], usage=counts)
        return [self.chunk([last]), *([told] if usage else []), b"[DONE]"]

    def breaking(self) -> Sequence[object]:
        error = {"code": 502, "message": "Provider disconnected"}
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "error": error}
        return [self.chunk([choice]), b"[DONE]"]


class Odd(ModelServer):
    """What further servers were seen to do, all at once: arguments that are objects, calls without
    index and id, and no mark of the end."""

    def calls(self, calls: Sequence[tuple[str, str]]) -> Sequence[Fields]:
        return [
            {"tool_calls": [{"function": {"name": name, "arguments": orjson.loads(arguments)}}]}
            for name, arguments in calls
        ]

    def ending(self, finish: str, usage: bool) -> Sequence[object]:
        return [{**self.delta("stop"), "usage": COUNTS}]


SERVERS: Mapping[str, type[ModelServer]] = {
    "openai": OpenAI,
    "ollama": Ollama,
    "deepseek": DeepSeek,
    "groq": Groq,
    "llama-server": LlamaServer,
    "vllm": VLLM,
    "openrouter": OpenRouter,
    "default": Odd,
}


def _invalid(message: str) -> bytes:
    return wrong(400, message, type="invalid_request_error", param=None, code=None)


def _refuse_effort(body: Fields) -> bytes | None:
    if body.get("reasoning_effort", "low") in ("none", "low", "medium", "high"):
        return None
    return _invalid("'reasoning_effort' : value must be one of none, low, medium, high")


def _refuse_fields(body: Fields, *names: str) -> bytes | None:
    messages = body["messages"]
    assert isinstance(messages, list)
    for place, message in enumerate(messages):
        for name in names:
            if name in message:
                return _invalid(f"'messages.{place}' : property '{name}' is unsupported")
    return None
