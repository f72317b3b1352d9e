# `make demo` on a fresh machine does all the set-up. PYTHON names the interpreter (3.11 or 3.12).
PYTHON ?= python3
LAB ?= demo-lab
BIN := .venv/bin

# Tests run in so many processes; dlc_assets_tests/workers.py shares them out. Those with servers time what the machine does, so that
# they run alone. The demo's lab is made once for all of them.
WORKERS ?= 2
LIVE := dlc_assets_tests/live
PYTEST := $(BIN)/python -m pytest --durations 10

.PHONY: setup demo dev check test lint docs reference bench clean

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
	$(PYTEST) -q -n $(WORKERS) -m "not slow"

test: setup
	@made=$$(mktemp -d); trap 'rm -rf "$$made"' EXIT; export DLC_ASSETS_TEST_DEMO="$${DLC_ASSETS_TEST_DEMO:-$$made}"; \
	  $(PYTEST) -n $(WORKERS) --ignore $(LIVE); others=$$?; \
	  $(PYTEST) $(LIVE); live=$$?; \
	  test $$others = 0 && test $$live = 0

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as pages in site/; a link or heading that is not there is an error. Nothing is fetched from elsewhere.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The tables of the reference that the code itself can say; a test fails while they are not what the code says.
reference: setup
	$(BIN)/python -m docs_tools.reference

# Each prints one JSON object; one that misses a target does not keep the others from running, but fails the whole.
BENCHMARKS := poses nwb inference parity memory labeled_video sessions resume openfield discovery adoption leases chaos ui scaling
bench: setup
	@failed=; for name in $(BENCHMARKS); do \
	  $(BIN)/python -m benchmarks.$$name --json || failed="$$failed $$name"; \
	done; test -z "$$failed" || { echo "missed:$$failed"; exit 1; }

clean:
	rm -rf .venv demo-lab build dist site *.egg-info
