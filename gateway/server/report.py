"""Usage rows and keys as other programs read them: one flat record each, JSON lines or CSV."""

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import IO
from uuid import UUID

from gateway.records import ApiKey, ReceiptLine, UsageRow
from gateway.sse import dump

_TOKENS = {
    "tokens_in": "input_tokens",
    "tokens_out": "output_tokens",
    "tokens_cached": "cached_tokens",
    "tokens_cache_write": "cache_write_tokens",
    "tokens_reasoning": "reasoning_tokens",
}


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row_id(reference: str) -> str:
    """That of a row, from the `x-request-id` of a response or the `chatcmpl-…` id of its chunks."""
    try:
        return str(UUID(hex=reference.removeprefix("chatcmpl-")))
    except ValueError:
        return reference


def row_fields(row: UsageRow) -> dict[str, object]:
    """Times in ISO 8601 (UTC), cost in US dollars, durations in milliseconds."""
    return {
        "request_id": row.id,
        "time": _time(row.started_at),
        "email": row.email,
        "key_id": row.key_id,
        "type": row.type,
        "stream": row.stream,
        "model": row.model,
        "provider": row.provider,
        "upstream_model": row.upstream_model,
        **{name: getattr(row.usage, field) for name, field in _TOKENS.items()},
        "counted": row.counted,
        "cost_usd": None if row.cost_nanos is None else row.cost_nanos / 1e9,
        "duration_ms": row.duration_ms,
        "first_token_ms": row.first_token_ms,
        "steps": row.steps,
        "tool_calls": row.tool_calls,
        "status": row.status,
        "http_status": row.http_status,
        "finish_reason": row.finish_reason,
        "error_code": row.error_code,
        **({"attributes": dict(row.attributes)} if row.attributes else {}),
        **({"receipt": [line_fields(line) for line in row.receipt]} if row.receipt else {}),
    }


def line_fields(line: ReceiptLine) -> dict[str, object]:
    fields: dict[str, object] = {"kind": line.kind, "name": line.name, "status": line.status}
    if line.usage is not None:
        fields |= {name: getattr(line.usage, field) for name, field in _TOKENS.items()}
    cost = None if line.cost_nanos is None else line.cost_nanos / 1e9
    return fields | {"cost_usd": cost, "duration_ms": line.duration_ms}


def key_fields(key: ApiKey) -> dict[str, object]:
    """A key without its secret, which nobody has."""
    return {
        "id": key.id,
        "key": key.masked,
        "email": key.email,
        "name": key.name,
        "tier": key.tier,
        "created_at": _time(key.created_at),
        "last_used_at": None if key.last_used_at is None else _time(key.last_used_at),
        "requests": key.requests,
        "tokens": key.tokens,
        "revoked": key.revoked,
        "revoked_at": None if key.revoked_at is None else _time(key.revoked_at),
        "notifications": key.notifications,
        "notes": key.notes,
    }


def write_jsonl(rows: Iterable[UsageRow], file: IO[str]) -> int:
    count = 0
    for row in rows:
        # One line for every reader: some take U+2028 in a model's name for the end of one.
        file.write(dump(row_fields(row)).decode() + "\n")
        count += 1
    return count


def write_csv(rows: Iterable[UsageRow], file: IO[str]) -> int:
    """With a header. Text that a spreadsheet would take for a formula is made text by an apostrophe;
    `stream` is `true` or `false`, as in JSON."""
    count = 0
    writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _safe(value) for name, value in row_fields(row).items()})
        count += 1
    return count


def _safe(value: object) -> object:
    match value:
        case str() if value.startswith(_FORMULA):
            return "'" + value
        case bool():
            return str(value).lower()
        case _:
            return value


_COLUMNS = tuple(
    row_fields(
        UsageRow(id="", started_at=datetime.fromtimestamp(0, UTC), key_id="", email="", type="")
    )
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
