"""The example of an engine without a framework, which needs nothing but the gateway."""

import re
from pathlib import Path

import pytest

from tests.agents.order_desk import EXAMPLES, example, try_the_desk


def test_the_clerk_answers_as_a_model(tmp_path: Path) -> None:
    with example("own", tmp_path / "example") as gateway:
        try_the_desk(gateway, reported=False)


@pytest.mark.parametrize(
    "file", ["own/clerk.py", "langgraph/graph_engine.py", "openai-agents/runner_engine.py"]
)
def test_the_docs_show_what_is_tried(file: str) -> None:
    page = (EXAMPLES.parents[1] / "docs" / "adding-an-engine.md").read_text()
    assert f"```python\n{(EXAMPLES / file).read_text()}```" in page


def test_every_example_has_a_line_in_their_list() -> None:
    listed = re.findall(r"^\| `(\S+)` \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert set(listed) == {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()}
