"""The example of an engine without a framework, which needs nothing but the gateway."""

from pathlib import Path

from tests.agents.order_desk import example, try_the_desk


def test_the_clerk_answers_as_a_model(tmp_path: Path) -> None:
    with example("own", tmp_path / "example") as gateway:
        try_the_desk(gateway, reported=False)
