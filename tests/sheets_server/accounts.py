"""The service account and its token endpoint: the JWT bearer grant, every claim checked."""

import base64
import binascii
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.sheets_server.refusals import scope_too_small, unauthenticated, unregistered

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SPREADSHEETS = "https://www.googleapis.com/auth/spreadsheets"
_WRITING = {SPREADSHEETS, "https://www.googleapis.com/auth/drive"}
_READING = _WRITING | {f"{SPREADSHEETS}.readonly"}
_GOOGLES_TOKEN_URI = "https://oauth2.googleapis.com/token"  # google-auth always signs for this one
_SKEW = 300


class GrantRefused(Exception):
    """The token endpoint's 400."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = json.dumps({"error": error, "error_description": description}).encode()


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Account:
    """One service account. `lifetime` is for tokens given out from now on, in seconds."""

    def __init__(self, token_uri: str, clock: Callable[[], float] = time.time) -> None:
        self.email = "sluice@tests-1.iam.gserviceaccount.com"
        self.lifetime = 3600.0
        self.key_revoked = False
        self._clock = clock
        self._tokens: dict[str, tuple[float, frozenset[str]]] = {}
        self._lock = threading.Lock()
        self._key_id = secrets.token_hex(20)
        self.token_uri = token_uri
        private = _key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.credentials: dict[str, str] = {
            "type": "service_account",
            "project_id": "tests-1",
            "private_key_id": self._key_id,
            "private_key": private.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
            "universe_domain": "googleapis.com",
        }

    def grant(self, form: Mapping[str, str]) -> dict[str, object]:
        """An access token for a signed assertion."""
        if form.get("grant_type") != GRANT:
            raise GrantRefused(
                "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}"
            )
        claims = self._verified(form.get("assertion", ""))
        if claims.get("iss") != self.email:
            raise GrantRefused("invalid_grant", "Invalid grant: account not found")
        if claims.get("aud") not in (self.token_uri, _GOOGLES_TOKEN_URI):
            raise GrantRefused("invalid_grant", "Invalid JWT: Failed audience check.")
        now = self._clock()
        issued, expires = claims.get("iat"), claims.get("exp")
        if (
            not isinstance(issued, int)
            or not isinstance(expires, int)
            or expires - issued > 3600
            or not issued - _SKEW <= now <= expires + _SKEW
        ):
            raise GrantRefused(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim.",
            )
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes or not all(s.startswith("https://www.googleapis.com/auth/") for s in scopes):
            raise GrantRefused(
                "invalid_scope", "Invalid OAuth scope or ID token audience provided."
            )
        token = f"ya29.c.{secrets.token_urlsafe(48)}"
        with self._lock:
            self._tokens[token] = (now + self.lifetime, scopes)
        return {
            "access_token": token,
            "expires_in": max(1, int(self.lifetime) - 1),
            "token_type": "Bearer",
        }

    def _verified(self, assertion: str) -> dict[str, Any]:
        signed, _, signature = assertion.rpartition(".")
        try:
            header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
            _key().public_key().verify(
                _decoded(signature), signed.encode(), padding.PKCS1v15(), SHA256()
            )
        except InvalidSignature:
            raise GrantRefused("invalid_grant", "Invalid JWT Signature.") from None
        except (ValueError, binascii.Error):
            raise GrantRefused("invalid_grant", "Bad Request") from None
        if self.key_revoked or header.get("alg") != "RS256" or header.get("kid") != self._key_id:
            raise GrantRefused("invalid_grant", "Invalid JWT Signature.")
        return dict(claims)

    def check(self, authorization: str | None, method: str, *, writing: bool) -> None:
        """Raises what Google answers to a call with these credentials."""
        if authorization is None:
            raise unregistered()
        scheme, _, token = authorization.partition(" ")
        with self._lock:
            expires, scopes = self._tokens.get(token, (0.0, frozenset()))
        if scheme != "Bearer" or self._clock() >= expires:
            raise unauthenticated()
        if not scopes & (_WRITING if writing else _READING):
            raise scope_too_small(method)

    def expire(self) -> None:
        """All tokens given out so far are worth nothing now, whatever they were told."""
        with self._lock:
            self._tokens.clear()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
