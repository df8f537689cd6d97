"""Usage by day, user, key and model: what a dashboard needs of a ledger, in a hundredth of the rows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from operator import itemgetter
from typing import Final, NamedTuple

from gateway.records import UsageRow
from keys.tabs import Cell, plain, serial

OTHER: Final = "(other)"
FULLEST_DAY = 20_000
"""Groups of one day that are kept apart. Models are what clients name them: whoever makes up a name for
every request would fill the memory."""


class Group(NamedTuple):
    """What the rows of one line have in common."""

    day: date
    email: str
    key_id: str
    model: str
    provider: str


@dataclass(slots=True)
class Total:
    """Sums over rows, in whole numbers, so that the order of adding does not matter."""

    requests: int = 0
    errors: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_nanos: int = 0
    """Rows without a price add nothing."""
    duration_ms: int = 0

    @property
    def tokens(self) -> int:
        return self.tokens_in + self.tokens_out

    def count(self, row: UsageRow) -> None:
        self.requests += 1
        self.errors += failed(row)
        self.tokens_in += row.usage.input_tokens
        self.tokens_out += row.usage.output_tokens
        self.cost_nanos += row.cost_nanos or 0
        self.duration_ms += row.duration_ms

    def add(self, other: "Total") -> None:
        self.requests += other.requests
        self.errors += other.errors
        self.tokens_in += other.tokens_in
        self.tokens_out += other.tokens_out
        self.cost_nanos += other.cost_nanos
        self.duration_ms += other.duration_ms


def failed(row: UsageRow) -> bool:
    """Whether the gateway or a provider failed, rather than the request or who sent it."""
    return row.status in ("error", "interrupted")


def group_of(row: UsageRow) -> Group:
    day = row.started_at.astimezone(UTC).date()
    return Group(day, row.email, row.key_id, row.model, row.provider)


def roll_up(rows: Iterable[UsageRow]) -> Iterator[tuple[Group, Total]]:
    """Lines of `_daily`, day by day. The rows come in order of their start, as `Ledger.usage` has them.

    Keeps one day in memory. Beyond `FULLEST_DAY` groups of a day, further ones are added up under
    the model `(other)` of their key.
    """
    day: dict[Group, Total] = {}
    current: date | None = None
    for row in rows:
        group = group_of(row)
        if group.day != current:
            yield from sorted(day.items(), key=itemgetter(0))
            day, current = {}, group.day
        if group not in day and len(day) >= FULLEST_DAY:
            group = group._replace(model=OTHER, provider="")
        day.setdefault(group, Total()).count(row)
    yield from sorted(day.items(), key=itemgetter(0))


def daily_cells(group: Group, total: Total) -> tuple[Cell, ...]:
    """In the order of `tabs.DAILY_COLUMNS`: cost in US dollars, duration in seconds, both added up."""
    return (
        day_serial(group.day),
        plain(group.email),
        plain(group.key_id),
        plain(group.model),
        plain(group.provider),
        total.requests,
        total.errors,
        total.tokens_in,
        total.tokens_out,
        total.cost_nanos / 1e9,
        total.duration_ms / 1000,
    )


def day_serial(day: date) -> int:
    return int(serial(datetime.combine(day, time.min, UTC)))
