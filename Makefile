# swarmbench: build, test, measure. `make help` lists the targets; each sets up .venv by itself.

PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
SOURCES := $(shell find rust python/swarmbench -name '*.rs' -o -name '*.toml' -o -name '*.cu*') \
	Cargo.toml Cargo.lock
PIP := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXTRA := scripts/requirements.py
# Counts of the property tests: `ci` takes proptest's own 256 cases, `soak` these. What reads files
# takes fifty times as many (see hlog/damaged.rs): a million.
SOAK_CASES := 20000
CARGO_TEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo nextest run || echo test)
CARGO_TEST += --release --package swarmbench-core
# The model checker's build is another program; it has a place of its own. `soak` looks at schedules
# of more preemptions than the models ask for, for so many seconds a model at most.
LOOM_TEST := RUSTFLAGS="$(RUSTFLAGS) --cfg loom" cargo test --release --package swarmbench-core \
	--lib --target-dir target/loom
SOAK_LOOM := LOOM_MAX_PREEMPTIONS=5 LOOM_MAX_DURATION=30

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help bench test lint ci soak bench-peers test-rust test-loom test-python test-wheel

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/.tools: scripts/check_tools.sh
	@sh scripts/check_tools.sh $(PYTHON)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.tools pyproject.toml constraints.txt $(EXTRA)
	@echo "installing Python packages into $(VENV)"
	@$(BIN)/python $(EXTRA) base >$(VENV)/base.txt
	@$(BIN)/python $(PIP) --requirement $(VENV)/base.txt
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	@echo "building the native extension (about a minute the first time)"
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --release >$(VENV)/build.log 2>&1 \
		|| { cat $(VENV)/build.log; exit 1; }
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(BIN)/python $(EXTRA) dev >$(VENV)/dev.txt
	@$(BIN)/python $(PIP) --requirement $(VENV)/dev.txt
	@touch $@

bench: $(VENV)/.built ## run max-throughput on this machine (quick, about 90 s) and judge it
	@$(BIN)/python scripts/bench.py

test: test-rust test-python ## all tests but the longest

test-rust: $(VENV)/.tools
	cargo $(CARGO_TEST)

test-loom: $(VENV)/.tools ## every interleaving of what threads share without locks, model-checked
	$(LOOM_TEST) loom_models

test-python: $(VENV)/.built $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.built $(VENV)/.dev ## formats, lints, types, stubs
	cargo fmt --all --check
	cargo clippy --quiet --all-targets -- --deny warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest swarmbench._native --allowlist tests/stubtest_allowlist.txt

ci: lint test-rust test-loom $(VENV)/.built $(VENV)/.dev ## what every change must pass: lint and all tests, built wheel included
	$(BIN)/python -m pytest -m "not soak and not gpu"

soak: $(VENV)/.built $(VENV)/.dev ## the full counts (three quarters of an hour); results go to docs/soak/
	mkdir -p docs/soak
	cargo $(CARGO_TEST) --no-run
	PROPTEST_CASES=$(SOAK_CASES) cargo $(CARGO_TEST) >docs/soak/rust.txt 2>&1
	$(LOOM_TEST) --no-run
	$(SOAK_LOOM) $(LOOM_TEST) loom_models -- --show-output >docs/soak/loom.txt 2>&1
	$(BIN)/python -m pytest --no-header -m "soak" >docs/soak/python.txt

$(PEERS)/.built: $(VENV)/.tools pyproject.toml constraints.txt $(EXTRA) $(SOURCES)
	@$(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/python $(EXTRA) base >$(PEERS)/base.txt
	@$(PEERS)/bin/python $(PIP) --requirement $(PEERS)/base.txt
	@$(PEERS)/bin/python $(EXTRA) peers >$(PEERS)/peers.txt
	@while read -r peer; do $(PEERS)/bin/python $(PIP) "$$peer" \
		|| echo "peer not installed: $$peer"; done <$(PEERS)/peers.txt
	@VIRTUAL_ENV=$(abspath $(PEERS)) $(PEERS)/bin/maturin develop --release >$(PEERS)/build.log 2>&1 \
		|| { cat $(PEERS)/build.log; exit 1; }
	@sh scripts/build_loadgen.sh $(PEERS)/bin/python target/peers \
		|| echo "peer not built: mlcommons-loadgen"
	@touch $@

bench-peers: $(PEERS)/.built ## each kernel beside the best library for its job
	$(PEERS)/bin/python benchmarks/engine.py
	$(PEERS)/bin/python benchmarks/components.py
	$(PEERS)/bin/python benchmarks/neighbour.py
	$(PEERS)/bin/python benchmarks/steady.py
	$(PEERS)/bin/python benchmarks/search.py
	$(PEERS)/bin/python benchmarks/submission.py
