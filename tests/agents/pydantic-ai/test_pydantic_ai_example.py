from pathlib import Path

from tests.agents.order_desk import example, try_the_desk


def test_the_desk_answers_as_a_model(tmp_path: Path) -> None:
    with example("pydantic-ai", tmp_path / "example") as gateway:
        try_the_desk(gateway)
