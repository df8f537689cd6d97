"""The common chunk, read without decoding it: the bytes around its text are known from the chunk before."""

import re
from collections.abc import Sequence

import orjson

from gateway.events import Delta, Event

# The inside of a JSON string, from its first quotation mark to the one that ends it.
_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_STRINGS = frozenset({str})


class Mould:
    """The bytes around the text of a common chunk: the next chunks differ in the text only.

    Whole strings are put in the place of the string that was there, and nothing else: so what is
    around it keeps its meaning, and need not be decoded again (a third of the cost of a chunk).
    """

    __slots__ = ("_choice", "_end", "_head", "_start", "_tail", "least_of_two")

    def __init__(self, head: bytes, tail: bytes, choice: int) -> None:
        self._head = head  # to the quotation mark before the text
        self._tail = tail  # from the one after it
        self._start = len(head) - 1
        self._end = 1 - len(tail)
        self._choice = choice
        self.least_of_two = 2 * (len(head) + len(tail))
        """Bytes that two events take at least."""

    def fits(self, event: bytes) -> bool:
        return event.startswith(self._head) and event.endswith(self._tail)

    def read(self, event: bytes) -> list[Event] | None:
        """The text of an event; None if it does not fit, or there is more in it than text."""
        # As `fits`, without a call: nearly every token comes this way.
        if not (event.startswith(self._head) and event.endswith(self._tail)):
            return None
        try:
            text: str = orjson.loads(event[self._start : self._end])
        except orjson.JSONDecodeError:
            return None  # not one string
        return [Delta(text, self._choice)] if text else []

    def read_all(self, events: Sequence[bytes]) -> list[Event] | None:
        """Of several that fit, decoded together; None if there is more than text in one of them."""
        start, end = self._start, self._end
        strings = b",".join([event[start:end] for event in events])
        # What is no string, but the end of one and further fields, makes more of them, or none: unless
        # its own end is escaped and joins it to the next.
        if b'\\",' in strings:
            return None
        try:
            texts: list[str] = orjson.loads(b"[%b]" % strings)
        except orjson.JSONDecodeError:
            return None
        if len(texts) != len(events) or not _STRINGS.issuperset(map(type, texts)):
            return None
        return [Delta(text, self._choice) for text in texts if text]


def cast(event: bytes, text: str) -> Mould | None:
    """The mould of an event that said `text`; None if it is not one line with a common chunk."""
    before, mark, after = event.rpartition(b'"content":"')
    if not mark:
        before, mark, after = event.rpartition(b'"content": "')
    inside = _STRING.match(after)
    if inside is None or not before.startswith(b"data: {") or b"\n" in event or b"\r" in event:
        return None
    head, tail = before + mark, after[inside.end() :]
    try:
        # There may be several places that look like it: only in the right one is a change heard.
        chunk: object = orjson.loads(head[6:] + inside[0] + b"~" + tail)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(chunk, dict):
        return None
    match chunk:
        case {"choices": [{"index": int(choice), "delta": {"content": heard, **more}, **other}]}:
            plain = not (
                any(name != "role" and value is not None for name, value in more.items())
                or other.get("logprobs")
                or other.get("finish_reason")
                or any(chunk.get(field) for field in ("error", "x_groq", "usage"))
            )
            return Mould(head, tail, choice) if plain and heard == text + "~" else None
        case _:
            return None
