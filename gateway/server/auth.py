"""Who is calling."""

from collections.abc import Mapping

from gateway.errors import Unauthenticated
from gateway.ports import Ledger
from gateway.records import ApiKey


async def authenticate(headers: Mapping[str, str], ledger: Ledger) -> ApiKey:
    """The key in `Authorization: Bearer …`. Raises `Unauthenticated`, which never repeats a secret."""
    value = headers.get("authorization", "")
    scheme, _, secret = value.strip().partition(" ")
    if not value:
        raise Unauthenticated(
            "You didn't provide an API key. Send it as a header: Authorization: Bearer YOUR_KEY.",
            code="missing_api_key",
        )
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("The Authorization header has to be: Bearer YOUR_KEY.")
    secret = secret.strip()
    key = ledger.find(secret) or await ledger.find_new(secret)
    if key is None:
        raise Unauthenticated("Incorrect API key provided. `sluice keys create EMAIL` makes one.")
    if key.revoked:
        raise Unauthenticated(f"The API key {key.masked} has been revoked.")
    return key
