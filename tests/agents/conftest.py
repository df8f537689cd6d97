"""Each folder's tests run in an environment that has its framework (`make test-agents`), and nowhere
else: the frameworks exclude each other. Also what they have in common."""

from importlib.util import find_spec

_PACKAGES = {
    "llamaindex": "llama_index",
    "pydantic-ai": "pydantic_ai",
    "langgraph": "langgraph",
    "openai-agents": "agents",
}

collect_ignore = [folder for folder, package in _PACKAGES.items() if find_spec(package) is None]
