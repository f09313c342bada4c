# edgeflow's commands for people who work on it. `make demo` is the place to start.
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all fuzz docs lint clean
.DEFAULT_GOAL := help

EXTRAS ?= train,tflm,hls,dev
BIN := .venv/bin
SETUP_FILES := pyproject.toml constraints.txt scripts/setup.sh scripts/apt-install.sh scripts/system-tools.sh
STAMP := .venv/.setup-$(shell { cat $(SETUP_FILES); echo "$(EXTRAS)"; } | cksum | tr -cd '0-9')

help: ## list the targets
	@sed -n 's/^\([a-z%-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

$(STAMP):
	@PYTHON="$(PYTHON)" scripts/setup.sh "$(EXTRAS)"
	@rm -f .venv/.setup-* && touch $@

setup: $(STAMP) ## create .venv and install everything; does nothing when that is done
	@:

demo: $(STAMP) ## train, prune, quantize, build and verify the handwritten-digits example
	@$(BIN)/edgeflow run examples/digits/edgeflow.toml

test: $(STAMP) ## the tests, without the slow ones
	@$(BIN)/pytest -q -n 2 --dist loadgroup -m "not slow"

test-all: $(STAMP) ## all tests
	@$(BIN)/pytest -q -n 2 --dist loadgroup

fuzz: $(STAMP) ## random networks as C against their graphs: SECONDS=60 BOARD=cortex-m4f (or a board's name) SEED=0
	@$(BIN)/python -m tests.fuzz $(or $(SECONDS),60) $(or $(BOARD),cortex-m4f) $(or $(SEED),0)

docs: $(STAMP) ## write docs/supported-layers.md and generated-c.md from what the code itself says
	@$(BIN)/python -m tests.support
	@$(BIN)/python -m tests.generated

bench-%: $(STAMP) ## run benchmarks/%.py, for example: make bench-mcu
	@$(BIN)/python benchmarks/$*.py

lint: $(STAMP) ## style, types and the import contract
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/pyright --warnings
	@$(BIN)/lint-imports --no-logo

clean: ## remove what builds and tests leave behind; keeps .venv
	@rm -rf build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
