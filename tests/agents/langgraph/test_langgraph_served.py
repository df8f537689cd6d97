"""The engine of the docs for LangGraph, where things go wrong."""

from collections.abc import Generator

import pytest

from tests.agents.order_desk import (
    EXAMPLES,
    check_that_leaving_stops,
    check_that_one_error_ends,
    frames,
    serving,
)
from tests.servers.gateway import Gateway

AGENTS = '''
import asyncio
from pathlib import Path

from graph_engine import GraphEngine
from langchain.agents import create_agent
from rehearsal import Rehearsal


def desk(work):
    async def find_order(number: str) -> str:
        """Finds."""
        return await work()

    return GraphEngine(create_agent(Rehearsal(), [find_order]))


async def fail():
    raise KeyError("secret of the desk")


async def wait():
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path(__file__).with_name("cancelled").touch()
        raise


tool_fails = desk(fail)
waits = desk(wait)
'''
CONFIG = """
models:
  tool_fails: {engine: "troubles:tool_fails"}
  waits: {engine: "troubles:waits"}
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    modules = {
        name: (EXAMPLES / "langgraph" / name).read_text()
        for name in ("graph_engine.py", "rehearsal.py")
    }
    folder = tmp_path_factory.mktemp("troubles")
    with serving(folder, CONFIG, {**modules, "troubles.py": AGENTS}) as running:
        yield running


def test_a_tool_that_raises_ends_in_one_error(gateway: Gateway) -> None:
    told = frames(gateway, "tool_fails")
    check_that_one_error_ends(told, "internal_error", ["started", "cancelled"])
    assert not any("secret of the desk" in data for _, data in told)


def test_whoever_leaves_stops_the_graph(gateway: Gateway) -> None:
    check_that_leaving_stops(gateway, "waits", gateway.folder / "cancelled")
