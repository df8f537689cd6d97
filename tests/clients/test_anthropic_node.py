"""Anthropic's SDK for Node.js: messages, streamed and whole, as its users write it."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients import environments
from tests.clients.conftest import FindRow
from tests.clients.programs import play
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.clients

PROGRAM = Path(__file__).parent / "node_anthropic" / "cases.mjs"
LOCK = json.loads((PROGRAM.parent / "package-lock.json").read_text())
VERSION: str = LOCK["packages"]["node_modules/@anthropic-ai/sdk"]["version"]
ANSWER = re.compile(r"In Oslo it is \d\d:\d\d on \w+, .+ 17 \* 23 = 391\.")
Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def run(gateway: Gateway, key: str) -> Run:
    node, folder = environments.node("node_anthropic")

    def run(case: str) -> dict[str, Any]:
        command: list[str | Path] = [
            *(node, "--no-deprecation", "--input-type=module", "-"),
            *(case, gateway.url, key),
        ]
        result = play(command, PROGRAM, cwd=folder)
        assert result.pop("version") == VERSION
        return result

    return run


def _check_answer(result: dict[str, Any]) -> None:
    assert ANSWER.fullmatch(result["text"])
    assert result["reason"] == "end_turn"
    tools = {name: (kind, output) for name, kind, output in result["tools"]}
    assert tools["calculator"] == ("code_execution_tool_result", "391")
    assert "Europe/Oslo" in tools["current_time"][1]
    assert min(result["usage"]) > 0


def test_a_whole_answer_is_read(run: Run, row: FindRow) -> None:
    result = run("whole")
    _check_answer(result)
    settled = row(result["request_id"])
    assert (settled["type"], settled["tool_calls"]) == ("messages", 2)
    assert [settled["tokens_in"], settled["tokens_out"]] == result["usage"]


def test_a_loop_reads_the_events(run: Run) -> None:
    assert run("loop") == {
        "text": "1, 2, 3, 4, 5.",
        "first": "message_start",
        "last": ["message_delta", "message_stop"],
    }


def test_the_helper_keeps_the_whole(run: Run) -> None:
    result = run("helper")
    _check_answer(result)
    assert result["heard"] == result["text"]
    assert result["blocks"].count("server_tool_use") == 2


@pytest.mark.parametrize("case", ["tools", "tools_streamed"])
def test_a_round_trip_with_tools_of_both_sides_ends_in_text(run: Run, case: str) -> None:
    result = run(case)
    assert result["reasons"] == ["tool_use", "end_turn"]
    assert result["calls"] == [
        ["get_weather", {"city": "Paris"}],
        ["get_weather", {"city": "Rome"}],
    ]
    for said in ("In Oslo it is", "Paris: 17 degrees", "Rome: 17 degrees"):
        assert said in result["text"]


@pytest.mark.parametrize("case", ["runner", "runner_streamed"])
def test_the_tool_runner_runs_only_the_clients_tool(run: Run, case: str) -> None:
    result = run(case)
    assert sorted(result["cities"]) == ["Paris", "Rome"]
    for said in ("In Oslo it is", "Paris: 17 degrees", "Rome: 17 degrees"):
        assert said in result["text"]


def test_an_answer_has_the_format_that_was_asked_for(run: Run) -> None:
    assert run("parsed") == {"keys": ["title"]}


def test_tokens_are_counted(run: Run) -> None:
    assert run("count")["input_tokens"] > 0


def test_errors_are_thrown_before_and_in_a_stream(run: Run) -> None:
    assert run("errors") == {
        "key": ["AuthenticationError", 401, "authentication_error", ""],
        "model": ["NotFoundError", 404, "not_found_error", ""],
        "field": ["BadRequestError", 400, "invalid_request_error", ""],
        "limit": ["RateLimitError", 429, "rate_limit_error", ""],
        "failure": ["ServiceUnavailableError", 503, "overloaded_error", ""],
        "break": ["APIError", None, "api_error", "1, 2, 3, 4, 5, "],
        "cut": ["APIError", None, "api_error", "1, 2, 3, 4, 5, "],
    }


def test_heartbeats_are_passed_over(run: Run) -> None:
    assert run("slow") == {"text": "hello there"}


@pytest.mark.parametrize("case", ["abort", "leave"])
def test_aborting_settles_the_row_as_cancelled(run: Run, row: FindRow, case: str) -> None:
    assert row(run(case)["request_id"])["status"] == "cancelled"
