"""Who is calling."""

from collections.abc import Mapping

from gateway.errors import Unauthenticated
from gateway.ports import Ledger
from gateway.records import ApiKey

_OTHERS = ("x-api-key", "x-vapi-secret")
"""Where clients that were made for other APIs put the key, bare."""


async def authenticate(headers: Mapping[str, str], ledger: Ledger) -> ApiKey:
    """The key in `Authorization`, with or without `Bearer`, or else in one of the other headers.

    Raises `Unauthenticated`, which never repeats a secret.
    """
    secret = _secret(headers)
    key = ledger.find(secret) or await ledger.find_new(secret)
    if key is None:
        raise Unauthenticated("Incorrect API key provided. `sluice keys create EMAIL` makes one.")
    if key.revoked:
        raise Unauthenticated(f"The API key {key.masked} has been revoked.")
    return key


def _secret(headers: Mapping[str, str]) -> str:
    value = headers.get("authorization", "").strip()
    if not value:
        for name in _OTHERS:
            if secret := headers.get(name, "").strip():
                return secret
        raise Unauthenticated(
            "You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY.",
            code="missing_api_key",
        )
    scheme, _, secret = value.partition(" ")
    if not secret and scheme.lower() != "bearer":
        return scheme
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("The Authorization header has to be: Bearer YOUR_KEY.")
    return secret.strip()
