# Everything a clone needs: `make demo` first. Environments are made once, and again only when pyproject.toml or
# constraints.txt changes, so a second run needs no network.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export ORT_DISABLE_TELEMETRY := 1

# What serving needs, and what developing needs. The second contains the first.
SERVE_STAMP := $(VENV)/.serve-installed
DEV_STAMP := $(VENV)/.dev-installed
# First and alone: the default wheel for Linux on x86 drags in gigabytes of CUDA. Where pip is told of an index with
# PyTorch's CPU builds (PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), 2.13.0+cpu is preferred to it, and nothing later replaces it.
TORCH := torch==2.13.0

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-all lint constraints openapi bench clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed and was not found; try make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv module is needed (Debian: apt install python3-venv)"; exit 1; }

$(SERVE_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install -q -c constraints.txt -e '.[cpu]'
	@touch $@

$(DEV_STAMP): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/pip install -q '$(TORCH)'
	$(BIN)/pip install -q -c constraints.txt -e '.[cpu,train,dev]'
	@touch $@ $(SERVE_STAMP)

demo: $(SERVE_STAMP)  ## start a service, ingest the example library, search, classify, score
	$(BIN)/python examples/demo.py

serve: $(SERVE_STAMP)  ## run the service on the data folder of the demo: http://127.0.0.1:8000
	CLSP_DATA_DIR=$${CLSP_DATA_DIR:-data/demo} $(BIN)/clsp serve

test: $(DEV_STAMP)  ## the tests, except the minutes-long ones
	$(BIN)/pytest -m 'not slow'

test-all: $(DEV_STAMP)  ## all tests
	$(BIN)/pytest

lint: $(DEV_STAMP)  ## ruff, mypy and the allowed imports between rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

constraints: $(DEV_STAMP)  ## write constraints.txt anew from what is installed, after an upgrade that passed the tests
	@sed -n 1p constraints.txt > constraints.new
	$(BIN)/pip list --format=freeze | grep -viE '^(clsp-service|torch|pip|setuptools|wheel)==' >> constraints.new
	mv constraints.new constraints.txt

openapi: $(DEV_STAMP)  ## write docs/openapi.json anew, after the API was changed on purpose
	$(BIN)/python docs/openapi_snapshot.py

bench: $(DEV_STAMP)  ## footprint, latency and load; tables, JSON in benchmarks/results/, plots in docs/
	$(BIN)/python benchmarks/footprint.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/ingest.py
	$(BIN)/python benchmarks/publish.py

clean:  ## remove environments, caches and the demo's data
	rm -rf $(VENV) data/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis benchmarks/results
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
