"""The JSON body of a request: read within limits, parsed within limits."""

import asyncio
from typing import cast

import orjson
from starlette.types import Receive

from gateway.errors import GatewayError, InvalidRequest, TooLarge

MAX_DEPTH = 64
"""Nesting of objects and arrays. Real requests, JSON schemas included, stay below 20."""


class ClientGone(Exception):
    """The client left before its request was whole. There is nobody to answer."""


class TooSlow(GatewayError):
    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class Encoded(GatewayError):
    status = 415
    type = "invalid_request_error"
    code = "unsupported_encoding"


def check_encoding(encoding: str | None) -> None:
    """Raises `Encoded`. A small body that is unpacked into a large one is not asked for by any client."""
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise Encoded("A compressed body is not taken; send it without Content-Encoding.")


async def read(receive: Receive, *, declared: str | None, limit: int, timeout: float) -> bytes:
    """The whole body. `declared` is the Content-Length, which is believed only when it is too large."""
    if declared is not None and declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                part = message.get("body", b"")
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
                if not message.get("more_body", False):
                    return parts[0] if len(parts) == 1 else b"".join(parts)
    except TimeoutError:
        raise TooSlow(f"The request's body did not arrive within {timeout:g} s.") from None


def parse(data: bytes) -> dict[str, object]:
    """A JSON object. Raises `InvalidRequest`."""
    if not data:
        raise InvalidRequest("The request has no body; expected a JSON object.")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"We could not parse the JSON body of your request: {error}."
        ) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body has to be a JSON object.")
    # Most bodies have fewer brackets than that in all.
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _deep(value):
        raise InvalidRequest(f"The body is nested deeper than {MAX_DEPTH} levels.")
    return value


def _deep(value: object) -> bool:
    """Whether containers nest deeper than `MAX_DEPTH`, told level by level without recursion. The
    parser has a limit of its own (1,024), which no recursion of ours could bear."""
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else cast(list[object], node))
            if isinstance(item, dict | list)
        ]
        if not level:
            return False
    return True


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request's body is larger than {limit} bytes.")
