"""Voice platforms' own clients on a telephone call: LiveKit's agents, Pipecat, and the SDK for Node.js with
the body that Vapi sends."""

from pathlib import Path
from typing import Any

import pytest

from tests.clients import environments
from tests.clients.conftest import FindRow
from tests.clients.programs import play
from tests.servers.gateway import Gateway

pytestmark = pytest.mark.clients

FOLDER = Path(__file__).parent / "voice"
ANSWER = "17 * 23 = 391."
APOLOGY = "Sorry, something went wrong here. Could you say that again, please?"

LIVEKIT: dict[str, dict[str, Any]] = {
    "text": {"text": ANSWER, "calls": [], "tokens": 30, "tries": 0},
    "silence": {"text": ANSWER, "tries": 0},
    "tool": {"text": "", "calls": [["end_call", {"reason": "please end call now"}]]},
    "limit": {"text": APOLOGY, "tries": 0},
    "break": {"text": f"Once there was a keeper … {APOLOGY}", "tries": 0},
    "key": {"status": 401, "retryable": False},
}
PIPECAT: dict[str, dict[str, Any]] = {
    "text": {"text": ANSWER, "calls": []},
    "tools": {
        "text": "",
        "calls": [
            [name, {"reason": "please end call and transfer call"}]
            for name in ("end_call", "transfer_call")
        ],
    },
    "limit": {"text": APOLOGY, "calls": []},
}
VAPI: dict[str, dict[str, Any]] = {
    "helper": {"text": ANSWER, "finish": "stop", "calls": []},
    "tool": {"finish": "tool_calls", "calls": [["endCall", "{}"]]},
    "limit": {"text": APOLOGY, "finish": "stop"},
    "model": {"text": APOLOGY, "finish": "stop"},
    "break": {"text": f"Once there was a keeper … {APOLOGY}", "finish": "stop"},
    "key": {"status": 401},
}


@pytest.mark.parametrize(("case", "expected"), LIVEKIT.items(), ids=LIVEKIT)
def test_livekits_agents(gateway: Gateway, key: str, case: str, expected: dict[str, Any]) -> None:
    python = environments.python("voice", FOLDER / "requirements.txt")
    told = play([python, "-", case, f"{gateway.url}/voice", key], FOLDER / "livekit.py")
    assert told == told | expected


@pytest.mark.parametrize(("case", "expected"), PIPECAT.items(), ids=PIPECAT)
def test_pipecat(gateway: Gateway, key: str, case: str, expected: dict[str, Any]) -> None:
    python = environments.python("voice", FOLDER / "requirements.txt")
    assert play([python, "-", case, f"{gateway.url}/voice", key], FOLDER / "pipecat.py") == expected


@pytest.mark.parametrize(("case", "expected"), VAPI.items(), ids=VAPI)
def test_vapis_requests(gateway: Gateway, key: str, case: str, expected: dict[str, Any]) -> None:
    told = _vapi(gateway, key, case)
    assert told == told | expected


def test_vapi_hears_nothing_of_tools_and_thoughts(gateway: Gateway, key: str, row: FindRow) -> None:
    told = _vapi(gateway, key, "loop")
    assert told["text"].startswith("In Oslo it is ")
    assert told["text"].endswith(ANSWER)
    assert told["kinds"] == ["content", "role"]
    found = row(told["request_id"])
    assert found["type"] == "voice"
    assert found["tool_calls"] == 2
    assert found["attributes"] == {"caller": "+15550100001", "conversation": "call-loop"}


def _vapi(gateway: Gateway, key: str, case: str) -> dict[str, Any]:
    node, folder = environments.node()
    command = [node, "--input-type=module", "-", case, f"{gateway.url}/api", key]
    return play(command, FOLDER / "vapi.mjs", cwd=folder)
