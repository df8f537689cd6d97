# Everything lives in this folder: the environment in .venv, caches in .cache, data in data.

PYTHON ?= python3
BIN := .venv/bin

# Frameworks that cannot live together: each is tested in .envs/agents-<name>.
AGENTS := llamaindex pydantic-ai langgraph openai-agents

.PHONY: help install dev serve format check test test-fast test-clients test-mcp test-agents $(AGENTS:%=test-%) \
  test-llamacpp goldens matrix lock clean

help: ## This list.
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1|/' | column -t -s '|'

# What runs the gateway, exactly as locked.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Sluice needs Python 3.11 or newer; say which with: make dev PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
	  || { echo "Python's venv module is not whole; on Debian: apt install python3-venv"; exit 1; }
	@test -x $(BIN)/python || { echo "Making the environment in .venv"; $(PYTHON) -m venv .venv; }
	@echo "Installing the gateway (a minute at the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# What checks and tests it besides.
.venv/installed-dev: .venv/installed requirements-dev.lock
	@echo "Installing the tools that check and test it"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@

install: .venv/installed-dev ## The environment, with all tools.

dev: .venv/installed ## Run the gateway on port 3000 with a demo engine, and print a first key.
	@$(BIN)/sluice dev

serve: .venv/installed ## Run the gateway as settings say.
	@$(BIN)/sluice serve

format: .venv/installed-dev ## Lay out the code.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: .venv/installed-dev ## Format, lint, types, and who may import whom.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --cache-dir .cache/import-linter

test: .venv/installed-dev .envs/mcp/installed ## All tests. They reach no network but the package registries.
	@$(BIN)/python -m pytest -n 4 --dist loadfile
	@$(MAKE) --no-print-directory test-agents

test-fast: .venv/installed-dev ## All but the vendors' SDKs, MCP servers and the faults.
	@$(BIN)/python -m pytest -n 4 --dist loadfile -m "not clients and not faults and not mcp"

test-clients: .venv/installed-dev ## Only the vendors' SDKs, old and new.
	@$(BIN)/python -m pytest -m clients

test-mcp: .venv/installed-dev .envs/mcp/installed ## Only tools of MCP servers, real ones among them.
	@$(BIN)/python -m pytest -m mcp tests/mcp tests/gateway

.envs/mcp/installed: tests/mcp/requirements.txt tests/mcp/package-lock.json
	@echo "Installing MCP servers into .envs"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/mcp/requirements.txt
	@cp tests/mcp/package.json tests/mcp/package-lock.json tests/mcp/.npmrc $(@D)
	@npm ci --prefix $(@D) --no-audit --no-fund --ignore-scripts --loglevel error > /dev/null
	@touch $@

test-agents: $(AGENTS:%=test-%) ## Only agents as engines, each framework in an environment of its own.

$(AGENTS:%=test-%): test-%: .venv/installed-dev .envs/agents-%/installed
	@set -- adapters/agents/$(subst -,_,$*)*.py; test ! -f $$1 || \
	  $(BIN)/mypy --python-executable .envs/agents-$*/bin/python --cache-dir .cache/mypy-$* $$@
	@.envs/agents-$*/bin/python -m pytest tests/agents/$*

.envs/agents-%/installed: tests/agents/%/requirements.txt pyproject.toml
	@echo "Installing $* into .envs (a minute at the first time)"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# llama.cpp comes as source only: built once for each version, without what the tests do not touch.
LLAMA_CPP := $(shell sed -n 's/^llama-cpp-python==//p' tests/llamacpp/requirements.txt)
LLAMA_CPP_WHEEL := .cache/wheels/llama-cpp-python-$(LLAMA_CPP)
LLAMA_CPP_CMAKE := -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF -DGGML_LLAMAFILE=OFF -DLLAVA_BUILD=OFF \
  -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 \
  -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/tests/llamacpp/build.cmake

test-llamacpp: .venv/installed-dev .envs/llamacpp/installed ## Only models in GGUF files; builds llama.cpp once.
	@$(BIN)/mypy --python-executable .envs/llamacpp/bin/python --cache-dir .cache/mypy-llamacpp \
	  adapters/providers/llamacpp_worker.py
	@.envs/llamacpp/bin/python -m pytest tests/llamacpp

.envs/llamacpp/installed: tests/llamacpp/requirements.txt pyproject.toml | $(LLAMA_CPP_WHEEL)
	@echo "Installing llama.cpp into .envs"
	@test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --find-links $(LLAMA_CPP_WHEEL) -r $<
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(LLAMA_CPP_WHEEL): | .venv/installed
	@echo "Building llama.cpp (some minutes, at the first time)"
	@rm -rf $@.part && mkdir -p $@.part
	@CMAKE_ARGS="$(LLAMA_CPP_CMAKE)" $(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps \
	  --wheel-dir $@.part llama-cpp-python==$(LLAMA_CPP)
	@mv $@.part $@

goldens: .venv/installed-dev ## Write the golden files anew; read the difference before you commit it.
	@$(BIN)/python tests/goldens/write.py

matrix: .venv/installed-dev ## Have all client builds read the conformance catalogue; write the table of docs/compatibility.md.
	@PYTHONPATH=. $(BIN)/python -m tests.clients.matrix.table

bench: .venv/installed-dev ## What a request and a chunk cost, as a table and as docs/performance.svg; LITELLM=1 compares.
	@$(BIN)/python -m tests.benchmarks.bench $(if $(LITELLM),--litellm)

lock: .venv/installed-dev ## Take new versions of everything into the lock files.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q -U --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --extra test --extra dev --extra mcp pyproject.toml -c requirements.lock -o requirements-dev.lock
	@$(BIN)/uv pip compile -q -U --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  tests/mcp/requirements.in -o tests/mcp/requirements.txt
	@for name in $(AGENTS); do \
	  $(BIN)/uv pip compile -q -U --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	    pyproject.toml tests/agents/testing.in tests/agents/$$name/requirements.in -c requirements-dev.lock \
	    -o tests/agents/$$name/requirements.txt || exit 1; \
	done
	@$(BIN)/uv pip compile -q -U --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
	  pyproject.toml tests/agents/testing.in tests/llamacpp/requirements.in -c requirements-dev.lock \
	  -o tests/llamacpp/requirements.txt

clean: ## Remove environments and caches; data stays.
	@rm -rf .venv .envs .cache
