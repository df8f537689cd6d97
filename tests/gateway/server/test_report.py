import csv
import io
from datetime import UTC, datetime

import orjson
import pytest

from gateway.events import Usage
from gateway.records import Dialect, UsageRow
from gateway.server.report import key_fields, row_fields, write_csv, write_jsonl
from tests.samples import a_key

AT = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)


def _row(**fields: object) -> UsageRow:
    given: dict[str, object] = {
        "id": "id-1",
        "started_at": AT,
        "key_id": "key_1",
        "email": "ada@example.com",
        "type": "chat",
    }
    return UsageRow(**(given | fields))  # type: ignore[arg-type]  # a test names the fields


FULL = _row(
    model="fast",
    stream=True,
    provider="acme",
    upstream_model="acme-mini",
    usage=Usage(10, 5, 4, 3, 2),
    counted="estimated",
    cost_nanos=1_234_567,
    duration_ms=1500,
    first_token_ms=200,
    steps=2,
    tool_calls=1,
    status="ok",
    http_status=200,
    finish_reason="stop",
)


def test_a_row_is_flat_with_its_times_and_units() -> None:
    assert row_fields(FULL) == {
        "request_id": "id-1",
        "time": "2026-11-30T12:00:00.123Z",
        "email": "ada@example.com",
        "key_id": "key_1",
        "type": "chat",
        "stream": True,
        "model": "fast",
        "provider": "acme",
        "upstream_model": "acme-mini",
        "tokens_in": 10,
        "tokens_out": 5,
        "tokens_cached": 4,
        "tokens_cache_write": 3,
        "tokens_reasoning": 2,
        "counted": "estimated",
        "cost_usd": 0.001234567,
        "duration_ms": 1500,
        "first_token_ms": 200,
        "steps": 2,
        "tool_calls": 1,
        "status": "ok",
        "http_status": 200,
        "finish_reason": "stop",
        "error_code": None,
    }


def test_a_cost_that_is_not_known_is_not_zero() -> None:
    assert row_fields(_row())["cost_usd"] is None
    assert row_fields(_row(cost_nanos=0))["cost_usd"] == 0


def test_a_row_in_another_zone_tells_its_offset() -> None:
    moment = datetime.fromisoformat("2026-11-30T12:00:00+02:00")
    assert row_fields(_row(started_at=moment))["time"] == "2026-11-30T12:00:00.000+02:00"


def test_json_lines_are_one_object_each() -> None:
    file = io.StringIO()
    rows = [FULL, _row(model="a\nb\u2028é"), _row(attributes={"conversation": "7"})]
    assert write_jsonl(iter(rows), file) == 3
    lines = file.getvalue().split("\n")
    assert lines.pop() == ""
    told = [orjson.loads(line) for line in lines]
    assert told[0] == row_fields(FULL)
    assert told[1]["model"] == "a\nb\u2028é"
    assert told[2]["attributes"] == {"conversation": "7"}


def _csv(*rows: UsageRow) -> list[dict[str, str]]:
    file = io.StringIO(newline="")
    assert write_csv(iter(rows), file) == len(rows)
    return list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))


def test_a_table_has_a_header_and_a_line_for_each_row() -> None:
    told = _csv(FULL, _row(attributes={"conversation": "7"}))
    assert list(told[0]) == list(row_fields(FULL))
    assert told[0]["cost_usd"] == "0.001234567"
    assert told[0]["time"] == "2026-11-30T12:00:00.123Z"
    assert told[0]["error_code"] == ""
    assert {row["stream"] for row in told} <= {"true", "false"}
    assert told[1]["model"] == ""


@pytest.mark.parametrize(
    "model",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=cmd|"/C calc"!A0', '=HYPERLINK("http://x")'],
)
@pytest.mark.parametrize("field", ["model", "email", "error_code", "provider"])
def test_no_text_of_a_client_is_a_formula(field: str, model: str) -> None:
    [told] = _csv(_row(**{field: model}))
    assert told[field] == "'" + model


@pytest.mark.parametrize("model", ["a,b", 'a"b', "a\nb", "a\r\nb", "gpt-4o", "a=b", "ünïcode"])
def test_other_text_survives_as_it_is(model: str) -> None:
    [told] = _csv(_row(model=model))
    assert told["model"] == model


def test_numbers_stay_numbers() -> None:
    [told] = _csv(_row(cost_nanos=-1_000_000_000))
    assert told["cost_usd"] == "-1.0"


def test_a_key_is_told_without_a_secret() -> None:
    assert key_fields(a_key()) == {
        "id": "key_1",
        "key": "sk-Ab3…9xQ2",
        "email": "ada@example.com",
        "name": "Laptop",
        "tier": "default",
        "created_at": "2026-01-02T03:04:05.000Z",
        "last_used_at": None,
        "requests": 0,
        "tokens": 0,
        "revoked": False,
        "revoked_at": None,
        "notifications": None,
        "notes": "",
    }
    told = key_fields(a_key(revoked_at=AT, last_used_at=AT, notifications=Dialect.BARE))
    assert (told["revoked"], told["revoked_at"]) == (True, "2026-11-30T12:00:00.123Z")
    assert (told["last_used_at"], told["notifications"]) == ("2026-11-30T12:00:00.123Z", "bare")


def test_a_row_is_one_line_for_every_reader() -> None:
    file = io.StringIO()
    write_jsonl([_row(model="a\u2028b\u2029c\x85d\r\ne"), FULL], file)
    first, second = file.getvalue().splitlines()
    assert orjson.loads(first)["model"] == "a\u2028b\u2029c\x85d\r\ne"
    assert orjson.loads(second) == row_fields(FULL)
