import sys
from dataclasses import replace
from datetime import UTC, datetime

from gateway.records import ApiKey
from keys.digest import digest
from keys.keyring import Entry, Keyring
from keys.mint import mask, mint_id, mint_secret


def entry(secret: str, revision: int = 1) -> Entry:
    key = ApiKey(
        id=mint_id(),
        email="ada@example.com",
        name="",
        tier="default",
        masked=mask(secret),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    return Entry(digest(secret), key, revision)


def steps(keyring: Keyring, secret: str) -> int:
    """Functions called to find a key, Python's and C's."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        keyring.find(secret)
    finally:
        sys.setprofile(None)
    return calls


def test_finding_takes_as_many_steps_among_many_keys_as_alone() -> None:
    secret = mint_secret()
    keyring = Keyring()
    keyring.install([entry(secret)])
    alone = steps(keyring, secret)
    keyring.install(entry(mint_secret()) for _ in range(3000))
    assert steps(keyring, secret) == alone
    assert keyring.find(secret) is not None
    assert steps(keyring, mint_secret()) <= alone


def test_an_older_state_never_replaces_a_newer_one() -> None:
    secret = mint_secret()
    active = entry(secret, revision=5)
    revoked = Entry(
        active.digest, replace(active.key, revoked_at=datetime(2026, 1, 2, tzinfo=UTC)), 6
    )
    keyring = Keyring()
    keyring.install([revoked])
    keyring.install([active])
    assert keyring.find(secret) == revoked.key
