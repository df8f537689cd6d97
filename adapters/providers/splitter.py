"""Server-sent events, read: bytes as they come off a socket into whole events and their data.

https://html.spec.whatwg.org/multipage/server-sent-events.html — a line ends at CR, LF or CRLF, an
event at an empty line. SDK readers that decode first and then split with `str.splitlines()` tear
events apart at U+2028 and its like, which are legal inside JSON; here nothing is decoded.
"""

import re

_LINE_ENDS = b"\r\n"
# Two line ends or more. Atomic, so that the CRLF of one line end is never taken for two.
_GAP = re.compile(rb"(?>\r\n|\r|\n){2,}")
_LONG = 1024
"""Bytes of a read that has several events."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventTooLarge(ValueError):
    """One event is larger than a sane peer would send."""


class EventSplitter:
    """Cuts a stream into events, wherever the reads cut it.

    An event is the bytes of its lines without the empty line; `data` and `name_and_data` read it.
    Empty lines between events say nothing and are dropped. Raises `EventTooLarge`.
    """

    __slots__ = ("_limit", "_size", "pieces")

    def __init__(self, limit: int = 4 << 20) -> None:
        self._limit = limit
        self.pieces: list[bytes] = []  # joined only when an end may have come: reads stay linear
        """Of the event that has begun and not ended."""
        self._size = 0

    @property
    def rest(self) -> bytes:
        """What came after the last whole event."""
        return b"".join(self.pieces)

    def feed(self, read: bytes) -> list[bytes]:
        """The events that end in this read."""
        if self.pieces:
            self.pieces.append(read)
            if b"\n" not in read and b"\r" not in read:
                self._size += len(read)
                if self._size > self._limit:
                    raise self._too_large()
                return []
            buffer = b"".join(self.pieces)
        else:
            # Also drops the LF of a CRLF that the reads cut in two.
            buffer = read.lstrip(_LINE_ENDS)
        events = split(buffer)
        if len(buffer) > self._limit and max(map(len, events)) > self._limit:
            raise self._too_large()
        rest = events.pop()
        self.pieces = [rest] if rest else []
        self._size = len(rest)
        return events

    def _too_large(self) -> EventTooLarge:
        return EventTooLarge(f"an event is larger than {self._limit} bytes")


def split(buffer: bytes) -> list[bytes]:
    """What is between the empty lines. All but the last are whole."""
    if b"\r" in buffer:
        return _GAP.split(buffer)
    if len(buffer) < _LONG:
        return _GAP.split(buffer) if b"\n\n\n" in buffer else buffer.split(b"\n\n")
    # Nearly always an event is one line, and so every second one is empty. Lines are found by one byte,
    # three times as fast as gaps are.
    lines = buffer.split(b"\n")
    events = lines[::2]
    line_ended = len(lines) % 2 == 0  # of the last one, which itself has not
    if any(lines[1::2]) or not all(events if line_ended else events[:-1]):
        return _GAP.split(buffer)
    if line_ended:
        events[-1] += b"\n"
    return events


def data(event: bytes) -> bytes | None:
    """The data of an event, its lines joined with LF; None when it has none or only blanks."""
    if event.startswith(b"data: ") and b"\n" not in event and b"\r" not in event:
        value = event[6:]
        return value if value and not value.isspace() else None
    return name_and_data(event)[1]


def name_and_data(event: bytes) -> tuple[str, bytes | None]:
    """The name of an event, empty when it has none, and its data as `data` gives it."""
    name = b""
    values: list[bytes] = []
    # bytes.splitlines, unlike that of str, knows no line ends but CR, LF and CRLF.
    for line in event.removeprefix(_BYTE_ORDER_MARK).splitlines():
        field, _, value = line.partition(b":")
        if field == b"data":
            values.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    value = b"\n".join(values)
    return name.decode(errors="replace"), value if value and not value.isspace() else None
