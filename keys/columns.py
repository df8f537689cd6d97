"""Records to columns and back."""

import json
from contextlib import suppress
from typing import Literal, TypeAlias, cast

import orjson
from sqlalchemy import Row

from gateway.events import Usage
from gateway.records import ApiKey, Dialect, ReceiptLine, UsageRow
from keys.schema import usage_rows

Values: TypeAlias = dict[str, object]
Record: TypeAlias = Row[tuple[object, ...]]

_LONGEST_LABEL = 500
_LARGEST = 10**15  # far beyond any honest count, and sums of it stay whole numbers everywhere


# A row keeps what it was opened with: whose it is, and where it stands in the order of rows.
IDENTITY = ("id", "started_at", "key_id", "email")
STATE = tuple(column.name for column in usage_rows.c if column.name not in IDENTITY)
"""All other columns, in the order of `state_values`."""


def state_values(row: UsageRow, status: str, revision: int | None) -> tuple[object, ...]:
    """Values that every database takes, whatever a client made the gateway put into the row."""
    usage = row.usage
    return (
        _label(row.type),
        _label(row.model),
        row.stream,
        _label(row.provider),
        _label(row.upstream_model),
        whole(usage.input_tokens),
        whole(usage.output_tokens),
        whole(usage.cached_tokens),
        whole(usage.cache_write_tokens),
        whole(usage.reasoning_tokens),
        row.counted,
        None if row.cost_nanos is None else whole(row.cost_nanos),
        whole(row.duration_ms),
        None if row.first_token_ms is None else whole(row.first_token_ms),
        row.steps,
        row.tool_calls,
        status,
        row.http_status,
        None if row.finish_reason is None else _label(row.finish_reason),
        None if row.error_code is None else _label(row.error_code),
        _json(dict(row.attributes)) if row.attributes else "{}",
        _json(list(map(_line_values, row.receipt))) if row.receipt else "[]",
        revision,
    )


def _json(value: object) -> str:
    """In ASCII, which holds even what no database takes as such."""
    with suppress(TypeError):  # half of a character
        text = orjson.dumps(value)
        if text.isascii():
            return text.decode()
    return json.dumps(value)


def _line_values(line: ReceiptLine) -> Values:
    """As short as it is clear: an answer of many rounds has many."""
    usage = line.usage
    values: Values = {
        "kind": line.kind,
        "name": _label(line.name),
        "cost": None if line.cost_nanos is None else whole(line.cost_nanos),
        "ms": whole(line.duration_ms),
        "status": line.status,
    }
    if usage is not None:
        counts = (
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            usage.cache_write_tokens,
            usage.reasoning_tokens,
        )
        values["tokens"] = list(map(whole, counts))
    return values


def _line(values: Values) -> ReceiptLine:
    tokens = cast("list[int] | None", values.get("tokens"))
    return ReceiptLine(
        kind=cast(Literal["round", "tool"], values["kind"]),
        name=str(values["name"]),
        usage=None if tokens is None else Usage(*tokens),
        cost_nanos=cast("int | None", values["cost"]),
        duration_ms=cast(int, values["ms"]),
        status=str(values["status"]),
    )


def usage_row(record: Record) -> UsageRow:
    return UsageRow(
        id=record.id,
        started_at=record.started_at,
        key_id=record.key_id,
        email=record.email,
        type=record.type,
        model=record.model,
        stream=record.stream,
        provider=record.provider,
        upstream_model=record.upstream_model,
        usage=Usage(
            input_tokens=record.input_tokens,
            output_tokens=record.output_tokens,
            cached_tokens=record.cached_tokens,
            cache_write_tokens=record.cache_write_tokens,
            reasoning_tokens=record.reasoning_tokens,
        ),
        counted=record.counted,
        cost_nanos=record.cost_nanos,
        duration_ms=record.duration_ms,
        first_token_ms=record.first_token_ms,
        steps=record.steps,
        tool_calls=record.tool_calls,
        status=record.status,
        http_status=record.http_status,
        finish_reason=record.finish_reason,
        error_code=record.error_code,
        attributes=json.loads(record.attributes),
        receipt=tuple(map(_line, json.loads(record.receipt))) if record.receipt != "[]" else (),
    )


def api_key(record: Record) -> ApiKey:
    return ApiKey(
        id=record.id,
        email=record.email,
        name=record.name,
        tier=record.tier,
        masked=record.masked,
        created_at=record.created_at,
        revoked_at=record.revoked_at,
        notes=record.notes,
        notifications=None if record.notifications is None else Dialect(record.notifications),
        last_used_at=record.last_used_at,
        requests=record.requests,
        tokens=record.tokens,
    )


def whole(number: int) -> int:
    """A count as it is kept: a provider may report nonsense."""
    if -_LARGEST <= number <= _LARGEST:
        return number
    return _LARGEST if number > 0 else -_LARGEST


def _label(text: str) -> str:
    return _text(text[:_LONGEST_LABEL])


def _text(text: str) -> str:
    """Without lone surrogates and NUL, which SQLite or PostgreSQL refuse."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
