"""What a client asked for, in the one form that every provider reads.

Messages keep the shape of OpenAI's chat format, as plain mappings: most providers speak it, fields
that nobody here knows survive, and a long history is neither copied nor dumped again. A wire that
speaks another format translates into it; a provider that speaks another format translates out of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from gateway.events import Json

Message: TypeAlias = Mapping[str, object]
"""`role` is system, developer, user, assistant or tool; `content` is text, a list of parts, or None.

An assistant message of an earlier round may carry `reasoning_content` (text) and `reasoning_details`
(a list of `{"text"?, "signature"?, "redacted"?}`) for providers that want their thinking back.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One request for an answer. Frozen: a changed copy is made with `dataclasses.replace`."""

    model: str
    messages: Sequence[Message]
    tools: Sequence[Json] = ()
    """Tools offered to the model, in OpenAI's form: `{"type": "function", "function": {…}}`."""
    options: Mapping[str, object] = field(default_factory=dict)
    """All other fields as the client sent them (`temperature`, `max_tokens`, `seed`, `tool_choice`,
    `response_format`, `logprobs`, unknown ones), to be forwarded untouched where the provider can."""
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    size: int = 0
    """Bytes of the request's body, from which the prompt's tokens are estimated if need be."""
