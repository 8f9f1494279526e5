# make demo   the whole thing, live: cluster, chart, traffic, autoscaler, report
# make test   everything this machine can run
# make setup  .venv with the console script .venv/bin/gpu-inference
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
GI := $(VENV)/bin/gpu-inference
# The first interpreter that is new enough.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11 python3.14,$(if $(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))

.PHONY: help setup demo test lint bench bundle lock clean

help:
	@sed -n 's/^# \(make \)/\1/p' Makefile

setup: $(VENV)/.installed

# The environment is built aside and moved into place, so one cut off half-way is never taken for a good one.
$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found. Fix: install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 2; }
	@if command -v uv >/dev/null; then \
	  echo "setup: $(VENV) with uv ($$($(PYTHON) --version))" && \
	  uv venv --quiet --clear --python "$(PYTHON)" $(VENV) && \
	  uv pip install --quiet --python $(VENV)/bin/python --require-hashes -r requirements.lock && \
	  uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation -e . ; \
	else \
	  echo "setup: $(VENV) with pip ($$($(PYTHON) --version)), one or two minutes" && \
	  { $(PYTHON) -m venv --clear $(VENV) || { echo "error: python's venv module does not work. Fix: install it (Debian: apt install python3-venv) or uv" >&2; exit 2; }; } && \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock && \
	  $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e . ; \
	fi
	@touch $@

demo: setup
	@$(GI) demo $(DEMO)

# A file of tests at a time on each of two workers; a worker starts its own cluster.
TESTS ?= -n 2 --dist loadfile
test: setup lint
	@$(VENV)/bin/python -m pytest $(TESTS)

lint: setup
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(GI) schema bundle --check
	@$(GI) schema editor --check
	@$(GI) schema docs --check
	@$(GI) schema adapter-rules --check
	@$(GI) schema kubernetes --check

bench: setup
	@$(VENV)/bin/python tools/bench.py $(BENCH)

# The generated files: the chart's schema, its README, the rules for prometheus-adapter, Kubernetes' types.
bundle: setup
	@$(GI) schema bundle
	@$(GI) schema editor
	@$(GI) schema docs
	@$(GI) schema adapter-rules
	@$(GI) schema kubernetes

lock:
	uv pip compile pyproject.toml --all-extras --generate-hashes --universal --python-version 3.11 --no-emit-index-url --no-header -o requirements.lock

clean:
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
