"""openai-node, the newest and 4.104: the one takes named events, the other breaks on them."""

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

PROGRAM = Path(__file__).parent / "node" / "cases.mjs"
LOCK = json.loads((PROGRAM.parent / "package-lock.json").read_text())
VERSIONS: dict[str, str] = {
    sdk: LOCK["packages"][f"node_modules/{sdk}"]["version"] for sdk in ("openai", "openai-4")
}
DIALECTS = {"openai": "named", "openai-4": "inline"}
ANSWER = re.compile(r"In Oslo it is \d\d:\d\d on \w+, .+ 17 \* 23 = 391\.")
TOLD = [
    ["calculator", "completed"],
    ["calculator", "started"],
    ["current_time", "completed"],
    ["current_time", "started"],
]
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=list(VERSIONS), ids=list(VERSIONS.values()))
def sdk(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def run(sdk: str, base_url: str, key: str) -> Run:
    node, folder = environments.node()

    def run(case: str, key: str = key) -> dict[str, Any]:
        command: list[str | Path] = [
            node,
            "--no-deprecation",
            "--input-type=module",
            "-",
            sdk,
            case,
            base_url,
            key,
        ]
        result = play(command, PROGRAM, cwd=folder)
        assert result.pop("version") == VERSIONS[sdk]
        return result

    return run


def test_a_loop_reads_the_answer_and_the_notifications(run: Run, row: FindRow, sdk: str) -> None:
    result = run("loop")
    assert result["dialect"] == DIALECTS[sdk]
    assert ANSWER.fullmatch(result["text"])
    assert sorted(result["told"]) == TOLD
    assert row(result["request_id"])["status"] == "ok"


def test_named_events_break_only_the_old_one(run: Run, sdk: str) -> None:
    """Or else there is no reason any more to treat it otherwise."""
    assert run("named").get("error") == (None if sdk == "openai" else "TypeError")


def test_the_helper_keeps_the_whole(run: Run) -> None:
    result = run("helper")
    assert ANSWER.fullmatch(result["text"])
    assert (result["whole"], result["reason"]) == (result["text"], "stop")
    assert result["tokens"] > 0
    assert sorted(result["told"]) == TOLD


def test_a_whole_answer_is_read(run: Run, row: FindRow) -> None:
    result = run("whole")
    assert ANSWER.fullmatch(result["text"])
    assert row(result["request_id"])["tool_calls"] == 2


def test_usage_comes_only_with_the_chunk_that_has_no_choices(run: Run) -> None:
    assert run("usage") == {"choices": [1, 0], "usages": 1}


@pytest.mark.parametrize("case", ["tools", "tools_streamed"])
def test_the_tool_runner_runs_only_the_clients_tool(run: Run, case: str) -> None:
    result = run(case)
    assert result["cities"] == ["Paris"]
    assert result["roles"] == ["user", "assistant", "tool", "assistant"]
    assert "In Oslo it is" in result["text"]
    assert "17" in result["text"]


def test_calls_of_both_sides_are_told_apart(run: Run) -> None:
    result = run("calls")
    assert result["told"] == [["current_time", "started"], ["current_time", "completed"]]
    assert result["calls"] == [{"city": "Paris"}, {"city": "Rome"}]
    assert [name for name, _ in result["done"]] == ["get_weather"] * 2
    assert result["reason"] == "tool_calls"


def test_errors_are_thrown_before_and_in_a_stream(run: Run, sdk: str) -> None:
    named = sdk == "openai"  # version 4 forgets the id once a stream has begun
    assert {name: tuple(error.values()) for name, error in run("errors").items()} == {
        "key": ("AuthenticationError", 401, "invalid_api_key", None, False, ""),
        "model": ("NotFoundError", 404, "model_not_found", "model", True, ""),
        "field": ("BadRequestError", 400, "decimal_above_max_value", "temperature", True, ""),
        "limit": ("RateLimitError", 429, "rate_limit_exceeded", None, True, ""),
        "failure": ("InternalServerError", 503, "upstream_error", None, True, ""),
        "break": ("APIError", None, "upstream_error", None, named, "1, 2, 3, 4, 5, "),
        "cut": ("APIError", None, "upstream_truncated", None, named, "1, 2, 3, 4, 5, "),
    }


def test_the_helper_never_takes_a_cut_answer_for_a_whole(run: Run) -> None:
    assert "demo-cut" in run("cut")["error"]


def test_heartbeats_are_passed_over(run: Run) -> None:
    assert run("slow") == {"text": "hello there"}


@pytest.mark.parametrize("case", ["abort", "leave"])
def test_aborting_settles_the_row_as_cancelled(run: Run, row: FindRow, case: str) -> None:
    assert row(run(case)["request_id"])["status"] == "cancelled"


def test_what_cannot_help_is_not_tried_again(run: Run, gateway: Gateway, sdk: str) -> None:
    email = f"{sdk}@example.com"
    assert run("retries", key=gateway.key(email)) == {
        "type": "InternalServerError",
        "status": 503,
    }
    assert sum(one["email"] == email for one in gateway.rows()) == 1


def test_models_are_listed_and_found(run: Run) -> None:
    result = run("models")
    assert {"demo", "demo-fast"} <= set(result["ids"])
    assert result["one"] == "demo-fast"


def test_a_machine_without_node_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(environments.Missing, match=r"need Node\.js 20 or newer with npm"):
        environments.node()
