"""Which dialect of `tool_notification` a request gets, and how much it may see.

The request's own header stands before what was set for the key, its tier and the model; then what
is known of the client; then the settings' default.
"""

import re
from collections.abc import Mapping

from gateway.errors import InvalidRequest
from gateway.records import ApiKey, Detail, Dialect
from gateway.server.settings import TierRow

HEADER = "x-tool-notifications"

# The last versions that wrap every named event, so that not even a whole chunk under a name is taken
# for a chunk. Found by bisection over the published versions.
_WRAPPING = {"python": (1, 97, 1), "js": (5, 10, 2)}


def choose(
    headers: Mapping[str, str],
    *,
    key: ApiKey,
    tier: TierRow | None,
    model: Dialect | None,
    default: Dialect,
    detail: Detail,
) -> tuple[Dialect, Detail]:
    """`detail` is the most that the settings allow. Raises `InvalidRequest` for a header that says
    nothing known."""
    if tier is not None and tier.detail is not None:
        detail = tier.detail
    asked, seen = _read(headers.get(HEADER, ""))
    if seen is not None:
        detail = min(detail, seen)
    chosen = (
        asked
        or key.notifications
        or (tier and tier.notifications)
        or model
        or recognise(headers)
        or default
    )
    return chosen, detail


def recognise(headers: Mapping[str, str]) -> Dialect | None:
    """What a client needs, told by the headers that it sends anyway."""
    if "x-openwebui-" in "\n".join(headers):
        return Dialect.OPENWEBUI
    last = _WRAPPING.get(headers.get("x-stainless-lang", ""))
    if last is None:
        return None
    version = _version(headers.get("x-stainless-package-version", ""))
    if version is not None and version <= last:
        return Dialect.INLINE
    return None


def _read(value: str) -> tuple[Dialect | None, Detail | None]:
    """`inline`, `detail=names`, or `inline; detail=names`."""
    dialect: Dialect | None = None
    detail: Detail | None = None
    for part in value.lower().split(";"):
        name, _, argument = part.strip().partition("=")
        try:
            if name == "detail":
                detail = Detail[argument.strip().upper()]
            elif name:
                dialect = Dialect(name)
        except (KeyError, ValueError):
            raise InvalidRequest(
                f"The header X-Tool-Notifications takes one of {', '.join(Dialect)}, "
                f"with '; detail=' and one of {', '.join(level.name.lower() for level in Detail)}.",
                param="X-Tool-Notifications",
                code="invalid_value",
            ) from None
    return dialect, detail


def _version(text: str) -> tuple[int, ...] | None:
    parts = text.split("-")[0].split("+")[0].split(".")[:3]
    return (
        tuple(map(int, parts)) if all(re.fullmatch("[0-9]{1,9}", part) for part in parts) else None
    )
