# Needs Python 3.11 or 3.12, make and git; everything else goes into .venv, in the exact versions of constraints.txt, with what
# EXTRAS names of pyproject.toml's optional dependencies, now or once: make .venv/installed EXTRAS=postgres,s3
# The tests of the PostgreSQL export start a server of their own; they are skipped where none is installed (apt-get install postgresql).
#
#   make nightly                                    the whole night on the demo shop (ARGS="--set training.max_epochs=3")
#   make test                                       the tests; `make test-all` adds the long ones
#   make chaos                                      nights that are killed, raced, damaged and starved, and the table of what survived
#   make lint                                       ruff and mypy
#   make bench                                      side by side with RecTools (ARGS="--data data --rows train-kion recommend-kion")

comma := ,
EXTRAS ?=
ASKED := $(addprefix .venv/extra-,$(subst $(comma), ,$(EXTRAS)))
NAMED = $(patsubst .venv/extra-%,%,$(sort $(ASKED) $(wildcard .venv/extra-*)))
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
BIN := .venv/bin
PYTEST := $(BIN)/pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile

PEER := benchmarks/peers/rectools

.PHONY: nightly test test-all chaos lint bench bench-peers clean

nightly: .venv/installed
	$(BIN)/recsys nightly $(ARGS)

test: .venv/installed-dev
	$(PYTEST) -m "not slow and not chaos" $(ARGS)

test-all: .venv/installed-dev
	$(PYTEST) -m "not chaos" $(ARGS)

chaos: .venv/installed-dev
	$(BIN)/pytest -q -m chaos tests/chaos --numprocesses=2 $(ARGS)

lint: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/mypy

bench: .venv/installed $(if $(RECTOOLS_PYTHON),,bench-peers)
	$(BIN)/python -m benchmarks.speed $(ARGS)

bench-peers: $(PEER)/.venv/installed

clean:
	rm -rf .venv $(PEER)/.venv .pytest_cache .ruff_cache .mypy_cache .coverage*

# Installed again only when what it is made from changed, or an extra is asked for that was not before.
.venv/installed: pyproject.toml constraints.txt $(ASKED)
	@echo "Installing into .venv (a few minutes the first time)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".$(if $(NAMED),[$(subst $() ,$(comma),$(NAMED))])"
	touch $@

.venv/extra-%:
	mkdir -p .venv
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,postgres,s3]"
	touch $@

# The incumbent has an environment of its own.
$(PEER)/.venv/installed: $(PEER)/requirements.txt
	@echo "Installing RecTools into $(PEER)/.venv (a few minutes the first time)"
	$(PYTHON) -m venv $(PEER)/.venv
	$(PEER)/.venv/bin/python -m pip install --quiet --requirement $<
	touch $@
