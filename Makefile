# Everything here works on a machine with Python 3.11 (or 3.12: make PYTHON=python3.12), make and a C compiler. `make help` lists the targets.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
CONFIG ?= configs/local.yaml
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# once for each clone, so that no target asks again where no source can be reached; `make setup` always does
MODELS := $(VENV)/.models

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-unit test-integration test-slow check format reference lock clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: $(STAMP) ## make .venv, install everything from the lock, fetch the models (where a source can be reached)
	@$(BIN)/serve-app models fetch --optional
	@touch $(MODELS)

$(MODELS): | $(STAMP)
	@$(BIN)/serve-app models fetch --optional
	@touch $@

# uv installs the lock in under a minute where plain pip takes several; both take only files whose hash the lock has
$(STAMP): requirements.lock requirements-uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in [(3, 11), (3, 12)])' || \
		{ echo "Python 3.11 or 3.12 is needed; say where it is: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

run: $(STAMP) $(MODELS) ## serve CONFIG (configs/local.yaml) on PORT (8000) until Ctrl-C
	$(BIN)/serve-app run $(CONFIG) --port $(PORT)

demo: $(STAMP) $(MODELS) ## start the graph, run three real video jobs to their last callback, show and score the results
	$(BIN)/serve-app demo

test: test-unit test-integration ## unit, contract and integration tests

# one thread in each process: threads of several that share the cores wait for each other.
# The longest files come first, in this order, so that no core is left alone with one of them at the end.
test-unit: $(STAMP) $(MODELS) ## unit and contract tests alone
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/contract tests/unit -m "not slow and not gpu" -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-integration: $(STAMP) $(MODELS) ## integration tests alone
	$(BIN)/pytest tests/integration -m "not slow and not gpu"

test-slow: $(STAMP) $(MODELS) ## the long suites: kill -9 in each stage, two runners, load (run before an issue is resolved)
	$(BIN)/pytest -m slow

check: $(STAMP) ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## format and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(STAMP) ## write docs/configuration-reference.md from the code
	$(BIN)/python docs/generate_reference.py

COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: $(STAMP) ## resolve pyproject.toml into requirements.lock, with hashes (no index addresses)
	$(COMPILE) pyproject.toml --all-extras -o requirements.lock
	$(BIN)/uv pip sync --quiet --dry-run --require-hashes --python-version 3.12 --target build/py312 requirements.lock
	echo uv | $(COMPILE) - -o requirements-uv.lock

clean: ## remove what the targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
