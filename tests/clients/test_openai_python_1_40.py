"""openai-python 1.40, which breaks on every named event: it gets the inline dialect without asking."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients import environments
from tests.clients.conftest import FindRow
from tests.clients.programs import play

pytestmark = pytest.mark.clients

PROGRAM = Path(__file__).with_name("openai_1_40.py")
ANSWER = re.compile(r"In Oslo it is \d\d:\d\d on \w+, .+ 17 \* 23 = 391\.")
TOLD = [
    ["calculator", "completed"],
    ["calculator", "started"],
    ["current_time", "completed"],
    ["current_time", "started"],
]
Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def run(base_url: str, key: str) -> Run:
    python = environments.old_python()

    def run(case: str) -> dict[str, Any]:
        result = play([python, "-", case, base_url, key], PROGRAM)
        assert result.pop("version") == "1.40.0"
        return result

    return run


def test_a_naive_loop_reads_the_answer_and_the_notifications(run: Run, row: FindRow) -> None:
    result = run("loop")
    assert result["dialect"] == "inline"
    assert ANSWER.fullmatch(result["text"])
    assert sorted(result["told"]) == TOLD
    assert row(result["request_id"])["status"] == "ok"


def test_the_dialect_of_newer_versions_would_break_it(run: Run) -> None:
    """Or else there is no reason any more to treat it otherwise."""
    assert run("named")["error"] == "'NoneType' object is not subscriptable"


def test_the_async_client_reads_the_same(run: Run) -> None:
    assert ANSWER.fullmatch(run("async_loop")["text"])


def test_no_line_names_an_event(run: Run) -> None:
    lines = run("lines")["lines"]
    assert sum('"tool_notification"' in line for line in lines) == len(TOLD)
    assert {line.split(":")[0] for line in lines} == {"data"}
    assert lines[-1] == "data: [DONE]"


def test_the_beta_helper_passes_over_notifications(run: Run) -> None:
    result = run("helper")
    assert ANSWER.fullmatch(result["text"])
    assert (result["whole"], result["reason"]) == (result["text"], "stop")
    assert result["tokens"] > 0
    assert sorted(result["told"]) == TOLD


def test_usage_comes_only_with_the_chunk_that_has_no_choices(run: Run) -> None:
    assert run("usage") == {"choices": [1, 0], "usages": 1}


def test_a_whole_answer_is_read(run: Run, row: FindRow) -> None:
    result = run("whole")
    assert ANSWER.fullmatch(result["text"])
    assert row(result["id"])["tool_calls"] == 2


def test_one_turn_may_need_tools_of_both_sides(run: Run) -> None:
    result = run("tools")
    assert result["reason"] == "tool_calls"
    assert result["calls"] == [["get_weather", {"city": "Paris"}]]
    assert result["told"] == [["current_time", "started"], ["current_time", "completed"]]
    assert "In Oslo it is" in result["text"]
    assert "17" in result["text"]


def test_errors_are_raised_before_and_in_a_stream(run: Run) -> None:
    assert run("errors") == {
        "key": ["AuthenticationError", "invalid_api_key", None, ""],
        "model": ["NotFoundError", "model_not_found", "model", ""],
        "field": ["BadRequestError", "decimal_above_max_value", "temperature", ""],
        "limit": ["RateLimitError", "rate_limit_exceeded", None, ""],
        "failure": ["InternalServerError", "upstream_error", None, ""],
        "break": ["APIError", "upstream_error", None, "1, 2, 3, 4, 5, "],
        "cut": ["APIError", "upstream_truncated", None, "1, 2, 3, 4, 5, "],
    }


def test_leaving_a_stream_settles_its_row_as_cancelled(run: Run, row: FindRow) -> None:
    assert row(run("leave")["request_id"])["status"] == "cancelled"


def test_heartbeats_are_passed_over(run: Run) -> None:
    assert run("slow") == {"text": "hello there"}
