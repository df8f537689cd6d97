"""A model's thinking as `encrypted_content`: what a client that keeps nothing here takes away and
brings back, for the provider that wants to see it again."""

import base64
import binascii
from collections.abc import Mapping, Sequence

import orjson

from gateway.events import Json
from gateway.sse import dump

_FIELDS = frozenset({"text", "signature", "redacted"})


def seal(thoughts: Sequence[Mapping[str, str]]) -> str:
    """Opaque, and not secret: its reader has the thoughts anyway, and what is secret or signed in
    them is so by the provider's own hand."""
    return base64.urlsafe_b64encode(dump(thoughts)).decode()


def unseal(text: str) -> list[Json] | None:
    """`reasoning_details` of a message; None for what was not made here."""
    try:
        value = orjson.loads(base64.urlsafe_b64decode(text.encode()))
    except (binascii.Error, UnicodeEncodeError, orjson.JSONDecodeError):
        return None
    if not isinstance(value, list):
        return None
    for thought in value:
        if not isinstance(thought, dict) or not thought or thought.keys() - _FIELDS:
            return None
        if not all(isinstance(part, str) for part in thought.values()):
            return None
    return value
