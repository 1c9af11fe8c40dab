# `make` alone says what there is. Nothing is needed but Python 3.11 or newer; everything is installed into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

# The interpreter that .venv is made with; a newer one is looked for when this is the default and too old.
PYTHON ?= python3
# How many processes run the tests, and further arguments for pytest: make test ARGS='-k journal'
WORKERS ?= 2
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# What the caller has set for other programs must not reach into the environment.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PYTHONSTARTUP VIRTUAL_ENV
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV
export PIP_DISABLE_PIP_VERSION_CHECK := 1

PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

# Published packages that tests drive, each in an environment of its own, and the versions of SQLAlchemy to test with.
SUBJECTS := adk agents langchain django
SQLALCHEMIES := 1.4 2.0 2.1
PACKAGES := $(SUBJECTS:%=$(VENV)/subjects/%/.installed) $(SQLALCHEMIES:%=$(VENV)/sqlalchemy-%/.installed)

.PHONY: help demo test test-fast test-sqlalchemy subjects coverage servers lint check format bench kills fleet watch fuzz clean

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed-sidecar ## find the race in a small chat application (ARGS=--fixed: the race repaired)
	@$(BIN)/session-exporter demo $(ARGS)

test: $(VENV)/.installed-dev $(PACKAGES) test-sqlalchemy ## run all tests
	@$(PYTEST) $(ARGS)

test-fast: $(VENV)/.installed-dev ## run the tests that take less than two minutes together
	@$(PYTEST) -m "not slow and not e2e" $(ARGS)

# The newest one is that of the environment, and tested with everything else.
test-sqlalchemy: $(VENV)/.installed-dev $(PACKAGES) ## run the tests of the SQLAlchemy hooks with its older versions
	@for version in $(filter-out $(lastword $(SQLALCHEMIES)),$(SQLALCHEMIES)); do \
	  $(PYTEST) -o pythonpath=$(VENV)/sqlalchemy-$$version tests/hooks/sqlalchemy $(ARGS); \
	done

subjects: $(VENV)/.installed-dev $(PACKAGES) ## install the published packages that tests drive, and run those tests
	@$(PYTEST) tests/subjects $(ARGS)

coverage: $(VENV)/.installed-dev ## run all tests and show which branches none of them took
	@$(PYTEST) --cov --cov-branch --cov-report=term-missing:skip-covered $(ARGS)

servers: ## install the servers that tests start (Debian), without starting their daemons
	@.ci/servers

lint: $(VENV)/.installed-dev ## check style and formatting
	@$(BIN)/ruff check exporter tests
	@$(BIN)/ruff format --check exporter tests

check: lint ## check style, types, layers, and that generated documents are up to date
	@$(BIN)/mypy
	@report=$$($(BIN)/lint-imports --no-cache) || { echo "$$report"; exit 1; }; tail -n 2 <<< "$$report" | grep Contracts
	@$(BIN)/python -m session_exporter.sidecar.reference | diff docs/metrics.md - \
	  || { echo "docs/metrics.md is out of date: python -m session_exporter.sidecar.reference > docs/metrics.md"; exit 1; }

format: $(VENV)/.installed-dev ## format the sources
	@$(BIN)/ruff check -q --fix exporter tests
	@$(BIN)/ruff format exporter tests

bench: $(VENV)/.installed-bench ## measure, beside the peers, in one run
	@$(BIN)/python tests/bench $(ARGS)

kills: $(VENV)/.installed-dev ## kill workers and sidecar at random, for long, and compare every total
	@$(BIN)/python tests/e2e/kill_campaign.py $(ARGS)

fleet: $(VENV)/.installed-dev ## kill forwarders, consumers and Redis at random, for long, and hold every total against the oracle
	@$(BIN)/python tests/fleet/fleet_campaign.py $(ARGS)

watch: $(VENV)/.installed-dev ## kill a sidecar and the database that it watches at random, for long, and compare every total with the table
	@$(BIN)/python tests/watch_campaign/watch_kills.py $(ARGS)

fuzz: $(VENV)/.installed-dev ## hold the ledger against its oracle over many more histories
	@HYPOTHESIS_PROFILE=campaign $(PYTEST) -k oracle tests/core $(ARGS)

clean: ## remove what was built, .venv included
	@rm -rf $(VENV) build dist .coverage* htmlcov .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find exporter tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment: built once, and again when pyproject.toml changes. The stamp of an extra says that it is installed.
$(VENV)/.installed-%: pyproject.toml $(BIN)/python
	@echo "Installing session-exporter[$*] into $(VENV)"
	@$(BIN)/python -m pip install -qq -e '.[$*]' < /dev/null
	@touch $@

$(VENV)/subjects/%/.installed: tests/subjects/%.txt pyproject.toml $(BIN)/python
	@echo "Installing the packages of $< into $(@D)"
	@$(BIN)/python -m venv --clear $(@D)
	@$(@D)/bin/python -m pip install -qq -e . -r $< < /dev/null
	@touch $@

$(VENV)/sqlalchemy-%/.installed: $(BIN)/python
	@echo "Installing SQLAlchemy $* into $(@D)"
	@rm -rf $(@D)
	@$(BIN)/python -m pip install -qq --target $(@D) 'SQLAlchemy[asyncio]==$*.*' < /dev/null
	@touch $@

$(BIN)/python:
	@PYTHON='$(PYTHON)' .ci/environment $(VENV)
