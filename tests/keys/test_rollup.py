"""Rows added up by day, and the figures made of that."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Usage
from gateway.records import RowStatus, UsageRow
from keys import rollup
from keys.rollup import Group, Total, daily_cells, failed, roll_up
from keys.workbook.figures import Durations, Figures, top

START = datetime(2026, 10, 30, 22, tzinfo=UTC)
ROW = UsageRow(id="1", started_at=START, key_id="key_1", email="a@x.io", type="chat", model="m")

ROWS = st.lists(
    st.builds(
        lambda hours, email, key, model, status, tokens, cost, milliseconds: replace(
            ROW,
            started_at=START + timedelta(hours=hours),
            email=email,
            key_id=key,
            model=model,
            status=status,
            usage=Usage(*tokens),
            cost_nanos=cost,
            duration_ms=milliseconds,
        ),
        st.integers(0, 24 * 5),
        st.sampled_from(["a@x.io", "b@x.io"]),
        st.sampled_from(["key_1", "key_2"]),
        st.sampled_from(["m", "n", ""]),
        st.sampled_from(["ok", "error", "cancelled", "refused", "interrupted", "open"]),
        st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)),
        st.none() | st.integers(0, 10**15),
        st.integers(0, 10**6),
    ),
    max_size=60,
).map(lambda rows: sorted(rows, key=lambda row: row.started_at))


@given(ROWS)
def test_the_lines_are_the_sums_of_their_rows(rows: list[UsageRow]) -> None:
    lines = list(roll_up(rows))
    assert [group for group, _ in lines] == sorted({group for group, _ in lines})
    for group, total in lines:
        ours = [
            row
            for row in rows
            if (row.started_at.date(), row.email, row.key_id, row.model, row.provider) == group
        ]
        assert total == Total(
            requests=len(ours),
            errors=sum(row.status in ("error", "interrupted") for row in ours),
            tokens_in=sum(row.usage.input_tokens for row in ours),
            tokens_out=sum(row.usage.output_tokens for row in ours),
            cost_nanos=sum(row.cost_nanos or 0 for row in ours),
            duration_ms=sum(row.duration_ms for row in ours),
        )
    assert sum(total.requests for _, total in lines) == len(rows)


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("ok", False),
        ("error", True),
        ("interrupted", True),
        ("refused", False),
        ("cancelled", False),
        ("open", False),
    ],
)
def test_errors_are_those_of_the_gateway_or_a_provider(status: RowStatus, counts: bool) -> None:
    assert failed(replace(ROW, status=status)) is counts


def test_days_are_given_out_as_soon_as_they_are_over() -> None:
    def rows() -> Iterator[UsageRow]:
        yield ROW
        yield replace(ROW, started_at=START + timedelta(days=1))
        raise AssertionError("the first line waits for more than the next day's first row")

    group, _ = next(roll_up(rows()))
    assert group.day == date(2026, 10, 30)


def test_made_up_models_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollup, "FULLEST_DAY", 10)
    rows = [replace(ROW, model=f"m{number:03}") for number in range(100)]
    lines = list(roll_up([*rows, *rows]))
    assert len(lines) == 11
    assert lines[0] == (Group(START.date(), "a@x.io", "key_1", "(other)", ""), Total(180))
    assert all(total.requests == 2 for _, total in lines[1:])


def test_a_line_is_in_dollars_and_seconds() -> None:
    group = Group(date(2026, 1, 1), "a@x.io", "key_1", "m", "openai")
    total = Total(7, 1, 100, 20, cost_nanos=1_500_000_000, duration_ms=2500)
    assert daily_cells(group, total) == (
        46023, "a@x.io", "key_1", "m", "openai", 7, 1, 100, 20, 1.5, 2.5,
    )  # fmt: skip


@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 1]))
def test_quantiles_are_right_to_a_hundredth(lengths: list[int], share: float) -> None:
    durations = Durations()
    for length in lengths:
        durations.add(length)
    exact = sorted(lengths)[max(0, -int(-share * len(lengths) // 1) - 1)]
    assert durations.quantile(share) * 1000 == pytest.approx(exact, rel=0.0101)


@pytest.mark.parametrize(
    ("last_day", "month_before", "as_far"),
    [
        (date(2026, 11, 17), date(2026, 10, 1), date(2026, 10, 17)),
        (date(2026, 3, 31), date(2026, 2, 1), date(2026, 2, 28)),
        (date(2026, 1, 1), date(2025, 12, 1), date(2025, 12, 1)),
        (date(2028, 2, 29), date(2028, 1, 1), date(2028, 1, 29)),
    ],
    ids=str,
)
def test_a_month_is_compared_with_as_much_of_the_last(
    last_day: date, month_before: date, as_far: date
) -> None:
    figures = Figures(last_day)
    assert figures.month_before == month_before
    assert figures.same_day_before == as_far
    assert (min(figures.days), max(figures.days)) == (month_before, last_day)


def test_rankings_are_by_cost_then_by_tokens() -> None:
    totals = {
        "cheap": Total(requests=9, tokens_in=900, cost_nanos=1),
        "dear": Total(requests=1, tokens_in=1, cost_nanos=2),
        "free": Total(requests=5, tokens_in=50),
        "idle": Total(requests=6),
    }
    assert [name for name, _ in top(totals, 3)] == ["dear", "cheap", "free"]


def test_names_beyond_counting_leave_the_heavy_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keys.workbook.figures._MOST_NAMES", 10)
    figures = Figures(date(2026, 11, 17))
    group = Group(date(2026, 11, 2), "a@x.io", "key_1", "dear", "")
    figures.add(group, Total(1, cost_nanos=100))
    for number in range(100):
        figures.add(group._replace(model=f"m{number}"), Total(1, cost_nanos=1))
    assert len(figures.models) <= 10
    assert figures.models["dear"].cost_nanos == 100
    assert figures.sum(date(2026, 11, 1), date(2026, 11, 30)).requests == 101
