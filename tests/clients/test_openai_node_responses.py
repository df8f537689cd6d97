"""The newest openai-node on the Responses API, whose `.stream()` takes no event that OpenAI lacks."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.clients import environments
from tests.clients.conftest import FindRow
from tests.clients.programs import play

pytestmark = pytest.mark.clients

PROGRAM = Path(__file__).parent / "node" / "responses.mjs"
LOCK = json.loads((PROGRAM.parent / "package-lock.json").read_text())
VERSION: str = LOCK["packages"]["node_modules/openai"]["version"]
ANSWER = re.compile(r"In Oslo it is \d\d:\d\d on \w+, .+ 17 \* 23 = 391\.")
Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def run(base_url: str, key: str) -> Run:
    node, folder = environments.node()

    def run(case: str) -> dict[str, Any]:
        command: list[str | Path] = [
            *(node, "--no-deprecation", "--input-type=module", "-"),
            *("openai", case, base_url, key),
        ]
        result = play(command, PROGRAM, cwd=folder)
        assert result.pop("version") == VERSION
        return result

    return run


def test_a_whole_answer_is_read(run: Run, row: FindRow) -> None:
    result = run("whole")
    assert ANSWER.fullmatch(result["text"])
    assert result["types"].count("mcp_call") == 2
    assert row(result["id"].removeprefix("resp_"))["type"] == "responses"


def test_the_helper_takes_the_stream(run: Run) -> None:
    result = run("helper")
    assert ANSWER.fullmatch(result["text"])
    assert result["whole"] == result["text"]
    assert result["types"].count("mcp_call") == 2
    assert {"response.mcp_call.in_progress", "response.mcp_call.completed"} <= {*result["events"]}
    assert result["tokens"] > 0


def test_the_clients_tools_are_called_and_answered(run: Run) -> None:
    result = run("calls")
    assert result["calls"] == ["Paris", "Rome"]
    assert "In Oslo it is" in result["text"]
    assert "17" in result["text"]


def test_errors_are_thrown_before_and_in_a_stream(run: Run) -> None:
    assert {name: tuple(error) for name, error in run("errors").items()} == {
        "field": ("BadRequestError", 400, "decimal_above_max_value", "temperature"),
        "model": ("NotFoundError", 404, "model_not_found", "model"),
        "previous": ("NotFoundError", 404, "previous_response_not_found", "previous_response_id"),
        "break": ("APIError", None, "upstream_error", None),
        "cut": ("APIError", None, "upstream_truncated", None),
    }


def test_answers_are_kept_until_they_are_deleted(run: Run) -> None:
    assert run("kept") == {"same": True, "asked": ["message"], "gone": 404}
