# make book    the whole book, from nothing          make test    lint, types, tests, every chapter
# make lint    style, types and import layers only   make clean   forget everything that was made
# make upgrade the newest versions that pyproject.toml allows, into requirements.lock
PYTHON ?= python3
SEED ?= 0
DATA_ROOT ?=

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN := $(BIN)/python -m hsiutils
# The pages of what nbval ran, which a browser then looks at.
CHECKED := _build/checked
# A file at a time, in order: files of few but long tests would else come last, and one worker wait for the other.
SIDE_BY_SIDE := --numprocesses=auto --dist=loadfile --no-loadscope-reorder
# mutmut beside what is installed, without becoming part of it.
MUTMUT = VIRTUAL_ENV="$(CURDIR)/$(VENV)" PATH="$(CURDIR)/$(BIN):$$PATH" uv run --no-project --with mutmut==3.8.1
OPTIONS = --profile $(PROFILE) --seed $(SEED) $(if $(DATA_ROOT),--data-root "$(DATA_ROOT)")

.PHONY: help setup upgrade audit book test test-slow mutants lint style types units coverage clean
.DEFAULT_GOAL := help

help:  ## say what can be made
	@echo "make book    set up, make the data, train, run every chapter, build the HTML"
	@echo "make test    set up, lint, types, tests, every chapter under nbval, and its pages in a browser"
	@echo "make test-slow  kills and damaged files by the hundred, and their record; ten minutes"
	@echo "make mutants  faults planted in the code, one at a time: does a test see each? and their record; half an hour"
	@echo "make lint    style, types, import layers"
	@echo "make coverage  tests once more, and which lines they run; fails below 98 %"
	@echo "make audit   known vulnerabilities of what is locked; asks the package index about each of them"
	@echo "make upgrade the newest versions that pyproject.toml allows, into requirements.lock"
	@echo "make clean   remove what was made: .venv, _build, data/store and caches"
	@echo
	@echo "PROFILE=smoke|quick|paper   size of everything; make book: quick, make test: smoke"
	@echo "SEED=0                    every random choice follows from it"
	@echo "DATA_ROOT=/path/to/HSI-Drive   the real data set; without it, simulated scenes"

setup: $(READY)  ## the environment, from pinned versions

$(READY): requirements.lock pyproject.toml tools/setup.sh tools/runtime/package-lock.json
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/setup.sh
	@touch $@

upgrade: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash tools/lock.sh --upgrade

audit: $(READY)
	@PATH="$(CURDIR)/$(BIN):$$PATH" uvx pip-audit@2.10.1 --requirement requirements.lock --no-deps --disable-pip

book: PROFILE ?= quick
book: $(READY)
	@$(RUN) book $(OPTIONS)

test: PROFILE ?= smoke
# Tests and chapters run side by side, one a core: more threads would only wait for one another.
test: export OMP_NUM_THREADS = 1
test: style
	@$(MAKE) --no-print-directory -j2 types units
	@$(RUN) validate $(OPTIONS) --pages $(CHECKED)
	@PAGES=$(CHECKED) PROFILE=$(PROFILE) SEED=$(SEED) DATA_ROOT="$(DATA_ROOT)" \
		$(BIN)/python -m pytest --numprocesses=auto tests/pages

test-slow: export OMP_NUM_THREADS = 1
test-slow: $(READY)
	@$(BIN)/python -m pytest -m slow tests/slow

# What was stopped goes on; what has ended begins anew, for mutmut does not see that a test has changed.
mutants: export OMP_NUM_THREADS = 1
mutants: $(READY)
	@$(MUTMUT) mutmut run
	@$(MUTMUT) python -m benchmarks.mutants --out data/results/mutants.json
	@rm -rf mutants

lint: style types

style: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: $(READY)
	@$(BIN)/mypy

units: $(READY)
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --ignore=tests/pages $(COVER)

# Half as long again, so apart from make test.
coverage: COVER := --cov=hsiutils --cov-report=term:skip-covered --cov-fail-under=98
coverage: export OMP_NUM_THREADS = 1
coverage: units

clean:
	rm -rf $(VENV) _build mutants data/store *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
