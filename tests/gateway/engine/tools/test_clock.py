from datetime import UTC, datetime

import orjson
import pytest

from gateway.engine.tools.clock import CurrentTime
from gateway.engine.tools.tool import ToolContext, ToolFailed

CONTEXT = ToolContext("request", "call", "ada@example.com", lambda *_: None)
WINTER = datetime(2026, 1, 15, 23, 30, tzinfo=UTC)
SUMMER = datetime(2026, 7, 15, 12, 0, tzinfo=UTC)


async def ask(place: str | None, now: datetime = WINTER, **settings: str) -> dict[str, str]:
    clock = CurrentTime(now=lambda: now, **settings)
    arguments = {} if place is None else {"timezone": place}
    return orjson.loads(await clock.run(arguments, CONTEXT))


@pytest.mark.parametrize(
    ("place", "zone", "offset"),
    [
        (None, "UTC", "+00:00"),
        ("  ", "UTC", "+00:00"),
        ("Europe/Oslo", "Europe/Oslo", "+01:00"),
        ("europe/oslo", "Europe/Oslo", "+01:00"),
        ("Oslo", "Europe/Oslo", "+01:00"),
        ("TOKYO", "Asia/Tokyo", "+09:00"),
        ("new york", "America/New_York", "-05:00"),
        ("New_York", "America/New_York", "-05:00"),
        ("São Paulo", "America/Sao_Paulo", "-03:00"),
        ("Tokyo, Japan", "Asia/Tokyo", "+09:00"),
        ("Istanbul", "Europe/Istanbul", "+03:00"),
        ("Louisville", "America/Kentucky/Louisville", "-05:00"),
        ("Norway", "Europe/Oslo", "+01:00"),
        ("Japan", "Asia/Tokyo", "+09:00"),
        ("San Francisco", "America/Los_Angeles", "-08:00"),
        ("UTC", "UTC", "+00:00"),
        ("UTC+2", "UTC+02:00", "+02:00"),
        ("gmt-5:30", "UTC-05:30", "-05:30"),
        ("+0545", "UTC+05:45", "+05:45"),
        ("Etc/GMT+2", "Etc/GMT+2", "-02:00"),
    ],
)
async def test_a_place_is_found_by_any_usual_name(
    place: str | None, zone: str, offset: str
) -> None:
    answer = await ask(place)
    assert (answer["timezone"], answer["utc_offset"]) == (zone, offset)


async def test_the_answer_is_local_time_with_its_weekday() -> None:
    assert await ask("Tokyo") == {
        "time": "2026-01-16T08:30:00+09:00",
        "timezone": "Asia/Tokyo",
        "utc_offset": "+09:00",
        "weekday": "Friday",
    }


async def test_summer_time_is_kept() -> None:
    assert (await ask("Oslo", SUMMER))["time"] == "2026-07-15T14:00:00+02:00"


async def test_the_default_zone_can_be_set() -> None:
    assert (await ask(None, timezone="Oslo"))["timezone"] == "Europe/Oslo"


@pytest.mark.parametrize(
    ("place", "hint"),
    [
        ("Osloo", "Europe/Oslo"),
        ("Asia/Tokio", "Asia/Tokyo"),
        ("Middle-earth, far away", "such as Europe/Oslo"),
        ("UTC+15", "between -14:00 and +14:00"),
        ("../../etc/passwd", "such as Europe/Oslo"),
        ("x" * 100_000, "such as Europe/Oslo"),
    ],
    ids=lambda value: value[:20],
)
async def test_an_unknown_place_fails_with_a_hint(place: str, hint: str) -> None:
    with pytest.raises(ToolFailed, match=hint.replace("+", r"\+")) as failure:
        await ask(place)
    assert len(str(failure.value)) < 300


async def test_a_place_that_is_no_text_fails() -> None:
    with pytest.raises(ToolFailed, match="has to be text"):
        await CurrentTime().run({"timezone": 2}, CONTEXT)


def test_a_wrong_default_zone_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="timezone: 'Osloo' is not"):
        CurrentTime(timezone="Osloo")
