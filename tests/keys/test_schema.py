import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from sqlalchemy import Connection, Dialect, Select, Text, create_engine, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import asyncpg, psycopg
from sqlalchemy.schema import CreateIndex, CreateTable

from gateway.events import Usage
from gateway.records import ReceiptLine, UsageRow
from keys import account
from keys.columns import IDENTITY, STATE, state_values, usage_row
from keys.ledger import LedgerError, SQLiteLedger
from keys.schema import OPEN, STEPS, SchemaTooNew, metadata, migrate, schema_version, usage_rows


def add_region(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE usage_rows ADD COLUMN region TEXT NOT NULL DEFAULT ''"))


def version(connection: Connection) -> int:
    return connection.execute(select(schema_version.c.version)).scalar_one()


def test_a_later_version_adds_columns_once_and_keeps_the_rows() -> None:
    row = UsageRow(
        id="r", started_at=datetime(2026, 1, 1, tzinfo=UTC), key_id="k", email="a@b", type="chat"
    )
    with create_engine("sqlite://").connect() as connection:
        migrate(connection)
        account.open_rows(connection, [row])
        now = version(connection)
        assert now == 1 + len(STEPS)
        for _ in range(2):
            migrate(connection, (*STEPS, add_region))
            assert version(connection) == now + 1
        columns = {column["name"] for column in inspect(connection).get_columns("usage_rows")}
        assert "region" in columns
        assert columns - {"region"} == set(usage_rows.c.keys())
        assert connection.execute(text("SELECT id, region FROM usage_rows")).all() == [("r", "")]
        with pytest.raises(SchemaTooNew, match=f"version {now + 1}"):
            migrate(connection)


def test_the_first_version_is_brought_forward() -> None:
    row = UsageRow(
        id="r", started_at=datetime(2026, 1, 1, tzinfo=UTC), key_id="k", email="a@b", type="chat"
    )
    line = ReceiptLine(kind="round", name="p/m", usage=Usage(3, 2, 1), cost_nanos=7, duration_ms=9)
    with create_engine("sqlite://").connect() as connection:
        migrate(connection)
        account.open_rows(connection, [row])
        connection.execute(text("ALTER TABLE usage_rows DROP COLUMN receipt"))
        connection.execute(schema_version.update().values(version=1))
        migrate(connection)
        (record,) = connection.execute(select(usage_rows)).all()
        assert usage_row(record).receipt == ()
        settled = replace(row, status="ok", receipt=(line,))
        account.settle_rows(connection, [settled], opened={"r"}, revision=1)
        (record,) = connection.execute(select(usage_rows)).all()
        assert usage_row(record).receipt == (line,)


def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/l.db"
    SQLiteLedger(url).create_key("ada@example.com")
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(schema_version.update().values(version=99))
    engine.dispose()
    with pytest.raises(LedgerError, match="version 99"):
        SQLiteLedger(url).keys()
    with pytest.raises(LedgerError, match="version 99"):
        SQLiteLedger(url).start()


def test_every_field_of_a_row_has_its_column() -> None:
    row = UsageRow(
        id="r", started_at=datetime(2026, 1, 1, tzinfo=UTC), key_id="k", email="a@b", type="chat"
    )
    values = dict(zip(STATE, state_values(row, "ok", 7), strict=True))
    assert {*values, *IDENTITY} == set(usage_rows.c.keys())
    assert [values[name] for name in ("type", "status", "revision")] == ["chat", "ok", 7]


@pytest.mark.parametrize("driver", [psycopg.dialect(), asyncpg.dialect()], ids=["names", "places"])
def test_statements_can_be_prepared_for_other_databases(driver: Dialect) -> None:
    names = (*STATE, *IDENTITY)
    statement, arrange = account._INSERT._compile(driver)
    assert statement.startswith("INSERT INTO usage_rows")
    assert sorted(arrange(names)) == sorted(names)


def test_attributes_may_be_any_mapping(tmp_path: Path) -> None:
    row = UsageRow(
        id="r",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        key_id="k",
        email="a@b",
        type="chat",
        attributes=MappingProxyType({"caller": "+49\ud800"}),
    )
    attributes = dict(zip(STATE, state_values(row, "ok", 7), strict=True))["attributes"]
    assert json.loads(str(attributes)) == {"caller": "+49\ud800"}


def test_the_tables_can_be_made_in_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "CREATE INDEX" in str(CreateIndex(index).compile(dialect=dialect))
    assert "TIMESTAMP WITH TIME ZONE" in str(CreateTable(usage_rows).compile(dialect=dialect))
    assert isinstance(usage_rows.c.attributes.type, Text)


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (select(usage_rows.c.id).where(OPEN), "usage_rows_open"),
        (account._LAST_REVISION, "usage_rows_revision"),
        (
            select(usage_rows)
            .where(usage_rows.c.key_id == "k")
            .order_by(usage_rows.c.started_at, usage_rows.c.id),
            "usage_rows_key",
        ),
        (
            select(usage_rows)
            .where(usage_rows.c.email == "k")
            .order_by(usage_rows.c.started_at.desc(), usage_rows.c.id.desc()),
            "usage_rows_email",
        ),
        (
            select(usage_rows).order_by(usage_rows.c.started_at, usage_rows.c.id),
            "usage_rows_started",
        ),
    ],
)
def test_no_question_needs_a_walk_through_all_rows(query: Select[Any], index: str) -> None:
    with create_engine("sqlite://").connect() as connection:
        migrate(connection)
        statement = query.compile(connection, compile_kwargs={"literal_binds": True})
        plan = connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all()
    assert len(plan) == 1
    assert index in plan[0][-1]
