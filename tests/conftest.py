"""What all tests may ask for."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from tests.servers.gateway import Gateway

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


@pytest.fixture(scope="module")
async def client(gateway: Gateway) -> AsyncGenerator[httpx2.AsyncClient, None]:
    """Of the gateway that a module starts, with a key of its own."""
    headers = {"authorization": f"Bearer {await asyncio.to_thread(gateway.key)}"}
    async with httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=30) as http:
        yield http
