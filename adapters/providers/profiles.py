"""How servers that speak OpenAI's API deviate from it, as data: a row of `PROFILES` for each kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from adapters.providers.sealed import opened
from gateway.events import Json

LimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]

_EARLIER = "reasoning_content"
"""Under which the gateway has what a model thought in an earlier message."""

_NO_THOUGHT = " "  # an empty text counts as none


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a server does not take as OpenAI's API has it. What servers send is read from all alike."""

    max_tokens_field: LimitField | None = None
    """The one that it knows; None for both."""
    omit: frozenset[str] = frozenset()
    """Fields of a request that it refuses, or takes for something else."""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By field, what to send instead of words that it refuses."""
    obeys_tool_choice: bool = True
    """Otherwise a model that is to call no tools is not told of any."""
    omit_of_messages: frozenset[str] = frozenset()
    roles: Mapping[str, str] = field(default_factory=dict)
    """What messages' roles are to be called, where it is not as OpenAI calls them."""
    thoughts: tuple[str, ...] = (_EARLIER,)
    """Fields of an earlier message that take what was thought; none where it must not be sent."""
    thoughts_needed: bool = False
    """Where tools were called, all of the model's messages must have them, and otherwise none need."""

    seals: bool = False
    """Takes back as `reasoning_details` what it has sealed (see `sealed`), instead of mere text."""

    def fit(self, body: dict[str, object], left_out: Callable[[str], None]) -> None:
        """Makes a request's body one for this server. `left_out` hears what it went without."""
        for name in self.omit & body.keys():
            del body[name]
            left_out(name)
        for name, words in self.values.items():
            word = body.get(name)
            if isinstance(word, str) and word in words:
                body[name] = words[word]
        if not self.obeys_tool_choice and body.get("tool_choice") == "none":
            body.pop("tools", None)
        if self.max_tokens_field is not None:
            limits = [body.pop(name, None) for name in ("max_completion_tokens", "max_tokens")]
            limit = next((limit for limit in limits if limit is not None), None)
            if limit is not None:
                body[self.max_tokens_field] = limit
        messages = body["messages"]
        if isinstance(messages, list | tuple) and self._touches_messages:
            body["messages"] = self._fit_messages(messages, left_out)

    def unseal(self, history: Sequence[Json], messages: Sequence[Json]) -> Sequence[Json]:
        """`messages`, which are `history` without the gateway's own fields, with what was sealed."""
        if not self.seals or messages is history:
            return messages
        return [
            message if (details := opened(before)) is None else _with_details(message, details)
            for before, message in zip(history, messages, strict=True)
        ]

    @property
    def _touches_messages(self) -> bool:
        strange = self.thoughts != (_EARLIER,) or self.thoughts_needed
        return bool(self.omit_of_messages or self.roles or strange)

    def _fit_messages(self, messages: Sequence[Json], left_out: Callable[[str], None]) -> object:
        """The same object where nothing has to be changed: a history may be long."""
        needed = self.thoughts_needed and any(message.get("tool_calls") for message in messages)
        fitted = [self._fit_message(message, needed, left_out) for message in messages]
        same = all(one is other for one, other in zip(fitted, messages, strict=True))
        return messages if same else fitted

    def _fit_message(self, message: Json, needed: bool, left_out: Callable[[str], None]) -> Json:
        changed: dict[str, object] = {}
        role = message.get("role")
        if isinstance(role, str) and role in self.roles:
            changed["role"] = self.roles[role]
        dropped = self.omit_of_messages & message.keys()
        for name in dropped:
            left_out(f"messages[].{name}")
        thought = message.get(_EARLIER)
        if thought is not None and self.thoughts != (_EARLIER,):
            dropped |= {_EARLIER}
            changed |= dict.fromkeys(self.thoughts, thought)
        elif needed and role == "assistant" and not thought:
            changed |= dict.fromkeys(self.thoughts, _NO_THOUGHT)
        if not changed and not dropped:
            return message
        return {name: message[name] for name in message if name not in dropped} | changed


def _with_details(message: Json, details: list[object]) -> Json:
    kept = {name: value for name, value in message.items() if name != _EARLIER}
    return {**kept, "reasoning_details": details}


_ONE_SYSTEM = {"developer": "system"}
"""For servers whose chat templates know one word for instructions, and drop or refuse the other."""

_THREE_EFFORTS = {"minimal": "low", "xhigh": "high"}
"""For servers that know `low`, `medium` and `high`."""

PROFILES: Mapping[str, Profile] = {
    "default": Profile(),
    "openai": Profile(
        max_tokens_field="max_completion_tokens",  # its reasoning models refuse the other
        thoughts=(),
    ),
    "ollama": Profile(
        max_tokens_field="max_tokens",  # the other is ignored without a word
        omit=frozenset({"n", "logit_bias"}),
        values={"reasoning_effort": _THREE_EFFORTS},
        obeys_tool_choice=False,
        roles=_ONE_SYSTEM,
        thoughts=("reasoning",),
    ),
    "deepseek": Profile(
        max_tokens_field="max_tokens",
        omit=frozenset({"n"}),
        roles=_ONE_SYSTEM,
        thoughts_needed=True,
    ),
    "groq": Profile(
        omit=frozenset({"logprobs", "logit_bias", "top_logprobs", "n"}),
        values={"reasoning_effort": _THREE_EFFORTS},
        omit_of_messages=frozenset({"name"}),
        thoughts=(),
    ),
    "llama-server": Profile(roles=_ONE_SYSTEM),
    "vllm": Profile(
        roles=_ONE_SYSTEM, thoughts=("reasoning", _EARLIER)
    ),  # the new name and the old
    "openrouter": Profile(thoughts=("reasoning",), seals=True),
}

_HOSTS = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "ollama.com": "ollama",
}
_OLLAMA_PORT = 11434


def guess(base_url: str) -> str:
    """The name of the profile of the server at an address, where there can be no doubt of it."""
    parts = urlsplit(base_url)
    if parts.port == _OLLAMA_PORT:
        return "ollama"
    return _HOSTS.get(parts.hostname or "", "default")
