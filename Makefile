# `make demo` on a fresh machine does all the set-up. PYTHON names the interpreter (3.11 or 3.12).
PYTHON ?= python3
LAB ?= demo-lab
# Tests run in so many processes (1: in the one that is started); dlc_assets_tests/workers.py shares them out.
WORKERS ?= 2
BIN := .venv/bin
PYTEST = $(BIN)/python -m pytest $(if $(filter-out 0 1,$(WORKERS)),--numprocesses $(WORKERS)) --durations 10

.PHONY: setup demo dev check test lint bench clean

setup: .venv/.ready

# The lock pins every package; this one is installed in place. The stamp is new only when all of it worked.
.venv/.ready: requirements.lock setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' \
	  || { echo "Python 3.11 or 3.12 is needed, $$($(PYTHON) --version) came: make setup PYTHON=python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@

demo: setup
	$(BIN)/dlc-assets demo demo-lab

dev: setup
	$(BIN)/dlc-assets dev --lab $(LAB)

# The quick part: under three minutes on two cores.
check: lint
	$(PYTEST) -q -m "not slow"

test: setup
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Each prints one JSON object; one that misses a target does not keep the others from running, but fails the whole.
BENCHMARKS := poses nwb inference parity memory sessions resume openfield discovery chaos ui
bench: setup
	@failed=; for name in $(BENCHMARKS); do \
	  $(BIN)/python -m benchmarks.$$name --json || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "missed:$$failed"; exit 1; }

clean:
	rm -rf .venv demo-lab build dist *.egg-info
