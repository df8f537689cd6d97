"""Errors as Google's front end words them."""

import json
from collections.abc import Iterable, Mapping, Sequence

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}

PERMISSION = "The caller does not have permission"
PROTECTED = (
    "You are trying to edit a protected cell or object. Please contact the spreadsheet owner to "
    "remove protection if you need to edit."
)


class Refusal(Exception):
    """Becomes the answer `{"error": {code, message, status, details}}`."""

    def __init__(
        self, code: int, message: str, details: Iterable[Mapping[str, object]] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = list(details)

    def body(self) -> bytes:
        error: dict[str, object] = {
            "code": self.code,
            "message": self.message,
            "status": _STATUS[self.code],
        }
        if self.details:
            error["details"] = self.details
        return json.dumps({"error": error}, indent=2, ensure_ascii=False).encode()


def invalid(message: str) -> Refusal:
    return Refusal(400, message)


def bad_request(violations: Sequence[tuple[str, str]], message: str | None = None) -> Refusal:
    """`violations` are (field, description); the descriptions are the message unless one is given."""
    return Refusal(
        400,
        message or "\n".join(description for _, description in violations),
        [
            {
                "@type": "type.googleapis.com/google.rpc.BadRequest",
                "fieldViolations": [
                    {"field": field, "description": description}
                    if field
                    else {"description": description}
                    for field, description in violations
                ],
            }
        ],
    )


def over_quota(kind: str, limit: int) -> Refusal:
    """`kind` is `Read` or `Write`."""
    return Refusal(
        429,
        f"Quota exceeded for quota metric '{kind} requests' and limit '{kind} requests per minute "
        "per user' of service 'sheets.googleapis.com' for consumer 'project_number:424242424242'.",
        [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "RATE_LIMIT_EXCEEDED",
                "domain": "googleapis.com",
                "metadata": {
                    "quota_limit": f"{kind}RequestsPerMinutePerUser",
                    "quota_limit_value": str(limit),
                    "quota_unit": "1/min/{project}/{user}",
                    "quota_metric": f"sheets.googleapis.com/{kind.lower()}_requests",
                    "consumer": "projects/424242424242",
                    "service": "sheets.googleapis.com",
                    "quota_location": "global",
                },
            },
            {
                "@type": "type.googleapis.com/google.rpc.Help",
                "links": [
                    {
                        "description": "Request a higher quota limit.",
                        "url": "https://cloud.google.com/docs/quotas/help/request_increase",
                    }
                ],
            },
        ],
    )


def unauthenticated() -> Refusal:
    return Refusal(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project.",
        [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_EXPIRED",
                "domain": "googleapis.com",
                "metadata": {"service": "sheets.googleapis.com"},
            }
        ],
    )


def unregistered() -> Refusal:
    return Refusal(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please "
        "use API Key or other form of API consumer identity to call this API.",
    )


def scope_too_small(method: str) -> Refusal:
    return Refusal(
        403,
        "Request had insufficient authentication scopes.",
        [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                "domain": "googleapis.com",
                "metadata": {"method": method, "service": "sheets.googleapis.com"},
            }
        ],
    )


def not_found() -> Refusal:
    return Refusal(404, "Requested entity was not found.")
