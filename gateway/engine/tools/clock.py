"""The time, so that a model need not guess it."""

import difflib
import importlib.resources
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

import orjson

from gateway.engine.tools.tool import ToolContext, ToolFailed
from gateway.events import Json

_OFFSET = re.compile(
    r"(?:utc|gmt|z)?\s*(?P<sign>[+\-−])\s*(?P<hours>\d{1,2})(?::?(?P<minutes>[0-5]\d))?", re.I
)

# Large places and abbreviations that people name and the zone database does not.
_ALSO: Mapping[str, str] = {
    "Z": "UTC",
    "Zulu": "UTC",
    "PST": "America/Los_Angeles",
    "PDT": "America/Los_Angeles",
    "MDT": "America/Denver",
    "CDT": "America/Chicago",
    "EDT": "America/New_York",
    "CEST": "Europe/Paris",
    "EEST": "Europe/Athens",
    "JST": "Asia/Tokyo",
    "KST": "Asia/Seoul",
    "AEST": "Australia/Brisbane",
    "Atlanta": "America/New_York",
    "Austin": "America/Chicago",
    "Bangalore": "Asia/Kolkata",
    "Barcelona": "Europe/Madrid",
    "Beijing": "Asia/Shanghai",
    "Bengaluru": "Asia/Kolkata",
    "Bergen": "Europe/Oslo",
    "Boston": "America/New_York",
    "Cape Town": "Africa/Johannesburg",
    "China": "Asia/Shanghai",
    "Cologne": "Europe/Berlin",
    "Dallas": "America/Chicago",
    "Delhi": "Asia/Kolkata",
    "Edinburgh": "Europe/London",
    "England": "Europe/London",
    "Frankfurt": "Europe/Berlin",
    "Geneva": "Europe/Zurich",
    "Germany": "Europe/Berlin",
    "Great Britain": "Europe/London",
    "Hamburg": "Europe/Berlin",
    "Hanoi": "Asia/Ho_Chi_Minh",
    "Houston": "America/Chicago",
    "LA": "America/Los_Angeles",
    "Las Vegas": "America/Los_Angeles",
    "Lyon": "Europe/Paris",
    "Manchester": "Europe/London",
    "Marseille": "Europe/Paris",
    "Miami": "America/New_York",
    "Milan": "Europe/Rome",
    "Montreal": "America/Toronto",
    "Mumbai": "Asia/Kolkata",
    "Munich": "Europe/Berlin",
    "NYC": "America/New_York",
    "Naples": "Europe/Rome",
    "New Delhi": "Asia/Kolkata",
    "New Zealand": "Pacific/Auckland",
    "Osaka": "Asia/Tokyo",
    "Ottawa": "America/Toronto",
    "Philadelphia": "America/New_York",
    "Portugal": "Europe/Lisbon",
    "Porto": "Europe/Lisbon",
    "Quebec": "America/Toronto",
    "Rio de Janeiro": "America/Sao_Paulo",
    "SF": "America/Los_Angeles",
    "Saint Petersburg": "Europe/Moscow",
    "San Diego": "America/Los_Angeles",
    "San Francisco": "America/Los_Angeles",
    "Scotland": "Europe/London",
    "Seattle": "America/Los_Angeles",
    "Seville": "Europe/Madrid",
    "Spain": "Europe/Madrid",
    "Silicon Valley": "America/Los_Angeles",
    "UK": "Europe/London",
    "United Kingdom": "Europe/London",
    "Wales": "Europe/London",
    "Washington": "America/New_York",
    "Washington DC": "America/New_York",
}


_PARAMETERS: Json = {
    "type": "object",
    "properties": {
        "timezone": {
            "type": "string",
            "description": "IANA time zone, city or UTC offset. Default: the configured zone.",
        }
    },
    "additionalProperties": False,
}

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class CurrentTime:
    """The tool `current_time`. `now` has to give an aware time."""

    name = "current_time"
    description = (
        "Tells the current date and time. Give an IANA time zone such as 'Europe/Oslo', a city that "
        "has one ('Oslo'), or an offset ('UTC+2'). For several places call it once for each."
    )
    parameters: Json = _PARAMETERS

    def __init__(
        self,
        *,
        timezone: str = "UTC",
        timeout: float = 2.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.timeout = timeout
        self._now = now
        try:
            find(timezone)
        except ToolFailed as error:
            raise ValueError(f"timezone: {error}") from error
        self._default = timezone

    async def run(self, arguments: Mapping[str, object], context: ToolContext, /) -> str:
        place = arguments.get("timezone")
        if place is not None and not isinstance(place, str):
            raise ToolFailed("timezone has to be text, like 'Europe/Oslo'.")
        name, zone = find((place or "").strip() or self._default)
        local = self._now().astimezone(zone)
        offset = local.strftime("%z")
        return orjson.dumps(
            {
                "time": local.isoformat(timespec="seconds"),
                "timezone": name,
                "utc_offset": f"{offset[:3]}:{offset[3:5]}",
                "weekday": _WEEKDAYS[local.weekday()],
            }
        ).decode()


def find(place: str) -> tuple[str, tzinfo]:
    """The time zone that a text names, and its proper name. Raises `ToolFailed`."""
    if match := _OFFSET.fullmatch(place.strip()):
        return _fixed(match)
    known = _index()
    # "Tokyo, Japan" means Tokyo; "Europe/Oslo" is found whole before it is taken apart.
    for part in (place, place.partition(",")[0], place.rpartition("/")[2]):
        if name := known.get(_plain(part)):
            return name, ZoneInfo(name)
    raise ToolFailed(f"{place[:80]!r} is not a time zone that I know.{_suggest(place, known)}")


def _fixed(match: re.Match[str]) -> tuple[str, tzinfo]:
    hours, minutes = int(match["hours"]), int(match["minutes"] or 0)
    offset = timedelta(hours=hours, minutes=minutes)
    if offset > timedelta(hours=14):
        raise ToolFailed("A UTC offset is between -14:00 and +14:00.")
    sign = "+" if match["sign"] == "+" else "-"
    name = f"UTC{sign}{hours:02}:{minutes:02}"
    return name, timezone(offset if sign == "+" else -offset, name)


def _suggest(place: str, known: Mapping[str, str]) -> str:
    close = difflib.get_close_matches(_plain(place[:80]), known, n=5, cutoff=0.6)
    names = list(dict.fromkeys(known[key] for key in close))[:3]
    if names:
        return f" Did you mean {' or '.join(names)}?"
    return " Give an IANA name such as Europe/Oslo, or an offset such as UTC+2."


def _plain(name: str) -> str:
    """A name as it is compared: without case, accents and the kind of space."""
    split = unicodedata.normalize("NFKD", name.strip().casefold())
    kept = "".join(char for char in split if not unicodedata.combining(char))
    return re.sub(r"[\s_\-.]+", " ", kept).strip()


@cache
def _index() -> Mapping[str, str]:
    """Every name that means exactly one time zone. Full names win over cities, those over countries,
    and these over old names such as `Japan`."""
    zones = available_timezones() - {"localtime", "Factory"}
    countries = {code: country for code, country, *_ in _rows("iso3166.tab")}
    main: dict[str, str] = {}
    by_city: dict[str, set[str]] = {}
    by_country: dict[str, set[str]] = {}
    for code, _, name, *_ in _rows("zone.tab"):
        if name in zones:
            main[_plain(name.rpartition("/")[2])] = name
            by_country.setdefault(_plain(countries.get(code, code)), set()).add(name)
    for name in zones:
        area, _, city = name.rpartition("/")
        if area and area != "Etc":
            by_city.setdefault(_plain(city), set()).add(name)
    known = {_plain(name): name for name in sorted(zones)}
    known.update(
        (place, next(iter(names))) for place, names in by_country.items() if len(names) == 1
    )
    for city, names in by_city.items():
        # Old names of one zone (Asia/Istanbul, America/Louisville) do not make a city ambiguous.
        if choice := main.get(city) or (next(iter(names)) if len(names) == 1 else None):
            known[city] = choice
    known.update((_plain(place), name) for place, name in _ALSO.items() if name in zones)
    known.update((_plain(name), name) for name in sorted(zones) if "/" in name)
    return known


def _rows(table: str) -> Iterable[tuple[str, ...]]:
    text = (importlib.resources.files("tzdata") / "zoneinfo" / table).read_text("utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            yield tuple(line.split("\t"))
