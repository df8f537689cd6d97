"""What goes wrong in an agent of LlamaIndex, as the gateway's clients see it."""

from collections.abc import Generator
from pathlib import Path

import openai
import pytest

from tests.agents.order_desk import (
    ask,
    check_that_leaving_stops,
    check_that_one_error_ends,
    frames,
    row_of,
    serving,
)
from tests.servers.gateway import Gateway

AGENTS = '''
import asyncio
from pathlib import Path

from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from scripted_llm import ScriptedLLM, call


class Refusal(Exception):
    def __init__(self, status_code):
        self.status_code = status_code


async def look() -> str:
    """Looks."""
    raise KeyError("nothing")


async def wait() -> str:
    """Waits."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        Path(__file__).with_name("cancelled").touch()
        raise
    return "waited"


def agent(*rounds):
    return FunctionAgent(tools=[look, wait], llm=ScriptedLLM(*rounds))


def breaks_later():
    return agent((call("c1", "look"),), ("I see. ", Refusal(500)))


waits = AgentWorkflow(agents=[agent((call("c1", "wait"),))])
refused = agent((Refusal(429),))
breaks = agent(("Let me ", Refusal(500)))
faulty = agent(("Let me ", ZeroDivisionError("secret of the desk")))
'''
NAMES = ("waits", "refused", "breaks", "breaks_later", "faulty")
CONFIG = "models:\n" + "".join(f'  {name}: {{engine: "troubles:{name}"}}\n' for name in NAMES)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Generator[Gateway, None, None]:
    folder = tmp_path_factory.mktemp("troubles")
    model = Path(__file__).with_name("scripted_llm.py").read_text()
    with serving(folder, CONFIG, {"troubles.py": AGENTS, "scripted_llm.py": model}) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Generator[openai.OpenAI, None, None]:
    with openai.OpenAI(
        base_url=f"{gateway.url}/v1", api_key=gateway.key(), max_retries=0
    ) as client:
        yield client


@pytest.mark.parametrize(
    ("model", "code", "statuses"),
    [
        ("breaks", "upstream_error", []),
        ("breaks_later", "upstream_error", ["started", "failed"]),
        ("faulty", "internal_error", []),
    ],
)
def test_a_model_that_fails_ends_in_one_error(
    gateway: Gateway, model: str, code: str, statuses: list[str]
) -> None:
    told = frames(gateway, model)
    check_that_one_error_ends(told, code, statuses)
    assert not any("secret of the desk" in data for _, data in told)


def test_a_model_that_refuses_is_a_true_status(client: openai.OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, model="refused")
    request_id = caught.value.response.headers["x-request-id"]
    assert row_of(gateway, request_id)["error_code"] == "rate_limit_exceeded"


def test_whoever_leaves_stops_the_tools(gateway: Gateway) -> None:
    check_that_leaving_stops(gateway, "waits", gateway.folder / "cancelled")
