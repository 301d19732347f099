# Every chore of this project. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Test processes. A whole file goes to one of them, so that what it starts (a browser, a server) ends with it.
WORKERS ?= auto

.PHONY: help setup up test lint fmt types check bench lock dashboard clean chaos fuzz servers
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(STAMP): requirements.lock pyproject.toml scripts/setup
	@PYTHON="$(PYTHON)" VENV="$(VENV)" scripts/setup
	@touch $@

setup: $(STAMP)  ## create .venv with the pinned dependencies and build the dashboard

up: setup  ## start Steersman on 127.0.0.1:7440, observing this machine
	@exec $(BIN)/steersman up

test: setup  ## run the whole suite
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: setup  ## ruff, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: setup  ## pyright's strict rules
	@$(BIN)/basedpyright

fmt: setup  ## format the tree
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: lint types test  ## everything CI checks

bench: setup  ## measure the figures of docs/benchmarks.md, as ratios within one run
	@$(BIN)/python -m bench $(ARGS)

chaos: setup  ## kill the store, the Ledger and the whole loop CHAOS_KILLS times (200 where not said) under load, and check what is left
	@CHAOS_KILLS=$${CHAOS_KILLS:-200} $(BIN)/python -m pytest -s --timeout 7200 tests/store/test_crash.py tests/state/ledger/test_ledger_crash.py $(ARGS)
	@LOOP_KILLS=$${CHAOS_KILLS:-200} $(BIN)/python -m pytest -s --timeout 7200 tests/e2e/test_closed_loop_kills.py tests/e2e/test_drain_kills.py $(ARGS)

fuzz: setup  ## fuzz what reads text from outside, FUZZ_SECONDS for each of TARGETS (60, all of them)
	@for target in $${TARGETS:-exposition mappings slurm_text slurm_words}; do $(BIN)/python tests/fuzz/run_fuzz.py $$target -max_total_time=$${FUZZ_SECONDS:-60} || exit 1; done

servers: setup  ## install the servers and the browser that the marked tests use (Debian's need root)
	@scripts/install-server mlflow
	@scripts/install-server ray
	@scripts/install-servers

dashboard: setup  ## build the dashboard into the package
	@$(BIN)/python hatch_build.py

lock:  ## write requirements.lock again from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-annotate --all-extras --python-version 3.11 pyproject.toml -o requirements.lock

clean:  ## remove what the targets made
	@rm -rf $(VENV) dist build .pytest_cache .ruff_cache .hypothesis dashboard/node_modules dashboard/dist src/steersman/api/dashboard
