"""What a model's server said of a round, found in the raw reply that a framework hands on."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from gateway.events import Usage

_INPUT = ("prompt_tokens", "input_tokens", "prompt_eval_count", "prompt_token_count")
_OUTPUT = ("completion_tokens", "output_tokens", "eval_count", "candidates_token_count")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_REASONS = ("finish_reason", "stop_reason", "done_reason")


@dataclass(slots=True)
class Reported:
    """Of one round, whose reply may come in pieces."""

    usage: Usage | None = None
    model: str | None = None
    finish_reason: str | None = None

    def add(self, other: "Reported") -> None:
        """Counts grow while a reply comes: of two, the higher one is that of more of it."""
        if self.usage is None or other.usage is None:
            self.usage = other.usage or self.usage
        else:
            pairs = [
                (getattr(self.usage, name), getattr(other.usage, name)) for name in _USAGE_FIELDS
            ]
            self.usage = Usage(*map(max, pairs))
        self.model = other.model or self.model
        self.finish_reason = other.finish_reason or self.finish_reason


_USAGE_FIELDS = tuple(field.name for field in fields(Usage))


def read_report(raw: object) -> Reported:
    """Reads the replies of OpenAI's, Anthropic's, Ollama's and Google's APIs, and of those like them."""
    reply = _members(raw)
    model = reply.get("model") or reply.get("model_version")
    return Reported(
        _usage(reply),
        model if isinstance(model, str) else None,
        _finish_reason(reply),
    )


def _usage(reply: Mapping[str, object]) -> Usage | None:
    told = _members(reply.get("usage")) or _members(reply.get("usage_metadata")) or reply
    read, written = _first(told, _INPUT), _first(told, _OUTPUT)
    if read is None and written is None:
        return None
    read, written = read or 0, written or 0
    asked = _details(told, _INPUT_DETAILS)
    cached = _count(asked.get("cached_tokens")) or _count(told.get("cached_content_token_count"))
    reasoning = _count(_details(told, _OUTPUT_DETAILS).get("reasoning_tokens"))
    # Anthropic counts what its cache had or took beside the rest of the prompt, Google what was
    # thought beside what was said.
    hit = _count(told.get("cache_read_input_tokens"))
    stored = _count(told.get("cache_creation_input_tokens"))
    thought = _count(told.get("thoughts_token_count"))
    return Usage(
        read + hit + stored, written + thought, cached + hit, stored, max(reasoning, thought)
    )


def _finish_reason(reply: Mapping[str, object]) -> str | None:
    choices = reply.get("choices") or reply.get("candidates")
    first = _members(choices[0]) if isinstance(choices, list) and choices else reply
    for name in _REASONS:
        reason = first.get(name)
        if isinstance(reason, str):
            return str(getattr(reason, "value", reason))
    return None


def _details(told: Mapping[str, object], names: tuple[str, ...]) -> Mapping[str, object]:
    return next((found for name in names if (found := _members(told.get(name)))), {})


def _members(value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return value
    members = getattr(value, "__dict__", None)
    return members if isinstance(members, dict) else {}


def _first(told: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    return next((told_ for name in names if isinstance(told_ := told.get(name), int)), None)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
