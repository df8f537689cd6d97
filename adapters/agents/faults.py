"""What goes wrong inside an agent, as the client is told of it."""

from collections.abc import Mapping

from adapters.providers.failures import failure, read_complaint
from gateway.errors import GatewayError, ProviderFailed, ProviderTimedOut


def translate(name: str, error: Exception) -> GatewayError | None:
    """The error of the model that the agent `name` asks, or None for a fault of the agent itself.

    Frameworks hand on what their model's client raised, whichever that is: such errors are known by
    the status that they carry, or by what their class is called.
    """
    if isinstance(error, GatewayError):
        return error
    status = getattr(error, "status_code", None)
    if isinstance(status, int) and status >= 400:
        complaint = read_complaint(getattr(error, "body", None))
        return failure(name, status, complaint, _headers(error))
    kind = type(error).__name__
    if isinstance(error, TimeoutError) or kind.endswith(("Timeout", "TimeoutError")):
        return ProviderTimedOut(f"The model of {name!r} did not answer in time.")
    if isinstance(error, ConnectionError) or kind.endswith(("ConnectionError", "ConnectError")):
        return ProviderFailed(
            f"The model of {name!r} cannot be reached.", code="upstream_unreachable"
        )
    return None


def _headers(error: Exception) -> Mapping[str, str]:
    for owner in (error, getattr(error, "response", None)):
        headers = getattr(owner, "headers", None)
        if isinstance(headers, Mapping):
            return headers
    return {}
