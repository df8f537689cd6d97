"""Names of tabs, headers and cells, which spreadsheet and workbook share."""

from datetime import UTC, datetime, timedelta, timezone
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.events import Usage
from gateway.records import ApiKey, UsageRow
from keys.tabs import (
    DAILY_COLUMNS,
    KEY_COLUMNS,
    LONGEST_TEXT,
    RESERVED,
    USAGE_COLUMNS,
    Cell,
    Column,
    Kind,
    continued,
    key_cells,
    like_formula,
    plain,
    serial,
    tab_name,
    usage_cells,
)

MOMENT = datetime(2026, 11, 17, 12, 30, 15, 250_000, tzinfo=UTC)
KEY = ApiKey(
    id="key_1",
    email="test@example.com",
    name="=1+1",
    tier="default",
    masked="sk-Ab3d…9xQ2",
    created_at=MOMENT,
    revoked_at=MOMENT,
    notes="@home",
    requests=3,
    tokens=120,
)
ROW = UsageRow(
    id="0198",
    started_at=MOMENT,
    key_id="key_1",
    email="test@example.com",
    type="chat",
    model="gpt-5.2",
    provider="openai",
    usage=Usage(100, 20),
    cost_nanos=1_250_000,
    duration_ms=1234,
    status="ok",
)


def by_header(columns: tuple[Column, ...], cells: tuple[Cell, ...]) -> dict[str, Cell]:
    return {column.header: cell for column, cell in zip(columns, cells, strict=True)}


def test_headers_begin_with_those_that_were_agreed() -> None:
    def headers(columns: tuple[Column, ...]) -> str:
        return ", ".join(column.header for column in columns)

    assert headers(KEY_COLUMNS) == (
        "API Key, User Email, Key Name, Tier, Created At, Last Used, Requests, Tokens, Revoked, Notes,"
        " Key ID"
    )
    assert headers(USAGE_COLUMNS) == (
        "Timestamp, Email, Type, Model, Provider, Tokens In, Tokens Out, Cost, Duration, Status,"
        " Request ID, Key ID"
    )
    assert headers(DAILY_COLUMNS) == (
        "Day, Email, Key ID, Model, Provider, Requests, Errors, Tokens In, Tokens Out, Cost, Duration"
    )


def test_a_key_is_under_its_headers_without_anything_secret() -> None:
    assert by_header(KEY_COLUMNS, key_cells(KEY)) == {
        "API Key": "sk-Ab3d…9xQ2",
        "User Email": "test@example.com",
        "Key Name": "=1+1",
        "Tier": "default",
        "Created At": serial(MOMENT),
        "Last Used": None,
        "Requests": 3,
        "Tokens": 120,
        "Revoked": True,
        "Notes": "@home",
        "Key ID": "key_1",
    }


def test_a_usage_row_is_under_its_headers_in_dollars_and_seconds() -> None:
    assert by_header(USAGE_COLUMNS, usage_cells(ROW)) == {
        "Timestamp": serial(MOMENT),
        "Email": "test@example.com",
        "Type": "chat",
        "Model": "gpt-5.2",
        "Provider": "openai",
        "Tokens In": 100,
        "Tokens Out": 20,
        "Cost": 0.00125,
        "Duration": 1.234,
        "Status": "ok",
        "Request ID": "0198",
        "Key ID": "key_1",
    }


def test_kinds_fit_what_is_in_the_cells() -> None:
    types = {Kind.TEXT: str, Kind.COUNT: int, Kind.FLAG: bool}
    for columns, cells in ((KEY_COLUMNS, key_cells(KEY)), (USAGE_COLUMNS, usage_cells(ROW))):
        for column, cell in zip(columns, cells, strict=True):
            assert cell is None or type(cell) is types.get(column.kind, float), column


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (datetime(1900, 3, 1, tzinfo=UTC), 61),
        (datetime(2026, 1, 1, tzinfo=UTC), 46023),
        (datetime(2026, 1, 1, 18, tzinfo=UTC), 46023.75),
        (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), 46023),
    ],
    ids=str,
)
def test_a_moment_is_days_in_utc(moment: datetime, number: float) -> None:
    assert serial(moment) == number


@pytest.mark.parametrize(
    ("email", "name"),
    [
        ("test@example.com", "test_at_example_dot_com"),
        ("Test@Example.COM", "test_at_example_dot_com"),
        ("a.b+c-d@x.io", "a_dot_b+c-d_at_x_dot_io"),
        ("o'neil/*?[]:\\@x.io", "o_neil________at_x_dot_io"),
        ("ünal@x.io", "ünal_at_x_dot_io"),
    ],
)
def test_a_tab_is_named_after_the_address(email: str, name: str) -> None:
    assert tab_name(email, []) == name


def test_addresses_with_one_name_get_two_tabs() -> None:
    first = tab_name("a.b@x.io", [])
    second = tab_name("a_dot_b@x.io", [first.upper()])
    assert first == "a_dot_b_at_x_dot_io"
    assert second == "a_dot_b_at_x_dot_io_0195c1"
    assert tab_name("a_dot_b@x.io", [first, second]) == "a_dot_b_at_x_dot_io_0195c1e"


def test_long_addresses_differ_in_their_tabs() -> None:
    one = tab_name("maximilian.mustermann.1@subsidiary.example.com", [], 31)
    other = tab_name("maximilian.mustermann.2@subsidiary.example.com", [one], 31)
    assert one != other
    assert len(one) == len(other) == 31
    assert one.startswith("maximilian_dot_musterman")


EMAILS = st.one_of(
    st.emails(),
    st.text(min_size=1, max_size=300),
    st.builds("{}@{}".format, st.text(alphabet="ab._'", min_size=1, max_size=4), st.just("x.io")),
)


@given(st.lists(EMAILS, unique_by=str.lower, max_size=12), st.sampled_from([31, 100]))
@example(["dashboard", "history", "_daily"], 31)
def test_every_address_gets_a_name_of_its_own_that_excel_takes(
    emails: list[str], longest: int
) -> None:
    names: list[str] = []
    for email in emails:
        name = tab_name(email, names, longest)
        assert name.casefold() not in {taken.casefold() for taken in (*names, *RESERVED)}
        assert 1 <= len(name.encode("utf-16-le")) // 2 <= longest
        assert not set(name) & set("[]:*?/\\' ")
        names.append(name)


def test_a_tab_goes_on_under_a_name_of_its_own() -> None:
    long = "maximilian_dot_musterma_b19b01x"
    assert continued("short", 1, 31) == "short"
    assert continued("short", 2, 31) == "short (2)"
    assert continued(long, 1, 31) == long
    assert len(continued(long, 2, 31)) == 31
    assert continued(long, 2, 31) != continued(long[:-1] + "y", 2, 31)
    assert continued(long, 2, 31).endswith(" (2)")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"], ids=repr)
def test_what_a_program_would_compute_is_told(start: str) -> None:
    assert like_formula(start + "1")
    assert not like_formula("1" + start)


@given(st.text())
@example("\r=cmd|' /C calc'!A0")
@example("\ud800\x00\uffff")
@example("🙂" * 20_000)
@example("x" * 40_000)
def test_any_text_fits_into_a_cell(text: str) -> None:
    cell = plain(text)
    assert len(cell.encode("utf-16-le")) // 2 <= LONGEST_TEXT
    parsed = ElementTree.fromstring(
        b"<t>" + cell.replace("&", "").replace("<", "").encode() + b"</t>"
    )
    assert (parsed.text or "") == cell.replace("&", "").replace("<", "")
    assert plain(cell) == cell


@given(st.text(alphabet=st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=200))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert plain(text) == text
