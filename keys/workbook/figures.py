"""What the dashboard shows, added up while the rows go by."""

import heapq
import math
from collections.abc import Iterator
from datetime import UTC, date, timedelta

from gateway.records import UsageRow
from keys.rollup import Group, Total

_MOST_NAMES = 20_000


class Durations:
    """Quantiles to within one per cent, from counts of lengths that grow by two per cent each."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0

    def add(self, milliseconds: int) -> None:
        step = math.ceil(math.log(max(milliseconds, 1)) / _STEP)
        self._counts[step] = self._counts.get(step, 0) + 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """In seconds, 0 if there is nothing yet."""
        rank = math.ceil(share * self.count)
        for step in sorted(self._counts):
            rank -= self._counts[step]
            if rank <= 0:
                return math.exp((step - 0.5) * _STEP) / 1000
        return 0.0


_STEP = math.log(1.02)


class Figures:
    """This month against the last, from the day that is the last one shown."""

    def __init__(self, last_day: date) -> None:
        self.last_day = last_day
        self.month = last_day.replace(day=1)
        self.month_before = (self.month - timedelta(days=1)).replace(day=1)
        self.days = {day: Total() for day in days(self.month_before, last_day)}
        self.models: dict[str, Total] = {}
        self.users: dict[str, Total] = {}
        self.durations: dict[str, Durations] = {}
        self.unpriced = 0
        self.rows = 0

    def see(self, row: UsageRow) -> None:
        """What no roll-up has: durations of answers, and rows without a price. All rows come by here."""
        self.rows += 1
        if row.status != "ok" or not self.month <= _day(row) <= self.last_day:
            return
        self.unpriced += row.cost_nanos is None
        if len(self.durations) < _MOST_NAMES or row.model in self.durations:
            self.durations.setdefault(row.model, Durations()).add(row.duration_ms)

    def add(self, group: Group, total: Total) -> None:
        if (day := self.days.get(group.day)) is None:
            return
        day.add(total)
        if group.day >= self.month:
            _add(self.models, group.model, total)
            _add(self.users, group.email, total)

    def sum(self, first: date, last: date) -> Total:
        result = Total()
        for day in days(first, last):
            result.add(self.days.get(day, Total()))
        return result

    @property
    def same_day_before(self) -> date:
        """The last month's day that is as far into it as the last day is into this one."""
        end = self.month - timedelta(days=1)
        return min(end, self.month_before + (self.last_day - self.month))

    def slowest(self, count: int) -> list[tuple[str, Durations]]:
        return heapq.nlargest(count, self.durations.items(), lambda item: item[1].quantile(0.95))

    def failing(self, count: int) -> list[tuple[str, Total]]:
        failing = [item for item in self.models.items() if item[1].errors]
        return heapq.nsmallest(count, failing, lambda item: (-item[1].errors, item[0]))


def top(totals: dict[str, Total], count: int) -> list[tuple[str, Total]]:
    """The most expensive; where there are no prices, those with the most tokens."""
    return heapq.nsmallest(count, totals.items(), lambda item: (*_weight(item[1]), item[0]))


def days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def _day(row: UsageRow) -> date:
    return row.started_at.astimezone(UTC).date()


def _weight(total: Total) -> tuple[int, int, int]:
    return (-total.cost_nanos, -total.tokens, -total.requests)


def _add(totals: dict[str, Total], name: str, total: Total) -> None:
    totals.setdefault(name, Total()).add(total)
    if len(totals) > _MOST_NAMES:
        # Names are the clients': those of the smallest weight go, before they fill the memory.
        kept = top(totals, _MOST_NAMES // 2)
        totals.clear()
        totals.update(kept)
