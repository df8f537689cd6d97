"""What people do with the `llm` command: `python llm.py CASES BASE_URL KEY` prints one JSON object."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CASES, BASE_URL, KEY = sys.argv[1:]
MODELS = ("demo-fast", "nothing")
TOOL = '''
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"
'''


def llm(*arguments: str, key: str = KEY) -> "subprocess.CompletedProcess[str]":
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            f"- model_id: {name}\n  model_name: {name}\n  api_base: {BASE_URL}\n"
            f"  api_key_name: sluice\n  supports_tools: true\n  supports_schema: true\n"
            for name in MODELS
        ]
        (Path(folder) / "extra-openai-models.yaml").write_text("".join(rows))
        (Path(folder) / "keys.json").write_text(json.dumps({"sluice": key}))
        return subprocess.run(
            [Path(sys.executable).with_name("llm"), *arguments],
            env={**os.environ, "LLM_USER_PATH": folder},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


def text() -> object:
    return {"text": llm("-m", "demo-fast", "--no-stream", "what is 17 * 23?").stdout.strip()}


def stream() -> object:
    return {"text": llm("-m", "demo-fast", "what is 17 * 23?").stdout.strip()}


def tools() -> object:
    done = llm("-m", "demo-fast", "--functions", TOOL, "what is the weather in Paris?")
    return {"text": done.stdout.strip().splitlines()[-1]}


def structure() -> object:
    return json.loads(llm("-m", "demo-fast", "--schema", "name, age int", "Ada is 36").stdout)


def errors() -> object:
    return {
        "key": llm("-m", "demo-fast", "hi", key="sk-wrong").stderr.strip(),
        "model": llm("-m", "nothing", "hi").stderr.strip(),
    }


print(json.dumps({case: globals()[case]() for case in CASES.split(",")}))
