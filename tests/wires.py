"""The same question in the words of every wire, and what its row says."""

import asyncio

import httpx2

Body = dict[str, object]

PROMPT = "Tell me of the tides."
WIRES: dict[str, tuple[str, Body]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
    "native": ("/chat", {"message": PROMPT}),
    "voice": ("/voice/chat/completions", {"messages": [{"role": "user", "content": PROMPT}]}),
    "completion": ("/v1/completions", {"prompt": PROMPT}),
    "responses": ("/v1/responses", {"input": PROMPT}),
    "messages": (
        "/v1/messages",
        {"max_tokens": 900, "messages": [{"role": "user", "content": PROMPT}]},
    ),
}

OWN = {"request_id", "time", "type", "stream", "duration_ms", "first_token_ms"}
"""What is each call's own in a row."""


def timeless(found: Body) -> Body:
    """What a row has in common with those of the same run, its receipt included."""
    same = {name: found[name] for name in found.keys() - OWN}
    lines = same.pop("receipt", [])
    assert isinstance(lines, list)
    receipt = [{name: line[name] for name in line.keys() - OWN} for line in lines]
    return {**same, "receipt": receipt}


async def row(client: httpx2.AsyncClient, request_id: str) -> Body:
    """The settled row of a call."""
    for _ in range(100):
        found: Body = (await client.get(f"/v1/usage/{request_id}")).json()
        if found["status"] != "open":
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"the row stays open: {found}")
