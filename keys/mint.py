"""New secrets and ids, and what can be told from a secret's own form."""

import re
import secrets
import time
import zlib

PREFIX = "sk-"
"""What every OpenAI client, secret scanner and person takes for an API key."""

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM_BYTES = 32
_RANDOM_LENGTH = 43  # 62 ** 43 > 2 ** 256
_CHECKSUM_LENGTH = 6  # 62 ** 6 > 2 ** 32
_FORM = re.compile(f"{PREFIX}[0-9A-Za-z]{{{_RANDOM_LENGTH + _CHECKSUM_LENGTH}}}")
_BROUGHT_ALONG = re.compile(PREFIX + "[!-~]{17,253}")  # ours have this form, too

_ID_DIGITS = (
    "0123456789abcdefghjkmnpqrstvwxyz"  # ascending, and without letters that look like others
)
_ID_LENGTH = 16


def mint_secret() -> str:
    """A new secret of 256 random bits. Nothing here keeps it."""
    number = int.from_bytes(secrets.token_bytes(_RANDOM_BYTES))
    body = PREFIX + _spell(number, _RANDOM_LENGTH)
    return body + _checksum(body)


def well_formed(secret: str) -> bool:
    """Whether this can be one of our secrets: a typing error or a foreign key costs no lookup."""
    if not _FORM.fullmatch(secret):
        return False
    return secret[-_CHECKSUM_LENGTH:] == _checksum(secret[:-_CHECKSUM_LENGTH])


def usable(secret: str) -> bool:
    """Whether this can be a key of any user: one of ours, or one that somebody brought along."""
    return bool(_BROUGHT_ALONG.fullmatch(secret))


def mask(secret: str) -> str:
    """Enough of a secret to recognise it by, far too little to use it."""
    return f"{secret[: len(PREFIX) + 4]}…{secret[-4:]}"


def mint_id() -> str:
    """A new id of a key: sorts by the millisecond it was made in."""
    number = (time.time_ns() // 1_000_000) << 32 | secrets.randbits(32)
    digits = (_ID_DIGITS[number >> shift & 31] for shift in range(5 * (_ID_LENGTH - 1), -1, -5))
    return "key_" + "".join(digits)


def _checksum(body: str) -> str:
    return _spell(zlib.crc32(body.encode()), _CHECKSUM_LENGTH)


def _spell(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
