"""`/openapi.json`: complete, and true of what a running gateway answers to whatever fits it or does not."""

import html
from collections.abc import Generator
from typing import Any
from unittest import SkipTest

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.routing import Route

from gateway.server.app import create_app
from gateway.server.operations import find
from gateway.server.settings import Settings
from tests.servers.gateway import Gateway

TRUE = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

# The same endpoint answers below each of its base URLs, and with a slash at the end.
ALIASES = r"^/(?!v1/|chat$|healthz|readyz|openapi|docs)|/$|^/v1/v1/"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    with Gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def key(gateway: Gateway) -> str:
    return gateway.key()


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
def test_what_it_says_is_true(gateway: Gateway, key: str, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    tried = 0
    for found in schema.exclude(path_regex=ALIASES).get_all_operations():
        _try(found.ok(), mode, key)
        tried += 1
    assert tried > 12


def _try(operation: Any, mode: GenerationMode, key: str) -> None:
    """What fits the description of an operation, or does not, and whether the answer fits it."""

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    def ask(case: Any) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = "demo-embed" if "embeddings" in case.path else "demo-fast"
        headers = {"Authorization": f"Bearer {key}"}
        case.call_and_validate(checks=TRUE, headers=headers, timeout=30, allow_redirects=False)

    try:
        ask()
    except (SkipTest, Unsatisfiable):  # nothing can be wrong in a request that has nothing in it
        assert mode is GenerationMode.NEGATIVE


def test_every_route_is_described(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(tmp_path_factory.mktemp("described"))
    app = create_app(Settings.load({"SLUICE_DATA_DIR": folder}))
    silent = [r.path for r in app.routes if isinstance(r, Route) and find(r.endpoint) is None]
    assert silent == []


def test_every_body_that_is_taken_is_described(gateway: Gateway) -> None:
    told = httpx2.get(f"{gateway.url}/openapi.json").json()
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"], path
            if method == "post" and "conformance" not in path:
                taken = operation["requestBody"]["content"]["application/json"]["schema"]
                assert "model" in taken["properties"], path


def test_the_page_shows_every_operation_once(gateway: Gateway) -> None:
    page = httpx2.get(f"{gateway.url}/docs").text
    told = httpx2.get(f"{gateway.url}/openapi.json").json()
    summaries = {o["summary"] for methods in told["paths"].values() for o in methods.values()}
    for summary in summaries:
        assert html.escape(summary) in page
    assert page.count("<code>/v1/chat/completions</code>") == 1
    assert "/api/chat/completions" not in page
