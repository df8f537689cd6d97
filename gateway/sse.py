"""Server-sent events: how a frame is written. Nobody else writes one.

https://html.spec.whatwg.org/multipage/server-sent-events.html — a frame ends at an empty line, and
CR, LF or CRLF end a line. JSON text has no raw CR or LF, so that data which is JSON cannot break out
of its frame. U+0085, U+2028 and U+2029 are legal in JSON, but readers that split with
`str.splitlines()` break on them: `dump` escapes them.

No `id:` and no `retry:` are ever sent: openai-python raises on a comment after an `id:` and on a
block that holds nothing but `retry:`.
"""

import re
from collections.abc import Mapping

import orjson

HEARTBEAT = b": ping\n"
"""A comment line without an empty line after it, which some readers would take for an empty event."""

OPEN = b"data: "
CLOSE = b"\n\n"
DONE = b"data: [DONE]\n\n"

_SEPARATORS = re.compile(rb"\xc2\x85|\xe2\x80\xa8|\xe2\x80\xa9")
_ESCAPES = {b"\xc2\x85": b"\\u0085", b"\xe2\x80\xa8": b"\\u2028", b"\xe2\x80\xa9": b"\\u2029"}
_EVENT_NAME = re.compile(r"[A-Za-z0-9_.\-]+")


def dump(value: object) -> bytes:
    """JSON that stays on one line for every reader. Lone surrogates become U+FFFD."""
    try:
        data = orjson.dumps(value)
    except TypeError:
        data = orjson.dumps(_mend(value))
    if data.isascii():
        return data
    return _SEPARATORS.sub(lambda match: _ESCAPES[match[0]], data)


def frame(data: bytes, event: str | None = None) -> bytes:
    """One frame around `data`, which is JSON made by `dump`. `event` is a name of our own."""
    if event is None:
        return OPEN + data + CLOSE
    if not _EVENT_NAME.fullmatch(event):
        raise ValueError(f"{event!r} cannot be the name of an event")
    return b"event: " + event.encode() + b"\n" + OPEN + data + CLOSE


def _mend(value: object) -> object:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case Mapping():
            return {str(_mend(key)): _mend(item) for key, item in value.items()}
        case list() | tuple():
            return [_mend(item) for item in value]
        case _:
            return value
