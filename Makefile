# One command per intent; `make` alone lists them. Everything is installed into $(VENV), nothing outside the clone.
# Each installation leaves a stamp in $(VENV) and runs again only when pyproject.toml or constraints.txt changed.

PYTHON ?= python3
VENV ?= .venv
ENGINE ?= md-r18-slim
STREAM ?= test://street?seed=1&time=night&duration=10
WORKERS ?= 2
# Extra arguments for the installation of torch, see CONTRIBUTING.md.
TORCH_PIP_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
DOCS := $(VENV)/.docs

.DEFAULT_GOAL := help
.PHONY: demo test check bench docs clean help
# One virtual environment: two pips at once would break it, and speed tests want the cores. So -j changes nothing.
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(RUNTIME)  ## see it work: built-in night street -> runs/demo
	$(BIN)/mdrun --engine $(ENGINE) --visible "$(STREAM)" --thermal "$(STREAM)" --output runs/demo

# One thread per worker: two workers with two OpenMP threads each would fight for two cores.
test: $(DEV)  ## quick tests (real data too, where MDRUN_DATA or ../shared/data has them)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

check: $(DEV)  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(DEV)  ## speed tables -> benchmarks/results/latest.json
	mkdir -p benchmarks/results
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-json=benchmarks/results/latest.json

docs: $(DOCS)  ## this documentation as a web site -> site/
	$(BIN)/zensical build --clean --strict

clean:  ## remove what make made; your own runs stay
	rm -rf $(VENV) build dist site runs/demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
	find runtime training export benchmarks tests -name __pycache__ -prune -exec rm -rf {} +
	rm -rf runtime/*.egg-info training/*.egg-info export/*.egg-info *.egg-info

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*##/  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

# What a bare machine may lack: the interpreter, its age, and ensurepip, which Debian splits off.
$(VENV)/.made:
	@command -v $(PYTHON) > /dev/null || { \
	  echo "make: found no '$(PYTHON)', wanted Python 3.10 or newer; install it or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "make: '$(PYTHON)' is $$($(PYTHON) -V 2>&1), wanted Python 3.10 or newer; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2> /dev/null || { \
	  echo "make: '$(PYTHON)' has no venv module; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(RUNTIME): $(VENV)/.made pyproject.toml
	$(PIP) --editable ".[cpu]"
	@touch $@

# torch first and alone: with the pinned build in place nothing that follows asks for another one.
# `dev` holds everything `demo` needs, hence both stamps.
$(DEV): $(VENV)/.made pyproject.toml constraints.txt
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(VENV) has $$($(BIN)/python -V), training and tests want Python 3.11 or newer;" \
	    "run: make clean, then make test PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PIP) --constraint constraints.txt $(TORCH_PIP_ARGS) torch
	$(PIP) --constraint constraints.txt --editable ".[dev]"
	@touch $(RUNTIME) $@

$(DOCS): $(VENV)/.made Makefile
	$(PIP) "zensical>=0.0.73"
	@touch $@
