"""What all tests may ask for."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

Valid = Callable[[str, object], None]


@cache
def _schemas() -> dict[str, Any]:
    components: dict[str, Any] = json.loads(
        (Path(__file__).parent / "schemas" / "openai.json").read_text("utf-8")
    )["components"]
    return components


@cache
def _validator(name: str) -> Draft202012Validator:
    if name not in _schemas()["schemas"]:
        raise LookupError(f"OpenAI has no schema {name!r}")
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": _schemas()})


@pytest.fixture(scope="session")
def valid() -> Valid:
    """`valid("CreateChatCompletionStreamResponse", chunk)` fails where OpenAI's schema is broken."""

    def check(name: str, value: object) -> None:
        _validator(name).validate(value)

    return check
