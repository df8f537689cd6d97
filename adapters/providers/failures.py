"""What a provider's error becomes for the client: one policy, whatever the provider's own form."""

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import orjson

from gateway.errors import GatewayError, ProviderFailed, ProviderTimedOut, ProviderTruncated
from gateway.secrets import conceal

_LONGEST_MESSAGE = 1000
_LONGEST_PARAM = 200
_CODE = re.compile(r"[A-Za-z0-9][\w.:/-]{0,99}")
_LONGEST_WAIT = 24 * 3600.0

_FLAGGED = "content_policy_violation"
_MISWRITTEN = {"tool_use_failed", "json_validate_failed"}
"""Codes of Groq's for a request that is in order, whose answer the model wrote so badly that it could
not be read. Another try may well do."""

# Words that stand for a status where a provider reports an error without one, in a running stream.
_STATUS_OF_WORD = {
    "authentication_error": 401,
    "billing_error": 402,
    "capacity_exceeded": 503,
    "content_policy_violation": 400,
    "context_length_exceeded": 400,
    "exceed_context_size_error": 400,
    "insufficient_balance": 402,
    "insufficient_quota": 429,
    "invalid_api_key": 401,
    "invalid_request_error": 400,
    "model_not_found": 404,
    "overloaded": 503,
    "overloaded_error": 503,
    "permission_error": 403,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "requests": 429,
    "server_is_overloaded": 503,
    "service_unavailable": 503,
    "timeout": 504,
    "timeout_error": 504,
    "tokens": 429,
    "tool_use_failed": 400,
    "unavailable_error": 503,
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a provider said was wrong, as far as it could be read."""

    message: str = ""
    type: str | None = None
    param: str | None = None
    code: str | None = None

    @property
    def status(self) -> int:
        """The HTTP status it would have had, for one that came without."""
        if self.code is not None and re.fullmatch("[45][0-9][0-9]", self.code):
            return int(self.code)
        for word in (self.code, self.type):
            if word in _STATUS_OF_WORD:
                return _STATUS_OF_WORD[word]
        return 502


def read_complaint(body: object) -> Complaint:
    """Reads `{"error": {…}}`, `{"error": "…"}`, `{"detail": …}`, a bare error object and plain text."""
    match body:
        case {"error": (dict() | str()) as inner} if inner:
            return read_complaint(inner)
        case {"message": str(message), **further}:
            kind = _text(further.get("type"))
            code = _text(further.get("code"))
            if kind == "exceed_context_size_error":  # llama.cpp, whose code is a number
                code = "context_length_exceeded"
            match further.get("metadata"):  # OpenRouter, of the provider that it asked
                case {"reasons": list()}:
                    code = _FLAGGED
                case {"raw": (dict() | str()) as raw} if cause := _cause(raw):
                    message = f"{message}: {cause}"
            return Complaint(message, kind, _text(further.get("param")), code)
        case {"detail": str(message)}:
            return Complaint(message)
        case {"detail": [{"msg": str(message), "loc": list(places)}, *_]}:
            return Complaint(message, param=".".join(str(place) for place in places))
        case {"code": str() | int() as code}:
            return Complaint(code=str(code))
        case str():
            return Complaint(body)
        case _:
            return Complaint()


def _cause(raw: dict[str, object] | str) -> str:
    """What an error says that is quoted within another one, as text or as JSON."""
    if isinstance(raw, str) and raw.lstrip().startswith("{"):
        with suppress(orjson.JSONDecodeError):
            return read_complaint(orjson.loads(raw)).message
    return read_complaint(raw).message


def failure(
    provider: str,
    status: int,
    complaint: Complaint,
    headers: Mapping[str, str] | None = None,
    secret: str = "",
) -> ProviderFailed:
    """The error to raise for a provider's answer of this status.

    A 4xx that the request is to blame for stays one; one that the gateway is to blame for (its key,
    its account, its configuration) becomes a 5xx, or a client would look for the fault at its end.
    """
    error = _failure(provider, status, complaint, headers or {}, secret)
    if headers is not None:  # otherwise the status is our reading of the provider's words
        error.answered = status
    return error


def _failure(
    provider: str, status: int, complaint: Complaint, headers: Mapping[str, str], secret: str
) -> ProviderFailed:
    said = scrub(complaint.message, secret) or (
        f"The provider {provider!r} answered with status {status}."
    )
    code, param = _word(complaint.code, secret), _place(complaint.param, secret)
    retry_after = read_retry_after(headers)
    match status:
        case 400 if code in _MISWRITTEN:
            return ProviderFailed(said, code=code)
        case 403 if code == _FLAGGED:
            return ProviderFailed(said, status=400, code=code)
        case 400 | 404 | 409 | 413 | 422:
            error = ProviderFailed(said, status=400 if status == 422 else status, param=param)
            _set_code(error, code)
            return error
        case 401 | 403:
            return ProviderFailed(
                f"The gateway's own credentials for the provider {provider!r} were refused.",
                code="upstream_auth",
                retryable=False,
            )
        case 402:
            return ProviderFailed(said, status=429, code="insufficient_quota", retryable=False)
        case 408:
            return ProviderTimedOut(said)
        case 429:
            return ProviderFailed(
                said,
                status=429,
                param=param,
                code=code if code and not code.isdigit() else "rate_limit_exceeded",
                retryable="insufficient_quota" not in (code, complaint.type),
                retry_after=retry_after,
            )
        case 498 | 503 | 529:  # Groq, everyone and Anthropic, all of them for a lack of room
            return ProviderFailed(said, status=503, retry_after=retry_after)
        case 504:
            return ProviderTimedOut(said)
        case _ if status >= 500:
            return ProviderFailed(said, retry_after=retry_after)
        case _:
            return ProviderFailed(said, retryable=False)


def _set_code(error: GatewayError, code: str | None) -> None:
    """The provider's own word, and no word of ours where it has none."""
    error.code = code


def truncated(provider: str, why: str = "") -> ProviderTruncated:
    """The error to raise for an answer that ended before it was whole."""
    return ProviderTruncated(f"The provider {provider!r} broke off its answer{why}.")


def scrub(text: str, secret: str = "") -> str:
    """A provider's message as a client may see it: short, and without anything like a key."""
    text = text[: 4 * _LONGEST_MESSAGE]
    if secret:
        text = text.replace(secret, "[key]")
    text = conceal(text).strip()
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"


def _word(code: str | None, secret: str) -> str | None:
    """A code as a client and an account may have it: one word, and nothing like a key."""
    if code is None or not _CODE.fullmatch(code) or scrub(code, secret) != code:
        return None
    return code


def _place(param: str | None, secret: str) -> str | None:
    return scrub(param, secret)[:_LONGEST_PARAM] if param else None


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, a day at most, from `retry-after-ms` or `retry-after` (seconds or a date)."""
    for header, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(header, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return min(max(0.0, seconds), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), _LONGEST_WAIT)


def _text(value: object) -> str | None:
    match value:
        case bool():
            return None
        case int():
            return str(value)
        case str() if value:
            return value
        case _:
            return None
