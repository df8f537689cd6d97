"""What every ledger promises, whatever it is kept in."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest

from gateway.events import Usage
from gateway.ports import Ledger
from gateway.records import ApiKey, Dialect, UsageRow
from keys.ledger import SQLiteLedger

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

LEDGERS: dict[str, tuple[Callable[[str], Ledger], str]] = {
    "sqlite": (SQLiteLedger, "sqlite:///{path}/ledger.db"),
}


@pytest.fixture(params=LEDGERS)
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Ledger]]:
    """Makes ledgers over one medium; closes them at the end."""
    kind, url = LEDGERS[request.param]
    made: list[Ledger] = []

    def connect() -> Ledger:
        made.append(kind(url.format(path=tmp_path)))
        return made[-1]

    yield connect
    for ledger in made:
        ledger.close()


@pytest.fixture
def ledger(connect: Callable[[], Ledger]) -> Ledger:
    ledger = connect()
    ledger.start()
    return ledger


@pytest.fixture
def key(ledger: Ledger) -> ApiKey:
    return ledger.create_key("ada@example.com", "laptop").key


def opened(key: ApiKey, **changes: object) -> UsageRow:
    row = UsageRow(
        id=str(uuid4()),
        started_at=NOON,
        key_id=key.id,
        email=key.email,
        type="chat",
        model="fast",
        stream=True,
    )
    return replace(row, **changes)  # type: ignore[arg-type]  # any field, by name


def settled(row: UsageRow, **changes: object) -> UsageRow:
    final = replace(
        row,
        provider="openai",
        upstream_model="gpt-x",
        usage=Usage(100, 20, 60, 5, 7),
        cost_nanos=1_234_567_890_123,
        duration_ms=1500,
        first_token_ms=210,
        steps=2,
        tool_calls=1,
        status="ok",
        http_status=200,
        finish_reason="stop",
        attributes={"conversation": "c-1", "läuft": "☂"},
    )
    return replace(final, **changes)  # type: ignore[arg-type]  # any field, by name


async def until(condition: Callable[[], object]) -> None:
    """Waits for what was handed over, which nobody is told of."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


async def shown(ledger: Ledger, row: UsageRow) -> None:
    await until(lambda: ledger.row(row.id) == row)


async def settle_and_wait(ledger: Ledger, row: UsageRow) -> UsageRow:
    await ledger.open(row)
    final = settled(row)
    ledger.settle(final)
    await shown(ledger, final)
    return final


# Keys.


def test_a_new_key_is_found_by_its_secret_at_once(ledger: Ledger) -> None:
    minted = ledger.create_key("ada@example.com", "laptop", "gold", Dialect.INLINE)
    key = minted.key
    assert (key.email, key.name, key.tier) == ("ada@example.com", "laptop", "gold")
    assert key.notifications is Dialect.INLINE
    assert not key.revoked
    assert abs(datetime.now(UTC) - key.created_at) < timedelta(seconds=10)
    assert ledger.find(minted.secret) == key == ledger.key(key.id)


def test_a_wrong_secret_is_nobodys(ledger: Ledger) -> None:
    secret = ledger.create_key("ada@example.com").secret
    wrong = [
        "",
        "sk-",
        secret[:-1],
        secret + "x",
        secret.swapcase(),
        "ключ",
        "sk-\ud800",
        " " + secret,
    ]
    assert [ledger.find(other) for other in wrong] == [None] * len(wrong)


def test_a_ledger_that_was_not_started_finds_keys_too(connect: Callable[[], Ledger]) -> None:
    minted = connect().create_key("ada@example.com")
    assert connect().find(minted.secret) == minted.key
    assert connect().find("sk-nothing") is None
    assert list(connect().keys()) == [minted.key]


def test_keys_are_listed_oldest_first(ledger: Ledger) -> None:
    made = [ledger.create_key(f"u{number}@example.com").key for number in range(5)]
    assert list(ledger.keys()) == made
    assert sorted(key.id for key in made) == sorted({key.id for key in made})


def test_an_address_has_one_spelling(ledger: Ledger, key: ApiKey) -> None:
    assert ledger.create_key("Ada@Example.COM").key.email == key.email


@pytest.mark.parametrize(
    ("email", "name", "tier"),
    [
        pytest.param("ada", "", "default", id="no at sign"),
        pytest.param("a@b@c", "", "default", id="two at signs"),
        pytest.param("@example.com", "", "default", id="nobody"),
        pytest.param("ada@", "", "default", id="nowhere"),
        pytest.param("a da@example.com", "", "default", id="space"),
        pytest.param("ada@example.com\n", "", "default", id="line break"),
        pytest.param("ada@exam\u200bple.com", "", "default", id="invisible"),
        pytest.param("ada@example.com" + "m" * 240, "", "default", id="long address"),
        pytest.param("ada@example.com", "n" * 101, "default", id="long name"),
        pytest.param("ada@example.com", "a\tb", "default", id="tab in a name"),
        pytest.param("ada@example.com", "a\u2028b", "default", id="line separator"),
        pytest.param("ada@example.com", "", " ", id="no tier"),
    ],
)
def test_a_key_is_not_made_for_what_cannot_be(
    ledger: Ledger, email: str, name: str, tier: str
) -> None:
    with pytest.raises(ValueError, match=r"address|name|tier"):
        ledger.create_key(email, name, tier)
    assert not ledger.keys()


def test_a_revoked_key_is_found_as_such_and_keeps_its_first_time(ledger: Ledger) -> None:
    minted = ledger.create_key("ada@example.com")
    revoked = ledger.revoke_key(minted.key.id)
    assert revoked.revoked
    assert ledger.find(minted.secret) == revoked
    assert ledger.revoke_key(minted.key.id) == revoked
    with pytest.raises(KeyError, match="no key"):
        ledger.revoke_key("key_nothing")


def test_a_rotated_key_goes_on_as_another(ledger: Ledger) -> None:
    old = ledger.create_key("ada@example.com", "laptop", "gold", Dialect.BARE)
    new = ledger.rotate_key(old.key.id)
    assert new.secret != old.secret
    assert new.key.id != old.key.id
    assert (new.key.email, new.key.name, new.key.tier) == ("ada@example.com", "laptop", "gold")
    assert new.key.notifications is Dialect.BARE
    assert ledger.find(new.secret) == new.key
    found = ledger.find(old.secret)
    assert found is not None
    assert found.revoked


def test_a_revoked_key_is_not_rotated_back_to_life(ledger: Ledger, key: ApiKey) -> None:
    ledger.revoke_key(key.id)
    with pytest.raises(ValueError, match="revoked"):
        ledger.rotate_key(key.id)
    with pytest.raises(KeyError, match="no key"):
        ledger.rotate_key("key_nothing")
    assert len(ledger.keys()) == 1


def test_a_key_is_named_in_four_ways(ledger: Ledger) -> None:
    minted = ledger.create_key("ada@example.com")
    key = minted.key
    ways = [key.id, key.id[:-3], key.masked, key.masked.replace("…", "..."), minted.secret]
    assert [ledger.key(way) for way in ways] == [key] * 5


def test_an_unclear_name_says_what_it_may_be(ledger: Ledger) -> None:
    keys = [ledger.create_key(f"u{number}@example.com").key for number in range(3)]
    with pytest.raises(KeyError) as caught:
        ledger.key("key_")
    for key in keys:
        assert key.id in caught.value.args[0]
        assert key.email in caught.value.args[0]


@pytest.mark.parametrize("reference", ["", "  ", "key_nothing", "%", "_", "ada@example.com"])
def test_an_unknown_name_is_refused_with_a_reason(ledger: Ledger, reference: str) -> None:
    ledger.create_key("ada@example.com")
    with pytest.raises(KeyError, match=r"there is no key|no key was named"):
        ledger.key(reference)


def test_a_secret_is_never_repeated_in_an_error(
    connect: Callable[[], Ledger], ledger: Ledger
) -> None:
    secret = ledger.create_key("ada@example.com").secret
    for reference in (secret[:-1] + "!", secret[:30], secret + "x"):
        with pytest.raises(KeyError) as caught:
            ledger.key(reference)
        assert secret[8:20] not in repr(caught.value)


def test_a_secret_is_in_no_representation(ledger: Ledger) -> None:
    minted = ledger.create_key("ada@example.com")
    for thing in (minted, minted.key, ledger, ledger.keys(), ledger.find(minted.secret)):
        assert minted.secret not in repr(thing)


async def test_keys_of_another_process_are_seen_within_a_second(
    connect: Callable[[], Ledger], ledger: Ledger
) -> None:
    other = connect()
    minted = other.create_key("bob@example.com")
    began = time.monotonic()
    await until(lambda: ledger.find(minted.secret) == minted.key)
    other.revoke_key(minted.key.id)
    await until(lambda: ledger.find(minted.secret).revoked)  # type: ignore[union-attr]
    assert time.monotonic() - began < 2


# Rows.


async def test_a_row_is_there_when_it_was_opened(ledger: Ledger, key: ApiKey) -> None:
    row = opened(key)
    await ledger.open(row)
    assert ledger.row(row.id) == row
    assert ledger.row("nothing") is None


async def test_a_settled_row_says_all_that_was_settled(ledger: Ledger, key: ApiKey) -> None:
    final = await settle_and_wait(ledger, opened(key))
    kept = ledger.row(final.id)
    assert kept == final
    assert kept.started_at.utcoffset() == timedelta(0)  # type: ignore[union-attr]


async def test_times_of_other_zones_come_back_as_the_same_instant(
    ledger: Ledger, key: ApiKey
) -> None:
    row = opened(key, started_at=NOON.astimezone(timezone(timedelta(hours=-7, minutes=-30))))
    await ledger.open(row)
    kept = ledger.row(row.id)
    assert kept is not None
    assert kept.started_at == NOON
    assert kept.started_at.utcoffset() == timedelta(0)


async def test_the_first_settlement_counts(ledger: Ledger, key: ApiKey) -> None:
    final = await settle_and_wait(ledger, opened(key))
    ledger.settle(replace(final, status="error", usage=Usage(9, 9)))
    ledger.checkpoint(replace(final, status="open", usage=Usage(8, 8)))
    twice = opened(key)
    ledger.settle(settled(twice))
    ledger.settle(settled(twice, status="cancelled", usage=Usage(7, 7)))
    await settle_and_wait(ledger, opened(key))
    assert ledger.row(final.id) == final
    assert ledger.row(twice.id) == settled(twice)
    assert ledger.key(key.id).requests == 3
    assert ledger.key(key.id).tokens == 3 * 120


async def test_a_row_that_was_never_opened_is_kept_when_it_is_settled(
    ledger: Ledger, key: ApiKey
) -> None:
    final = settled(opened(key))
    ledger.settle(final)
    await shown(ledger, final)
    assert ledger.key(key.id).requests == 1


async def test_a_settled_row_keeps_whose_it_is(ledger: Ledger, key: ApiKey) -> None:
    row = opened(key)
    await ledger.open(row)
    ledger.settle(
        settled(row, email="eve@example.com", key_id="key_eve", started_at=NOON + timedelta(1))
    )
    await shown(ledger, settled(row))


async def test_a_row_settled_without_an_end_does_not_stay_open(ledger: Ledger, key: ApiKey) -> None:
    row = opened(key)
    await ledger.open(row)
    ledger.settle(row)
    await shown(ledger, replace(row, status="interrupted"))


async def test_a_checkpoint_is_kept_while_the_row_is_open(ledger: Ledger, key: ApiKey) -> None:
    row = opened(key)
    await ledger.open(row)
    sofar = replace(row, usage=Usage(100, 3), counted="partial", duration_ms=400)
    ledger.checkpoint(sofar)
    await shown(ledger, sofar)
    assert ledger.key(key.id).requests == 0
    ledger.settle(settled(row))
    await shown(ledger, settled(row))
    assert ledger.key(key.id).tokens == 120


async def test_a_checkpoint_of_an_unknown_row_makes_none(ledger: Ledger, key: ApiKey) -> None:
    stray = opened(key)
    ledger.checkpoint(stray)
    await settle_and_wait(ledger, opened(key))
    assert ledger.row(stray.id) is None


async def test_keys_count_what_they_used(ledger: Ledger, key: ApiKey) -> None:
    other = ledger.create_key("bob@example.com").key
    rows = [opened(key, started_at=NOON + timedelta(minutes=minute)) for minute in (0, 9, 3)]
    for row in rows:
        await settle_and_wait(ledger, row)
    counted = ledger.key(key.id)
    assert (counted.requests, counted.tokens) == (3, 360)
    assert counted.last_used_at == NOON + timedelta(minutes=9)
    assert ledger.key(other.id) == other


async def test_a_cancelled_opening_leaves_a_row_that_can_be_settled(
    ledger: Ledger, key: ApiKey
) -> None:
    rows = [opened(key) for _ in range(50)]
    tasks = [asyncio.ensure_future(ledger.open(row)) for row in rows]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(result, asyncio.CancelledError) for result in results)
    for row in rows:
        ledger.settle(settled(row, status="cancelled"))
    for row in rows:
        await shown(ledger, settled(row, status="cancelled"))
    assert ledger.key(key.id).requests == 50


async def test_what_clients_write_into_rows_is_kept_in_some_form(
    ledger: Ledger, key: ApiKey
) -> None:
    row = opened(key, model="a\0b\ud800c\r\n" + "x" * 5000, attributes={"k\0": "\ud800"})
    await ledger.open(row)
    ledger.settle(settled(row, error_code="\ud800", usage=Usage(10**30, 1), duration_ms=10**30))
    await until(lambda: ledger.row(row.id).status == "ok")  # type: ignore[union-attr]
    kept = ledger.row(row.id)
    assert kept is not None
    assert kept.model.startswith("a")
    assert len(kept.model) < 1000
    assert kept.usage.input_tokens >= 10**15
    assert ledger.key(key.id).tokens == kept.usage.input_tokens + 1


# What is left by a process that died.

DIE = """
import asyncio, os, sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from gateway.events import Usage
from gateway.records import UsageRow

module, kind, url, key_id = sys.argv[1:]
ledger = getattr(import_module(module), kind)(url)

async def main():
    ledger.start()
    for name in ("bare", "checked", "done"):
        row = UsageRow(id=name, started_at=datetime(2026, 3, 1, tzinfo=UTC), key_id=key_id,
                       email="ada@example.com", type="chat")
        await ledger.open(row)
        if name == "checked":
            row = replace(row, usage=Usage(50, 5), duration_ms=2000, http_status=200, counted="estimated")
            ledger.checkpoint(row)
        if name == "done":
            ledger.settle(replace(row, usage=Usage(1, 2), status="ok", http_status=200))
    while ledger.row("done").status != "ok" or ledger.row("checked").duration_ms != 2000:
        await asyncio.sleep(0.01)
    os._exit(9)

asyncio.run(main())
"""


@pytest.mark.parametrize("connect", LEDGERS, indirect=True)
def test_rows_of_a_dead_process_are_closed_as_interrupted_once(
    connect: Callable[[], Ledger], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    kind, url = LEDGERS[request.node.callspec.params["connect"]]
    key = connect().create_key("ada@example.com").key
    arguments = [kind.__module__, kind.__name__, url.format(path=tmp_path), key.id]
    died = subprocess.run([sys.executable, "-c", DIE, *arguments], env=os.environ, check=False)
    assert died.returncode == 9
    for _ in range(2):
        ledger = connect()
        ledger.start()
        rows = {row.id: row for row in ledger.usage()}
        assert {id: row.status for id, row in rows.items()} == {
            "bare": "interrupted",
            "checked": "interrupted",
            "done": "ok",
        }
        bare, checked, done = rows["bare"], rows["checked"], rows["done"]
        assert (bare.counted, bare.usage, bare.http_status) == ("partial", Usage(), None)
        assert (checked.counted, checked.usage) == ("partial", Usage(50, 5))
        assert (checked.http_status, checked.duration_ms) == (200, 2000)
        assert (done.counted, done.usage) == ("reported", Usage(1, 2))
        counted = ledger.key(key.id)
        assert (counted.requests, counted.tokens) == (3, 58)
        ledger.close()


async def test_what_was_handed_over_is_written_by_closing(
    connect: Callable[[], Ledger], ledger: Ledger, key: ApiKey
) -> None:
    rows = [opened(key) for _ in range(1200)]
    await asyncio.gather(*(ledger.open(row) for row in rows[:600]))
    for row in rows:
        ledger.settle(settled(row))
    ledger.close()
    ledger.close()
    after = connect()
    assert {row.id for row in after.usage() if row.status == "ok"} == {row.id for row in rows}
    assert after.key(key.id).requests == 1200


async def test_a_closed_ledger_takes_no_calls(ledger: Ledger, key: ApiKey) -> None:
    ledger.close()
    ledger.settle(settled(opened(key)))
    ledger.checkpoint(opened(key))
    with pytest.raises(Exception, match="ledger") as caught:
        await ledger.open(opened(key))
    assert type(caught.value).__name__ == "LedgerUnavailable"


# Reading rows.


@pytest.fixture
async def rows(ledger: Ledger, key: ApiKey) -> list[UsageRow]:
    """A day of rows, two of each instant, of two users; handed over in another order."""
    other = ledger.create_key("bob@example.com").key
    rows = [
        opened(
            key if number % 3 else other,
            id=f"{number:03}",
            started_at=NOON + timedelta(minutes=number // 2),
            email=key.email if number % 3 else other.email,
        )
        for number in range(60)
    ]
    await asyncio.gather(*(ledger.open(row) for row in reversed(rows)))
    return rows


def test_rows_come_in_order_of_their_start(ledger: Ledger, rows: list[UsageRow]) -> None:
    assert list(ledger.usage()) == rows
    assert list(ledger.usage(newest_first=True)) == rows[::-1]
    assert list(ledger.usage(limit=7)) == rows[:7]
    assert list(ledger.usage(limit=7, newest_first=True)) == rows[:-8:-1]
    assert list(ledger.usage(limit=0)) == []


def test_rows_are_chosen_by_user_key_and_time(
    ledger: Ledger, key: ApiKey, rows: list[UsageRow]
) -> None:
    mine = [row for row in rows if row.key_id == key.id]
    assert list(ledger.usage(key_id=key.id)) == mine
    assert list(ledger.usage(email=key.email)) == mine
    assert list(ledger.usage(email="Ada@Example.com")) == mine
    assert list(ledger.usage(email="bob@example.com", key_id=key.id)) == []
    since, until = NOON + timedelta(minutes=5), NOON + timedelta(minutes=10)
    assert list(ledger.usage(since=since, until=until)) == rows[10:20]
    shifted = since.astimezone(timezone(timedelta(hours=9)))
    assert (
        list(ledger.usage(since=shifted, limit=3, key_id=key.id))
        == [row for row in rows[10:] if row.key_id == key.id][:3]
    )


def test_a_time_without_a_zone_is_refused(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="zone"):
        ledger.usage(since=datetime(2026, 3, 1))


async def test_a_key_that_another_process_made_works_at_once(
    ledger: Ledger, connect: Callable[[], Ledger]
) -> None:
    for number in range(20):
        minted = connect().create_key(f"new{number}@example.com")
        found = await ledger.find_new(minted.secret)
        assert found == minted.key
    assert await ledger.find_new("sk-nobody") is None
    assert await ledger.find_new(minted.secret[:-1] + "x") is None
