PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORPUS ?= ../shared/corpus
AUDIO ?=
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check bench corpus clean

help: ## list what can be made
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setting up $(VENV) for the demo (numpy, onnxruntime, the review server; no torch)"
	$(PIP) --editable '.[edge,review]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "setting up $(VENV) for development (torch and all test tools; a few minutes)"
	$(PIP) --editable '.[dev,bench]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo ## an evening at home, scanned, flagged and sent to a reviewer (AUDIO=path for your own recording)
	@$(BIN)/earmark demo --corpus $(CORPUS) $(if $(AUDIO),--audio '$(AUDIO)') $(if $(DEMO_ONCE),--once)

test: check ## all set-up, then everything that `check` runs

check: $(VENV)/.dev ## format, lint, types, import arrows and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(PYTEST_ARGS)

bench: $(VENV)/.dev ## regenerate the benchmark tables in bench/
	$(BIN)/python -m bench.parity
	$(BIN)/python -m bench.run

corpus: $(VENV)/.dev ## read and validate the whole manifest of CORPUS
	$(BIN)/earmark data check $(CORPUS)/manifest.csv

clean: ## remove what can be made again
	rm -rf $(VENV) demo-output build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
