# One command each: `make setup`, `make talk`, `make test`, `make check`, `make bench`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INPUT ?= examples/conversation/conversation.flac
OUT ?= out
DELEGATIONS ?= 1000
SEED ?= 1

.PHONY: help setup setup-native talk talk-native test check bench bench-delegation bench-tracing bench-tools bench-engines bench-kernels bench-native exam-native chaos lock clean
.DEFAULT_GOAL := help

help:  ## Say what can be made.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

setup: $(VENV)/.ready  ## Make the virtual environment, with everything pinned; no root needed.

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "microturn needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/microturn weights fetch speech
	@touch $@

setup-native: $(VENV)/.ready-native  ## Add what the native model and its kernels need: PyTorch, Triton.

# PyTorch is pinned by its version and not by a hash: which build is right (CPU or CUDA) depends on the machine.
$(VENV)/.ready-native: $(VENV)/.ready requirements-native.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-native.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@

talk: setup  ## Play a person's side of a conversation to the assistant, and record both.
	$(BIN)/microturn weights fetch agent
	@mkdir -p $(OUT)
	MICROTURN_DOCUMENTS=examples/documents $(BIN)/microturn talk --input $(INPUT) --output $(OUT)/conversation.wav --timeline $(OUT)/timeline.png

talk-native: setup-native  ## The same with the native model, in its small vocabulary; WEIGHTS names a folder of other weights.
	@mkdir -p $(OUT)
	$(BIN)/microturn talk --model native $(if $(WEIGHTS),--weights $(WEIGHTS)) --input examples/conversation/native.flac --output $(OUT)/native.wav --timeline $(OUT)/native.png

test: setup-native  ## Run the tests.
	$(BIN)/python -m pytest -q

check: setup-native  ## Lint, types, layers.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup  ## Measure the figures of docs/benchmarks.md; prints a table and a line of JSON.
	$(BIN)/microturn weights fetch agent
	$(BIN)/python tests/benchmarks/bench_conversation.py

bench-delegation: setup  ## Measure delegation beside job queues; prints tables and a line of JSON.
	$(BIN)/python tests/benchmarks/bench_delegation.py --folder $(OUT)/bench-delegation

bench-tracing: setup  ## Measure what telemetry costs the beat; prints a table and a line of JSON.
	$(BIN)/python tests/benchmarks/bench_tracing.py

bench-tools: setup  ## Measure what a tool costs in each tier of isolation; prints a table and a line of JSON.
	$(BIN)/python tests/benchmarks/bench_tools.py

bench-engines: setup  ## Measure what the engines cost without their model; prints a table and a line of JSON.
	$(BIN)/python tests/benchmarks/bench_engines.py

bench-kernels: setup-native  ## Measure the batch-invariant operators beside PyTorch's own; prints a table.
	$(BIN)/python -m microturn.kernels.bench

bench-native: setup-native  ## Measure the native model: micro-turns, sessions, memory, the cost of fixed bits; prints tables and JSON.
	$(BIN)/python tests/benchmarks/bench_native.py

exam-native: setup-native  ## Examine the native model in voices that its training never uses; prints tables.
	$(BIN)/python tests/benchmarks/exam_native.py

chaos: setup  ## Break everything at once while DELEGATIONS are worked on, and count the broken promises.
	$(BIN)/python -m tests.chaos --delegations $(DELEGATIONS) --seed $(SEED)

lock:  ## Pin all dependencies anew (needs uv).
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	  --extra speech --extra local-llm --extra agents --extra anthropic --extra gemini --extra mcp \
	  --extra telemetry --extra sandbox --extra dev -o requirements.lock
	uv pip compile requirements-native.in --universal --python-version 3.11 --generate-hashes --no-header --quiet \
	  --constraint requirements.lock -o requirements-native.lock

clean:  ## Remove what was made here.
	rm -rf $(VENV) $(OUT) build dist *.egg-info
