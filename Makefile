# Everything the project can be asked to do. Each target sets up what it needs.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
NIGHT  ?= 20170607
SECONDS ?= 120

# The demonstration has an archive of its own, and `make serve` shows it
# unless another archive is named in the environment or in roboao.toml.
DEMO := $(CURDIR)/demo
ifeq ($(wildcard roboao.toml)$(ROBOAO_CONFIG)$(ROBOAO_ARCHIVE_ROOT),)
serve user: export ROBOAO_RAW_ROOTS    := $(DEMO)/raw
serve user: export ROBOAO_ARCHIVE_ROOT := $(DEMO)/archive
endif
export DAGSTER_DISABLE_TELEMETRY := 1

.PHONY: help venv venv-dev demo serve user test lint lock audit bench sanitize truth play faults fuzz soak hosts clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.ready ## virtual environment with the package and its compiled kernels

$(VENV)/.created:
	@echo "== making the virtual environment"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

NATIVE := CMakeLists.txt pyproject.toml $(wildcard roboao_native/src/*)

$(VENV)/.packages: requirements.lock | $(VENV)/.created
	@echo "== installing the packages of requirements.lock"
	$(BIN)/python -m pip install --require-hashes -r requirements.lock
	@touch $@

$(VENV)/.ready: $(VENV)/.packages $(NATIVE)
	@echo "== compiling the kernels"
	$(BIN)/python -m pip install --no-deps --no-build-isolation --editable .
	@touch $@

venv-dev: $(VENV)/.ready-dev ## the same with what the tests need

$(VENV)/.ready-dev: requirements-dev.lock $(VENV)/.ready
	@echo "== installing the packages of requirements-dev.lock"
	$(BIN)/python -m pip install --require-hashes -r requirements-dev.lock
	@touch $@

demo: venv ## make a small raw night and let Dagster reduce it
	@BIN=$(BIN) NIGHT=$(NIGHT) DEMO=$(DEMO) bash tools/demo.sh

serve: venv ## the Dagster UI and the dashboard together
	$(BIN)/roboao serve

user: venv ## the first user of the dashboard: an administrator; asks for a password
	$(BIN)/roboao user add admin --programs all

test: venv-dev ## all tests
	bash tools/test.sh

lint: venv-dev ## style, types of the interfaces, who may know whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

lock: venv-dev ## resolve the lock files anew
	$(BIN)/python -m piptools compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-header --extra build --output-file requirements.lock pyproject.toml
	$(BIN)/python -m piptools compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-header --extra build --extra dev --constraint requirements.lock \
	  --output-file requirements-dev.lock pyproject.toml
	echo pip-audit | $(BIN)/python -m piptools compile --quiet --strip-extras --generate-hashes --allow-unsafe \
	  --no-emit-index-url --no-emit-find-links --no-header --output-file requirements-audit.lock -

# In an environment of its own: what audits the packages is not among them.
AUDITOR := build/audit

$(AUDITOR)/.ready: requirements-audit.lock
	$(PYTHON) -m venv $(AUDITOR)
	$(AUDITOR)/bin/python -m pip install --quiet --require-hashes -r requirements-audit.lock
	@touch $@

audit: $(AUDITOR)/.ready ## known vulnerabilities of the locked packages; fails if there are any, or if nobody could be asked
	$(AUDITOR)/bin/python tools/audit.py $(AUDIT)

sanitize: venv-dev ## the kernels' tests with address and undefined-behaviour sanitizers
	bash tools/sanitize.sh

bench: venv-dev ## what it costs, against what it could cost
	$(BIN)/python -m benchmarks

truth: venv ## a simulated night reduced, recovered against true; fails if a goal is missed
	mkdir -p build
	$(BIN)/roboao truth-report --report build/truth.json --document build/truth.md

play: venv-dev ## a night played against the real daemon: late, spoilt, redone, killed
	$(BIN)/python -m pytest -q -s -o addopts="-ra --strict-markers" tests/play

faults: venv-dev ## what takes long and happens seldom: many nights at once against the real daemon
	$(BIN)/python -m pytest -q -s -o addopts="-ra --strict-markers" tests/faults

fuzz: venv-dev ## raw reader, headers, ids, searches and rules against random input; SECONDS a target
	$(BIN)/python tools/fuzz.py --seconds $(SECONDS)

hosts: venv-dev ## two machines with systemd, set up as the documentation says, run nights; needs root
	$(BIN)/python -m pytest -q -s -o addopts="-ra --strict-markers" tests/hosts

soak: venv-dev ## a fortnight of small nights in one go: nothing grows; build/soak.json
	$(BIN)/python -m pytest -q -s -o addopts="-ra --strict-markers" tests/soak

clean: ## remove what was built (not the demonstration's archive)
	rm -rf $(VENV) build .pytest_cache .ruff_cache
