import time
from collections.abc import Sequence

import pytest

from adapters.providers.demo_needs import needs

TIME, SUM, WEB = "current_time", "calculator", "web_search"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("What time is it?", [(TIME, "")]),
        ("what time is it in Oslo and Tokyo", [(TIME, "Oslo"), (TIME, "Tokyo")]),
        (
            "what's the time in Oslo, New York and São Paulo right now?",
            [(TIME, "Oslo"), (TIME, "New York"), (TIME, "São Paulo")],
        ),
        ("time in Tokyo", [(TIME, "Tokyo")]),
        ("what day is it today", [(TIME, "")]),
        ("Tell me the time in UTC please", [(TIME, "UTC")]),
        ("what is 17*23", [(SUM, "17*23")]),
        ("15% of 80", [(SUM, "15% of 80")]),
        ("what's 15 percent of 80?", [(SUM, "15% of 80")]),
        ("the square root of 2", [(SUM, "sqrt(2)")]),
        ("seven times eight", [(SUM, "7 * 8")]),
        ("how much is twenty-five plus one hundred and five", [(SUM, "25 + 105")]),
        ("compute (3+4)*5 and 2^10", [(SUM, "(3+4)*5"), (SUM, "2^10")]),
        ("what is two to the power of ten", [(SUM, "2 ^10")]),
        ("what is 1,234 + 5,678", [(SUM, "1,234 + 5,678")]),
        ("5!", [(SUM, "5!")]),
        ("2+2=?", [(SUM, "2+2")]),
        ("search for tide times oslo", [(WEB, "tide times oslo")]),
        ("Please look up: fjords", [(WEB, "fjords")]),
        ("Search the web for 17 * 23", [(WEB, "17 * 23")]),
        ("latest news on AI", [(WEB, "latest news on AI")]),
        ("What's the weather in Paris?", [(WEB, "weather in Paris")]),
        (
            "What time is it in Oslo, and what is 17*23? Also search for tide times.",
            [(TIME, "Oslo"), (SUM, "17*23"), (WEB, "tide times")],
        ),
        ("what is 1+1? And what is 1+1?", [(SUM, "1+1")]),
        ("hello", []),
        ("I have 3 cats and 2 dogs", []),
        ("call me at 555-123-4567", []),
        ("we met on 2026-03-04", []),
        ("open 24/7", []),
        ("it takes 3-4 days", []),
        ("version 1.2.3", []),
        ("What's the time complexity of quicksort?", []),
        ("what time does the shop open", []),
        ("", []),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_text_needs_what_it_asks_for(text: str, wanted: Sequence[tuple[str, str]]) -> None:
    assert [(need.tool, need.argument) for need in needs(text)] == wanted


@pytest.mark.parametrize(
    "piece", ["(", "-", "1+", "what time is it in ", "a ", "1,", "search ", "\n"]
)
def test_no_text_takes_long(piece: str) -> None:
    started = time.process_time()
    needs(piece * 100_000)
    # What grows with the square of a text would take minutes.
    assert time.process_time() - started < 10
