"""Frameworks and tools on top of the SDKs, the newest of each, as their users write it: none needs a
workaround."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.clients import environments
from tests.clients.programs import play
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.clients

FOLDER = Path(__file__).parent / "frameworks"
REQUIREMENTS = {
    "frameworks": FOLDER / "requirements.txt",
    "frameworks-openai-2": FOLDER / "requirements-openai-2.txt",
}

ANSWER = "17 * 23 = 391."
WEATHER = "get_weather (Paris) says: sunny in Paris"
PARIS = [{"city": "Paris"}]
ADA = {"name": "Ada", "age": 36}
ERRORS = {"key": "AuthenticationError", "model": "NotFoundError", "limit": "RateLimitError"}

# Environment, program, what else it is told, and what each of its cases prints: at least that.
CLIENTS: dict[str, tuple[str, str, tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "LangChain": (
        "frameworks",
        "langchain.py",
        (),
        {
            "text": {"text": ANSWER, "tokens": 30},
            "stream": {"text": ANSWER, "pieces": 5, "tokens": 30},
            "tools": {"called": PARIS, "text": WEATHER},
            "structure": ADA,
            "abort": {"pieces": 5},
            "errors": {
                "key": "OpenAIAuthenticationError",
                "model": "OpenAIModelNotFoundError",
                "limit": "OpenAIRateLimitError",
                "break": "APIError",
            },
            "embeddings": {"vectors": 2},
        },
    ),
    "PydanticAI": (
        "frameworks",
        "pydantic_ai.py",
        (),
        {
            "text": {"text": ANSWER, "tokens": 30},
            "stream": {"text": ANSWER, "pieces": 5, "tokens": 30},
            "tools": {"called": PARIS, "text": WEATHER},
            "structure": ADA,
            "abort": {"pieces": 5},
            "errors": {"key": 401, "model": 404},
        },
    ),
    "LiteLLM": (
        "frameworks",
        "litellm.py",
        (),
        {
            "text": {"text": ANSWER, "tokens": 30},
            "stream": {"text": ANSWER, "pieces": 5, "tokens": 30},
            "tools": {"called": PARIS, "text": WEATHER},
            "structure": ADA,
            "abort": {"pieces": 5},
            "errors": ERRORS,
            "embeddings": {"vectors": 2},
        },
    ),
    "the llm command": (
        "frameworks",
        "llm.py",
        (),
        {
            "text": {"text": ANSWER},
            "stream": {"text": ANSWER},
            "tools": {"text": WEATHER},
            "structure": ADA,
            "errors": {},
        },
    ),
    "OpenAI Agents SDK over chat": (
        "frameworks",
        "agents.py",
        ("chat",),
        {
            "text": {"text": ANSWER, "tokens": 30},
            "stream": {"text": ANSWER, "pieces": 5},
            "tools": {"called": PARIS, "text": WEATHER},
            "structure": ADA,
            "abort": {"pieces": 5},
            "errors": ERRORS,
        },
    ),
    "OpenAI Agents SDK over Responses": (
        "frameworks",
        "agents.py",
        ("responses",),
        {
            "text": {"text": ANSWER, "tokens": 30},
            "stream": {"text": ANSWER, "pieces": 5},
            "tools": {"called": PARIS, "text": WEATHER},
            "structure": ADA,
            "abort": {"pieces": 5},
            "errors": ERRORS,
        },
    ),
    "LlamaIndex OpenAILike": (
        "frameworks-openai-2",
        "llamaindex.py",
        (),
        {
            "text": {"text": ANSWER, "tokens": 30},
            "stream": {"text": ANSWER, "pieces": 5},
            "tools": {"called": PARIS, "text": WEATHER},
            "structure": ADA,
            "abort": {"pieces": 5},
            "errors": ERRORS,
            "completion": {"text": ANSWER, "streamed": ANSWER},
        },
    ),
    "instructor": (
        "frameworks-openai-2",
        "instructor.py",
        (),
        {"structure": ADA, "stream": {**ADA, "pieces": 10}, "errors": {"key": True}},
    ),
}

VERCEL: dict[str, dict[str, Any]] = {
    "text": {"text": ANSWER, "tokens": 30},
    "stream": {"text": ANSWER, "pieces": 5},
    "tools": {"called": PARIS, "text": WEATHER},
    "structure": ADA,
    "abort": {"pieces": 5},
    "errors": {"key": 401, "model": 404, "limit": 429},
}


@pytest.fixture(scope="module")
def printed(base_url: str, key: str) -> Callable[[str], dict[str, Any]]:
    """What all cases of a client print. A process has them all: to start one takes longer."""

    @cache
    def run(client: str) -> dict[str, Any]:
        environment, program, more, cases = CLIENTS[client]
        python = environments.python(environment, REQUIREMENTS[environment])
        names = ",".join(cases)
        command = [python, "-W", "ignore", "-", names, base_url, key, *more]
        return play(command, FOLDER / program)

    return run


@pytest.mark.parametrize(
    ("client", "case"),
    [
        pytest.param(client, case, id=f"{client}: {case}")
        for client, (_, _, _, cases) in CLIENTS.items()
        for case in cases
    ],
)
def test_a_framework_needs_no_workaround(
    printed: Callable[[str], dict[str, Any]], client: str, case: str
) -> None:
    found = printed(client)[case]
    assert CLIENTS[client][3][case].items() <= found.items()
    if client == "the llm command" and case == "errors":
        assert "401 - Incorrect API key" in found["key"]
        assert "404 - The model 'nothing' does not exist" in found["model"]


@pytest.mark.parametrize("provider", ["compatible", "openai"])
def test_vercels_ai_sdk_needs_no_workaround(base_url: str, key: str, provider: str) -> None:
    node, folder = environments.node("node_vercel")
    command: list[str | Path] = [
        node,
        *("--no-deprecation", "--input-type=module", "-"),
        *(provider, ",".join(VERCEL), base_url, key),
    ]
    source = Path(__file__).parent / "node_vercel" / "cases.mjs"
    found = play(command, source, cwd=folder)
    for case, expected in VERCEL.items():
        assert expected.items() <= found[case].items(), case


def test_one_that_leaves_has_left(gateway: Gateway, base_url: str) -> None:
    """The gateway knows of it by the connection alone."""
    key = gateway.key("leaver@example.com")
    python = environments.python("frameworks", REQUIREMENTS["frameworks"])
    for program in ("langchain.py", "pydantic_ai.py", "litellm.py", "agents.py"):
        play([python, "-W", "ignore", "-", "abort", base_url, key], FOLDER / program)
    rows = [row for row in gateway.rows() if row["email"] == "leaver@example.com"]
    assert [row["status"] for row in rows] == ["cancelled"] * 4


def test_the_lists_of_packages_name_no_registry() -> None:
    for file in REQUIREMENTS.values():
        for line in file.read_text().splitlines():
            assert re.fullmatch(r"#.*|[a-z0-9._-]+==[\w.+!-]+", line), line
