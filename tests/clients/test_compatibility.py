"""The page about clients names those that are run, and their lock names no registry."""

import json
import re
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.clients import environments

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


def _lock(folder: str) -> dict[str, Any]:
    lock: dict[str, Any] = json.loads(
        (environments.HERE / folder / "package-lock.json").read_text()
    )["packages"]
    return lock


NODE, ANTHROPIC_NODE = _lock("node"), _lock("node_anthropic")


def test_the_page_names_the_versions_that_are_run() -> None:
    old = re.search(r"^openai==(.+)$", environments.OLD_REQUIREMENTS.read_text(), re.MULTILINE)
    assert old is not None
    rows = re.findall(
        r"^\| (openai-\w+ [\d.]+)", PAGE.read_text().split("## Which build")[0], re.MULTILINE
    )
    assert rows == [
        f"openai-python {openai.__version__}",
        f"openai-python {old[1]}",
        f"openai-node {NODE['node_modules/openai']['version']}",
        f"openai-node {NODE['node_modules/openai-4']['version']}",
    ]


def test_the_page_names_anthropics_versions() -> None:
    node = ANTHROPIC_NODE["node_modules/@anthropic-ai/sdk"]["version"]
    rows = re.findall(
        r"^\| (\S*anthropic\S* [\d.]+)", PAGE.read_text().split("## Which build")[0], re.MULTILINE
    )
    assert rows == [f"anthropic-python {anthropic.__version__}", f"@anthropic-ai/sdk {node}"]


@pytest.mark.parametrize("lock", [NODE, ANTHROPIC_NODE], ids=["openai", "anthropic"])
def test_the_lock_says_nothing_of_where_packages_are(lock: dict[str, Any]) -> None:
    assert [name for name, package in lock.items() if "resolved" in package] == []


FRAMEWORKS = {
    "langchain-openai": "langchain-openai",
    "PydanticAI": "pydantic-ai-slim",
    "LiteLLM": "litellm",
    "`llm` command": "llm",
    "OpenAI Agents SDK": "openai-agents",
    "LlamaIndex OpenAILike": "llama-index-llms-openai-like",
    "instructor": "instructor",
}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_the_page_names_the_versions_of_frameworks(name: str) -> None:
    folder = environments.HERE / "frameworks"
    listed = "".join(file.read_text() for file in folder.glob("requirements*.txt"))
    version = re.search(rf"^{FRAMEWORKS[name]}==(.+)$", listed, re.MULTILINE)
    assert version is not None
    assert f"{name} {version[1]}" in PAGE.read_text()


def test_the_page_names_the_version_of_vercels_sdk() -> None:
    lock = json.loads((environments.HERE / "node_vercel" / "package-lock.json").read_text())
    version = lock["packages"]["node_modules/ai"]["version"]
    assert f"Vercel's AI SDK {version}" in PAGE.read_text()
