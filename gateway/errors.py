"""Everything that can go wrong with a call, as the client is told of it.

    GatewayError
    ├── InvalidRequest              400   the request is at fault; `param` names the field
    │   ├── Unauthenticated         401   no key, a wrong one, a revoked one
    │   ├── Forbidden               403   the key may not do this
    │   ├── UnknownModel            404
    │   ├── UnknownPath             404
    │   ├── UnknownRequest          404   no such row, or another key's
    │   ├── UnknownProbe            404   no such conformance probe
    │   ├── MethodNotAllowed        405
    │   └── TooLarge                413
    ├── RateLimited                 429   `retry_after` says when
    ├── ShuttingDown                503   the server drains; try again
    ├── LedgerUnavailable           503   no account can be kept, so nothing is served
    ├── ProviderFailed              4xx or 5xx, as the provider answered
    │   ├── ProviderUnreachable     502   nothing was sent: safe to try elsewhere
    │   ├── ProviderTimedOut        504
    │   └── ProviderTruncated       502   the stream ended before the answer did
    └── InternalError               500   a fault of ours; the log has the details

Foreign exceptions are translated into these where they are caught (`raise … from error`), by the
adapter that knows them. A message is for the client: never a key, a prompt or an internal address.
"""

from gateway.events import Error, Json


class GatewayError(Exception):
    """Base of all errors that a client is told. `type` and `code` are OpenAI's words."""

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.attempts: tuple[str, ...] = ()
        """What was tried, where there was more than one attempt; whoever tried them sets it."""
        if code is not None:
            self.code = code

    def event(self) -> Error:
        """This error as the last event of a stream."""
        return Error(
            type=self.type,
            code=self.code,
            message=self.message,
            status=self.status,
            param=self.param,
            retryable=self.retryable,
            retry_after=self.retry_after,
            attempts=self.attempts,
        )


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"


class Unauthenticated(InvalidRequest):
    status = 401
    code = "invalid_api_key"


class Forbidden(InvalidRequest):
    status = 403
    code = "permission_denied"


class UnknownModel(InvalidRequest):
    status = 404
    code = "model_not_found"


class UnknownPath(InvalidRequest):
    status = 404
    code = "unknown_url"


class UnknownRequest(InvalidRequest):
    status = 404
    code = "request_not_found"


class UnknownProbe(InvalidRequest):
    status = 404
    code = "probe_not_found"


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"


class TooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class RateLimited(GatewayError):
    status = 429
    type = "requests"
    code = "rate_limit_exceeded"
    retryable = True


class ShuttingDown(GatewayError):
    status = 503
    code = "server_is_shutting_down"
    retryable = True


class LedgerUnavailable(GatewayError):
    status = 503
    code = "ledger_unavailable"
    retryable = True


class ProviderFailed(GatewayError):
    """A provider answered with an error. `status` is what the client gets, not what was received."""

    status = 502
    code: str | None = "upstream_error"
    answered: int | None = None
    """The HTTP status that was received, where there was one."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 502,
        param: str | None = None,
        code: str | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, code=code, retry_after=retry_after)
        self.status = status
        self.type = _TYPES.get(status) or (
            "server_error" if status >= 500 else "invalid_request_error"
        )
        self.retryable = status in (408, 409, 429) or status >= 500
        if retryable is not None:
            self.retryable = retryable


_TYPES = {409: "conflict", 429: "requests"}


class ProviderUnreachable(ProviderFailed):
    code = "upstream_unreachable"


class ProviderTimedOut(ProviderFailed):
    code = "upstream_timeout"

    def __init__(self, message: str, *, status: int = 504) -> None:
        super().__init__(message, status=status)


class ProviderTruncated(ProviderFailed):
    code = "upstream_truncated"


class InternalError(GatewayError):
    code = "internal_error"


def error_body(error: Error) -> Json:
    """An error as OpenAI's API tells it, with all four keys: SDKs look for each of them."""
    return {
        "error": {
            "message": error.message,
            "type": error.type,
            "param": error.param,
            "code": error.code,
        }
    }


ERROR_SCHEMA: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
"""JSON schema of `error_body`."""
