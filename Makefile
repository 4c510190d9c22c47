# make run   from a fresh clone to a running server with a demo domain
# make test  from a fresh clone to a passed suite: lint, types, floors, all tests
# make fuzz  look for input that a protocol cannot stand, for long: FUZZ_EXAMPLES=1000000 for very long
# make bench measure this server, and Postfix and Dovecot beside it where they are installed (as root)
# None needs root. All are quick the second time: the environment is made anew only when setup.cfg changes.

# The first Python that is new enough and can make an environment; PYTHON=… overrides, and "make clean" has another
# one chosen. The distribution's comes first: as a rule it is built with profile-guided optimisation, which version
# managers leave out, and the server then needs a tenth to a quarter less processor time (docs/performance.rst).
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
# What pip and setuptools have to say is shown when they fail.
INSTALL = $(BIN)/pip --disable-pip-version-check --quiet install >$(VENV)/pip.log 2>&1
OR_SAY_WHY = || { cat $(VENV)/pip.log; exit 1; }
# The plain editable install hides the plugin from twistd; "compat" puts this directory on the path.
EDITABLE := --config-settings editable_mode=compat --editable
CONFIG ?= etc/mailserver.toml
# More workers than cores: many tests wait for a server or a client most of their time.
PYTEST_ARGS ?= -n 4 --dist worksteal

.PHONY: help run selftest test lint types floors check fuzz bench bench-micro rooms format clean

help:
	@sed -n 's/^# //p' Makefile | head -4

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "mailserver needs Python 3.11 or newer with venv (Debian: python3-venv); make PYTHON=/path/to/python"; exit 1; }
	@echo "Making $(VENV) with $(PYTHON) …"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.cfg pyproject.toml | $(BIN)/python
	@echo "Installing mailserver …"
	@$(INSTALL) $(EDITABLE) . $(OR_SAY_WHY)
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing what the tests need …"
	@$(INSTALL) $(EDITABLE) '.[dev]' $(OR_SAY_WHY)
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed
	@echo "Installing what draws the picture …"
	@$(INSTALL) $(EDITABLE) '.[bench]' $(OR_SAY_WHY)
	@touch $@

# "mailctl hello" waits in the background until the server listens, then says what to try.
run: $(VENV)/.installed
	@$(BIN)/mailctl --config $(CONFIG) hello --wait 60 & \
	exec $(BIN)/twistd -n --pidfile= mailserver --config $(CONFIG)

selftest: $(VENV)/.installed
	@$(BIN)/mailctl selftest

test: lint types floors check

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

floors: $(VENV)/.installed-dev
	$(BIN)/lint-imports

check: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS) --timeout 0 tests/fuzz/fuzz_protocols.py

# BENCH_ARGS="--scenario relay --rounds 3"; python -m benchmarks --help. Interrupted, "--resume" goes on.
bench: $(VENV)/.installed-bench
	@mkdir -p build
	$(BIN)/python -m benchmarks --json build/bench.json --picture build/bench.svg $(BENCH_ARGS)

bench-micro: $(VENV)/.installed
	$(BIN)/python -m benchmarks.micro

rooms:
	@$(PYTHON) docs/rooms.py

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
