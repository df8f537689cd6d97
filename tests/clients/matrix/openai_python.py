"""The conformance catalogue read by openai-python, of any age: `python openai_python.py BASE_URL KEY` prints
one JSON object, by dialect, with the probes that were not read as they should be."""

import json
import sys
import urllib.request

import openai

BASE_URL, KEY = sys.argv[1:]


def listing():
    asked = urllib.request.Request(
        f"{BASE_URL}/conformance", headers={"Authorization": f"Bearer {KEY}"}
    )
    with urllib.request.urlopen(asked) as answer:
        return json.load(answer)


def read(probe, dialect):
    """Texts, calls by the choice they are in, and the error, as a program puts them together."""
    client = openai.OpenAI(
        base_url=f"{BASE_URL}/conformance/{probe['name']}", api_key=KEY, max_retries=0
    )
    choices = [{"text": "", "tool_calls": {}} for _ in probe["expected"]["choices"]]
    error = None
    try:
        stream = client.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            extra_headers={"X-Tool-Notifications": dialect},
        )
        for chunk in stream:
            for choice in chunk.choices:
                told = choices[choice.index]
                told["text"] += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    kept = told["tool_calls"].setdefault(call.index, {"name": "", "arguments": ""})
                    kept["name"] += call.function.name or ""
                    kept["arguments"] += call.function.arguments or ""
    except openai.APIError as told:
        error = told.message
    return choices, error


def wrong(probe, dialect):
    try:
        choices, error = read(probe, dialect)
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"
    expected = probe["expected"]
    if (error is None) != ("error" not in expected):
        return f"error {error!r}"
    for told, should in zip(choices, expected["choices"]):  # noqa: B905 - runs on Python 3.8 as well
        long = isinstance(should["text"], dict)
        heard = {"length": len(told["text"]), "start": told["text"][:16]} if long else told["text"]
        calls = [(call["name"], call["arguments"]) for call in told["tool_calls"].values()]
        if heard != should["text"]:
            return f"text {told['text'][:60]!r}"
        if calls != [(call["name"], call["arguments"]) for call in should["tool_calls"]]:
            return f"calls {calls!r}"
    return None


told = listing()
print(
    json.dumps(
        {
            dialect: {
                probe["name"]: why
                for probe in told["data"]
                if (why := wrong(probe, dialect)) is not None
            }
            for dialect in told["dialects"]
        }
    )
)
