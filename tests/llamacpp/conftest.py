"""These tests run in an environment that has llama.cpp (`make test-llamacpp`), and nowhere else."""

from importlib.util import find_spec

collect_ignore_glob = ["*"] if find_spec("llama_cpp") is None else []
