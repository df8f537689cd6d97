from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from adapters.providers.failures import Complaint, failure, read_retry_after

SECRET = "0123456789abcdef-of-no-known-form"


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 429])
@pytest.mark.parametrize(
    "quoted", [SECRET, f"Bearer {SECRET}", "sk-proj-abcdefghijkl", "x" * 9_000]
)
def test_no_part_of_an_error_has_a_key_or_no_end(status: int, quoted: str) -> None:
    error = failure("up", status, Complaint(quoted, quoted, quoted, quoted), secret=SECRET)
    told = str(error.event())
    assert quoted not in told
    assert SECRET not in told
    assert len(told) < 1_500


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("context_length_exceeded", "context_length_exceeded"),
        ("1214", "1214"),
        ("InvalidParameter.Model-x", "InvalidParameter.Model-x"),
        ("a\r\nb", None),
        ("two words", None),
        ("", None),
    ],
)
def test_a_code_is_one_word(code: str, kept: str | None) -> None:
    assert failure("up", 400, Complaint("no", code=code)).code == kept


def test_the_place_of_a_mistake_is_kept() -> None:
    error = failure("up", 400, Complaint("no", param="messages[0].content"))
    assert error.param == "messages[0].content"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "20"}, 20),
        ({"retry-after": "20", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "1e300"}, 86_400),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86_400),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, 0),
        ({"retry-after": "nan"}, None),
        ({"retry-after-ms": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_a_time_to_wait_is_a_time_that_can_be_told(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert read_retry_after(headers) == seconds


def test_a_date_is_a_time_to_wait() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    seconds = read_retry_after({"retry-after": soon})
    assert seconds is not None
    assert 20 < seconds <= 30
