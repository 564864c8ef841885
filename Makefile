# Needs Python 3.11 or 3.12, make and git; everything else goes into .venv, in the exact versions of constraints.txt.
#
#   make nightly                                    the whole night on the demo shop (ARGS="--set training.max_epochs=3")
#   make test                                       the tests; `make test-all` adds the long ones
#   make lint                                       ruff and mypy

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

.PHONY: nightly test test-all lint clean

nightly: .venv/installed
	$(BIN)/recsys nightly $(ARGS)

test: .venv/installed-dev
	$(PYTEST) -m "not slow" $(ARGS)

test-all: .venv/installed-dev
	$(PYTEST) $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .coverage*

# Installed again only when what it is made from changed.
.venv/installed: pyproject.toml constraints.txt
	@echo "Installing into .venv (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
