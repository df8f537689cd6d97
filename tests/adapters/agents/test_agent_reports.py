from dataclasses import dataclass
from typing import Any

import pytest

from adapters.agents.reported import Reported, read_report
from gateway.events import Usage


@dataclass
class Counts:
    input_tokens: int
    output_tokens: int


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        pytest.param(
            {
                "usage": {
                    "prompt_tokens": 30,
                    "completion_tokens": 9,
                    "prompt_tokens_details": {"cached_tokens": 10},
                    "completion_tokens_details": {"reasoning_tokens": 4},
                }
            },
            Usage(30, 9, cached_tokens=10, reasoning_tokens=4),
            id="OpenAI",
        ),
        pytest.param(
            {"usage": {"input_tokens": 5, "output_tokens": 9, "input_tokens_details": None}},
            Usage(5, 9),
            id="OpenAI's responses",
        ),
        pytest.param(
            {
                "usage": {
                    "input_tokens": 5,
                    "output_tokens": 9,
                    "cache_read_input_tokens": 20,
                    "cache_creation_input_tokens": 3,
                }
            },
            Usage(28, 9, cached_tokens=20, cache_write_tokens=3),
            id="Anthropic",
        ),
        pytest.param({"usage": Counts(5, 9)}, Usage(5, 9), id="objects"),
        pytest.param({"prompt_eval_count": 5, "eval_count": 9}, Usage(5, 9), id="Ollama"),
        pytest.param(
            {
                "usage_metadata": {
                    "prompt_token_count": 5,
                    "candidates_token_count": 9,
                    "thoughts_token_count": 2,
                    "cached_content_token_count": 1,
                }
            },
            Usage(5, 11, cached_tokens=1, reasoning_tokens=2),
            id="Google",
        ),
        pytest.param({"usage": None, "choices": []}, None, id="a piece without"),
        pytest.param(None, None, id="nothing"),
        pytest.param("text", None, id="text"),
    ],
)
def test_usage_is_found_in_a_raw_reply(raw: object, usage: Usage | None) -> None:
    assert read_report(raw).usage == usage


@pytest.mark.parametrize(
    ("raw", "model", "reason"),
    [
        ({"model": "m-1", "choices": [{"finish_reason": "length"}]}, "m-1", "length"),
        ({"model": "m-1", "choices": [{"finish_reason": None}]}, "m-1", None),
        ({"model": "m-1", "stop_reason": "end_turn"}, "m-1", "end_turn"),
        ({"model": "m-1", "done_reason": "stop"}, "m-1", "stop"),
        ({"model_version": "g-1", "candidates": [{"finish_reason": "STOP"}]}, "g-1", "STOP"),
        ({"model": 3}, None, None),
    ],
)
def test_model_and_finish_reason_are_found(
    raw: dict[str, Any], model: str | None, reason: str | None
) -> None:
    report = read_report(raw)
    assert (report.model, report.finish_reason) == (model, reason)


def test_pieces_of_a_round_add_up_to_what_the_last_one_counts() -> None:
    total = Reported()
    for raw in (
        {"model": "m-1", "usage": {"input_tokens": 5, "output_tokens": 1}},
        {},
        {"usage": {"output_tokens": 9}, "stop_reason": "end_turn"},
    ):
        total.add(read_report(raw))
    assert total == Reported(Usage(5, 9), "m-1", "end_turn")
