"""LiteLLM's proxy, for comparison: in an environment of its own, with a key and no database."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import run

from tests.benchmarks.processes import child, unused_port, wait

KEY = "sk-bench"
_ENVIRONMENT = Path(".envs/litellm")
_CONFIG = """
model_list:
  - model_name: "*"
    litellm_params: {{model: "openai/*", api_base: "{upstream}/v1", api_key: none}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false}}
"""


def install() -> None:
    """The newest one, unless one is there already. Takes a minute or two."""
    if not (_ENVIRONMENT / "bin" / "litellm").exists():
        print("installing LiteLLM into", _ENVIRONMENT, file=sys.stderr)
        run([sys.executable, "-m", "venv", _ENVIRONMENT], check=True)
        pip = (_ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "-q")
        run([*pip, "--disable-pip-version-check", "litellm[proxy]"], check=True)


@contextmanager
def proxy(folder: Path, upstream: str) -> Iterator[tuple[str, int]]:
    """Its address and its process, once it listens."""
    config = folder / "litellm.yaml"
    config.write_text(_CONFIG.format(upstream=upstream, key=KEY))
    port = unused_port()
    program = _ENVIRONMENT.absolute() / "bin" / "litellm"
    listening = ("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1")
    quiet = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
    }
    with child(str(program), "--config", str(config), *listening, **quiet) as process:
        url = f"http://127.0.0.1:{port}"
        wait(url, seconds=120)
        yield url, process.pid
