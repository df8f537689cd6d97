import pytest

from adapters.agents.faults import translate
from gateway.errors import RateLimited


class StatusError(Exception):
    """As the clients of model servers raise it."""

    def __init__(self, status: int, body: object = None, headers: object = None) -> None:
        self.status_code = status
        self.body = body
        self.response = self
        self.headers = headers


class ReadTimeout(Exception):
    pass


class APIConnectionError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        pytest.param(StatusError(429), 429, "rate_limit_exceeded", id="limit"),
        pytest.param(StatusError(403), 502, "upstream_auth", id="key"),
        pytest.param(StatusError(503), 503, "upstream_error", id="busy"),
        pytest.param(
            StatusError(400, {"error": {"message": "no", "code": "bad_tool"}}),
            400,
            "bad_tool",
            id="request",
        ),
        pytest.param(ReadTimeout(), 504, "upstream_timeout", id="timeout by name"),
        pytest.param(TimeoutError(), 504, "upstream_timeout", id="timeout"),
        pytest.param(APIConnectionError(), 502, "upstream_unreachable", id="connection by name"),
        pytest.param(ConnectionRefusedError(), 502, "upstream_unreachable", id="connection"),
    ],
)
def test_errors_of_a_models_client_are_known(error: Exception, status: int, code: str) -> None:
    known = translate("agent", error)
    assert known is not None
    assert (known.status, known.code) == (status, code)


def test_the_time_to_wait_is_kept() -> None:
    known = translate("agent", StatusError(429, headers={"retry-after": "7"}))
    assert known is not None
    assert known.retry_after == 7


def test_errors_of_the_gateway_stay_what_they_are() -> None:
    error = RateLimited("Not now.")
    assert translate("agent", error) is error


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("no"), StatusError(200)])
def test_other_errors_are_faults_of_the_agent(error: Exception) -> None:
    assert translate("agent", error) is None
