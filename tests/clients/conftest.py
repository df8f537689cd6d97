"""One gateway for a lane, as it is without a configuration: the demo engine and its tools."""

import time
from collections.abc import Callable, Generator
from typing import Any

import httpx2
import pytest

from tests.servers.gateway import Gateway

Row = dict[str, Any]
FindRow = Callable[[str], Row]


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    # `demo-slow` takes 3 s to begin: time for a few heartbeats.
    env = {"SLUICE_FIRST_EVENT_WAIT": "2", "SLUICE_HEARTBEAT": "0.2"}
    with Gateway(tmp_path_factory.mktemp("gateway"), env=env) as running:
        yield running


@pytest.fixture(scope="session")
def key(gateway: Gateway) -> str:
    return gateway.key()


@pytest.fixture(scope="session")
def base_url(gateway: Gateway) -> str:
    return f"{gateway.url}/v1"


@pytest.fixture(scope="session")
def row(gateway: Gateway, key: str) -> Generator[FindRow, None, None]:
    """The settled usage row of a request of `key`, by its request id or the id of its answer."""
    with gateway.client(key) as http:

        def find(request_id: str) -> Row:
            request_id = as_request_id(request_id)
            found: Row = {}
            for _ in range(100):
                answer = http.get(f"/v1/usage/{request_id}")
                assert answer.status_code == httpx2.codes.OK, answer.text
                found = answer.json()
                if found["status"] != "open":
                    return found
                time.sleep(0.05)
            raise AssertionError(f"the row is still open: {found}")

        yield find


def as_request_id(answer_id: str) -> str:
    """An answer is named after its request: `chatcmpl-` and the digits of the UUID."""
    digits = answer_id.removeprefix("chatcmpl-").replace("-", "")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
