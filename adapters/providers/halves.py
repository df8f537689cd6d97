"""Characters that a server cut in two: one that counts in UTF-16 ends a chunk in the midst of an emoji.

JSON can say a half (`"\\ud83d"`), and orjson refuses to read it.
"""

import json
from typing import TypeAlias

_Place: TypeAlias = tuple[str | int, ...]


class Halves:
    """Reads what orjson does not, and puts together what comes in the same place of the next chunk."""

    def __init__(self) -> None:
        self._held: dict[_Place, str] = {}

    def parse(self, payload: bytes) -> object:
        """None if there are no halves in it, or if it is not JSON for another reason."""
        if b"\\ud" not in payload and b"\\uD" not in payload:
            return None
        try:
            return self._mend(json.loads(payload), ())
        except (ValueError, RecursionError):
            return None

    def _mend(self, value: object, place: _Place) -> object:
        match value:
            case str():
                return self._join(value, place)
            case dict():
                return {name: self._mend(item, (*place, name)) for name, item in value.items()}
            case list():
                return [self._mend(item, (*place, index)) for index, item in enumerate(value)]
            case _:
                return value

    def _join(self, text: str, place: _Place) -> str:
        text = self._held.pop(place, "") + text
        if "\ud800" <= text[-1:] <= "\udbff":
            self._held[place] = text[-1]
            text = text[:-1]
        # What has no other half is told as every reader of broken text tells it.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
