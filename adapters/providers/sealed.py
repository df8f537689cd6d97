"""Thinking that OpenRouter wants back exactly as it was: sealed on its way in, opened on its way out.

What a model's own provider has signed or encrypted comes in pieces, under fields that only OpenRouter
knows. The gateway keeps it as it keeps all such data, as one opaque text (`ReasoningDelta.redacted`);
a mark before it tells other providers that it is none of theirs.
"""

from collections.abc import Mapping, Sequence

import orjson

from gateway.events import Json

_MARK = "openrouter:"
_GROWING = ("text", "summary", "data")  # fields that come in pieces; of others the last one counts


class SealedThoughts:
    """The `reasoning_details` of one answer, put together from its chunks."""

    def __init__(self) -> None:
        self._details: list[dict[str, object]] = []

    def add(self, pieces: Sequence[object]) -> None:
        for piece in pieces:
            if not isinstance(piece, Mapping):
                continue
            last = self._details[-1] if self._details else {}
            if any(last.get(name) != piece.get(name) for name in ("type", "index")):
                last = {}
                self._details.append(last)
            for name, value in piece.items():
                before = last.get(name)
                if name in _GROWING and isinstance(before, str) and isinstance(value, str):
                    last[name] = before + value
                elif value is not None:
                    last[name] = value

    def sealed(self) -> str | None:
        """None if nothing in it is more than text, which is passed back as such."""
        if not any(detail.get("signature") or detail.get("data") for detail in self._details):
            return None
        return _MARK + orjson.dumps(self._details).decode()


def is_sealed(data: str) -> bool:
    return data.startswith(_MARK)


def opened(message: Json) -> list[object] | None:
    """The `reasoning_details` that were sealed into a message of the history."""
    details = message.get("reasoning_details")
    if not isinstance(details, list):
        return None
    found: list[object] = []
    for entry in details:
        match entry:
            case {"redacted": str(data)} if is_sealed(data):
                try:
                    inner: object = orjson.loads(data.removeprefix(_MARK))
                except orjson.JSONDecodeError:
                    continue  # a client's history, which may hold anything
                found += inner if isinstance(inner, list) else []
    return found or None
