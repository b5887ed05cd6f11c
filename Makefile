# Everything a person or CI does here, one verb each. Needed beforehand: make, and Python 3.11, 3.12
# or 3.13 with venv. Each verb makes what it needs, once, in $(VENV), from constraints.txt.
#
#   make demo        fit, detect and explain the bundled recording; writes ./report.html
#   make test        the library on its real parts, in minutes
#   make test-all    and what takes longer: processes killed, browsers, clusters, packaging, soak, the benchmark
#   make lint        ruff: rules and layout
#   make types       mypy --strict over the sources of both, the programs and the examples
#   make docs        write docs/settings.md, and check what the documents say
#   make soak        kill live detection 320 times, load it for an hour; writes benchmarks/results/soak*.json
#   make bench       measure, print, and write benchmarks/results/ (IMDIFFUSION_DATA = data folder)
#   make bench-small the same programs at tiny sizes; measures nothing, writes nothing
#   make bench-compare BASE=COMMIT  the fast ones at two commits in turn; prints ratios
#   make clean       remove what these verbs made
#
# Variables, given as `make test PYTHON=python3.12`:
#   PYTHON    the interpreter that makes the environment
#   PIP_ARGS  further arguments for pip. A machine without a GPU saves gigabytes with
#             PIP_ARGS="--extra-index-url ADDRESS", the address of PyTorch's CPU builds
#   VENV      the environment's folder
#   JOBS      tests at the same time: one for each core, if nothing else is said
#   THREADS   threads of one tensor operation in the tests
#   ARGS      further arguments for pytest (make test) or for imdiffusion demo (make demo)

VENV ?= .venv
PIP_ARGS ?=
ARGS ?=
# The tests' tensors are small: a second thread gains nothing on them, and costs tenfold in waiting
# as soon as anything else wants the second core.
THREADS ?= 1
JOBS ?= auto

BIN := $(VENV)/bin
BENCHMARK := packages/imdiffusion-bench
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-build-isolation -c constraints.txt $(PIP_ARGS)
USABLE := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
    $$p -c '$(USABLE)' >/dev/null 2>&1 && echo $$p && break; done)
ONE_THREAD := OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) OPENBLAS_NUM_THREADS=$(THREADS)
BENCHMARKS := $(filter-out benchmarks/ledger.py benchmarks/compare.py benchmarks/serving.py,$(sort $(wildcard benchmarks/*.py)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all soak lint types docs bench bench-small bench-compare clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:
	@sed -n '4,13s/^# \{0,3\}//p' Makefile

demo: $(VENV)/.installed
	$(BIN)/imdiffusion demo $(ARGS)

test: $(VENV)/.installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow' tests $(ARGS)

test-all: $(VENV)/.installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m 'not slow' $(ARGS)
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow $(ARGS)

soak: $(VENV)/.installed-dev
	IMDIFFUSION_KILLS=200 IMDIFFUSION_SOAK_RESULT=benchmarks/results/soak.json \
	  IMDIFFUSION_REAL_KILLS=100 IMDIFFUSION_REAL_KILLS_RESULT=benchmarks/results/soak_real.json \
	  IMDIFFUSION_KAFKA_KILLS=20 \
	  IMDIFFUSION_SOAK_SECONDS=3600 IMDIFFUSION_SOAK_MEMORY_RESULT=benchmarks/results/soak_memory.json \
	  $(ONE_THREAD) $(BIN)/python -m pytest tests/live/test_kills.py tests/live/test_kills_real.py \
	  tests/live/test_kills_kafka.py tests/cli/test_soak.py $(ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/python docs/settings.py
	$(ONE_THREAD) $(BIN)/python -m pytest tests/test_docs.py

bench: $(VENV)/.installed-dev
	set -e; for script in $(BENCHMARKS); do echo "== $$script"; $(BIN)/python $$script; done

bench-small: $(VENV)/.installed-dev
	set -e; for script in $(BENCHMARKS); do echo "== $$script --small"; $(ONE_THREAD) $(BIN)/python $$script --small; done

bench-compare: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/compare.py $(BASE) $(ARGS)

clean:
	rm -rf .venv build dist src/*.egg-info packages/*/build packages/*/src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis report.html

# -- the environment: the library for `demo`, everything else for the rest

$(BIN)/python:
	@"$(PYTHON)" -c '$(USABLE)' 2>/dev/null || { \
	  echo "Found no Python 3.11, 3.12 or 3.13 with venv (PYTHON=$(PYTHON))." >&2; \
	  echo "On Debian or Ubuntu: apt-get install python3 python3-venv" >&2; \
	  echo "Or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "== making $(VENV) with $$($(PYTHON) --version), $$(command -v $(PYTHON))"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: constraints.txt pyproject.toml | $(BIN)/python
	@echo "== installing the library with the versions of constraints.txt (once; torch is large)"
	$(PIP) setuptools
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed $(BENCHMARK)/pyproject.toml
	@echo "== installing the tools for tests, lint and types (once)"
	$(PIP) -e '.[test,lint]' -e $(BENCHMARK)
	@touch $@
