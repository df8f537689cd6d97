"""Keys, as statements within a transaction of the caller, and what may be written into one."""

import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from gateway.records import ApiKey, Dialect, MintedKey
from keys.columns import Record, api_key
from keys.digest import digest
from keys.keyring import Entry
from keys.mint import PREFIX, mask, mint_id, mint_secret, well_formed
from keys.schema import api_keys

_LONGEST_EMAIL = 254
_LONGEST_NAME = 100
_CANDIDATES = 5
_OLDEST_FIRST = (api_keys.c.created_at, api_keys.c.id)


def add_key(
    connection: Connection,
    *,
    email: str,
    name: str,
    tier: str,
    notes: str = "",
    notifications: Dialect | None = None,
) -> MintedKey:
    secret = mint_secret()
    key = ApiKey(
        id=mint_id(),
        email=email,
        name=name,
        tier=tier,
        masked=mask(secret),
        created_at=datetime.now(UTC),
        notes=notes,
        notifications=notifications,
    )
    connection.execute(
        insert(api_keys),
        {
            "id": key.id,
            "digest": digest(secret),
            "masked": key.masked,
            "email": key.email,
            "name": key.name,
            "tier": key.tier,
            "notes": key.notes,
            "notifications": key.notifications and key.notifications.value,
            "created_at": key.created_at,
            "requests": 0,
            "tokens": 0,
            "revision": _next_revision(connection),
        },
    )
    return MintedKey(key, secret)


def revoke_key(connection: Connection, key_id: str) -> ApiKey:
    """Raises `KeyError`."""
    key = _key(connection, key_id)
    if key.revoked:
        return key
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(revoked_at=datetime.now(UTC), revision=_next_revision(connection))
    )
    return _key(connection, key_id)


def rotate_key(connection: Connection, key_id: str) -> MintedKey:
    """Raises `KeyError`, and `ValueError` for a revoked key: it must not come back to life by this."""
    key = _key(connection, key_id)
    if key.revoked:
        raise ValueError(f"{key.id} is revoked; create a new key instead")
    revoke_key(connection, key_id)
    return add_key(
        connection,
        email=key.email,
        name=key.name,
        tier=key.tier,
        notes=key.notes,
        notifications=key.notifications,
    )


def all_keys(connection: Connection) -> list[ApiKey]:
    return _keys(connection, None)


def named_key(connection: Connection, reference: str) -> ApiKey:
    """By id, unique start of an id, masked form or secret. Raises `KeyError`, never with a secret."""
    reference = reference.strip()
    if not reference:
        raise KeyError("no key was named: give its id, the start of it, its masked form or the key")
    if well_formed(reference):
        keys = _keys(connection, api_keys.c.digest == digest(reference))
    else:
        keys = _keys(
            connection,
            or_(
                api_keys.c.id.startswith(reference, autoescape=True),
                api_keys.c.masked == reference.replace("...", "…"),
            ),
        )
    for key in keys:
        if key.id == reference or len(keys) == 1:
            return key
    raise KeyError(_ambiguous(reference, keys) if keys else _unknown(reference))


def found_key(connection: Connection, secret: str) -> ApiKey | None:
    keys = _keys(connection, api_keys.c.digest == digest(secret))
    return keys[0] if keys else None


def changed_entries(connection: Connection, revision: int) -> list[Entry]:
    """The keys that changed after a revision, 0 for all, counters aside."""
    records = connection.execute(select(api_keys).where(api_keys.c.revision > revision))
    return [Entry(record.digest, api_key(record), record.revision) for record in records]


def checked_email(email: str) -> str:
    """An address as it is kept: in small letters, so that a user has one spelling.

    Raises `ValueError` with a reason. Whether mail arrives there is not our question.
    """
    local, _, domain = email.partition("@")
    if not local or not domain or "@" in domain:
        raise ValueError("the e-mail address has to look like name@example.com")
    if len(email) > _LONGEST_EMAIL:
        raise ValueError(f"the e-mail address is longer than {_LONGEST_EMAIL} characters")
    if any(unicodedata.category(letter)[0] in "CZ" for letter in email):
        raise ValueError("the e-mail address has a space or a control character in it")
    return email.lower()


def checked_label(what: str, text: str) -> str:
    """A name or tier as it is kept. Raises `ValueError` with a reason that starts with `what`."""
    text = text.strip()
    if len(text) > _LONGEST_NAME:
        raise ValueError(f"{what} is longer than {_LONGEST_NAME} characters")
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        raise ValueError(f"{what} has a control character or a line break in it")
    return text


def _next_revision(connection: Connection) -> int:
    last = connection.execute(select(func.max(api_keys.c.revision))).scalar()
    return (last or 0) + 1


def _key(connection: Connection, key_id: str) -> ApiKey:
    keys = _keys(connection, api_keys.c.id == key_id)
    if not keys:
        raise KeyError(_unknown(key_id))
    return keys[0]


def _keys(connection: Connection, condition: ColumnElement[bool] | None) -> list[ApiKey]:
    query = select(api_keys).order_by(*_OLDEST_FIRST)
    if condition is not None:
        query = query.where(condition)
    records: Sequence[Record] = connection.execute(query).all()
    return [api_key(record) for record in records]


def _unknown(reference: str) -> str:
    if reference.startswith(PREFIX) and "…" not in reference and "..." not in reference:
        if well_formed(reference):
            return "no key has this secret; it may belong to another ledger"
        return "this is no secret of ours: it is cut short or mistyped"
    shown = reference if len(reference) <= 60 else reference[:60] + "…"
    return f"there is no key {shown!r}; `sluice keys list` shows them all"


def _ambiguous(reference: str, keys: Sequence[ApiKey]) -> str:
    named = ", ".join(f"{key.id} ({key.email})" for key in keys[:_CANDIDATES])
    more = f" and {len(keys) - _CANDIDATES} more" if len(keys) > _CANDIDATES else ""
    return f"{reference!r} may be any of {named}{more}"
