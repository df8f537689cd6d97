"""The page about clients names those that are run, and their lock names no registry."""

import json
import re
from pathlib import Path

import openai

from tests.clients import environments

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


NODE = json.loads((environments.HERE / "node" / "package-lock.json").read_text())["packages"]


def test_the_page_names_the_versions_that_are_run() -> None:
    old = re.search(r"^openai==(.+)$", environments.OLD_REQUIREMENTS.read_text(), re.MULTILINE)
    assert old is not None
    rows = re.findall(r"^\| (openai-\w+ [\d.]+)", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        f"openai-python {openai.__version__}",
        f"openai-python {old[1]}",
        f"openai-node {NODE['node_modules/openai']['version']}",
        f"openai-node {NODE['node_modules/openai-4']['version']}",
    ]


def test_the_lock_says_nothing_of_where_packages_are() -> None:
    assert [name for name, package in NODE.items() if "resolved" in package] == []
