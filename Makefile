# ClawdBot on one machine. `make` alone lists what there is. GNU make 3.81 is enough.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON_BIN := .venv/bin/python
# Compose would look for .env beside its file.
COMPOSE := docker compose $(if $(wildcard .env),--env-file .env) -f compose/compose.yaml
ARGS ?=
N ?= 20
# How many stacks tests run in at once: they wait for leases most of the time.
test e2e: STACKS ?= 3
e2e-repeat: STACKS ?= 2

.PHONY: help install up down status logs check test e2e bench e2e-repeat compose-up compose-down prometheus lock audit clean

help: ## list these targets
	@awk 'BEGIN { FS = ":.*## " } /^[a-z][a-z0-9-]*:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: ## make .venv from the lock, if it is not there or not up to date
	@sh requirements/install.sh

up: install ## start the whole stack here and say what to open (UP_FLOWER_PORT=, UP_SIMULATOR_PORT= move those)
	@$(PYTHON_BIN) -m compose.local up

down: install ## stop the stack; what Redis holds stays
	@$(PYTHON_BIN) -m compose.local down

status: install ## show every program of the stack and whether it is ready
	@$(PYTHON_BIN) -m compose.local status

logs: install ## follow the logs of the stack (Ctrl-C ends it)
	@$(PYTHON_BIN) -m compose.local logs

check: install ## format, lint, strict types, architecture
	@$(PYTHON_BIN) -m ruff format --check .
	@$(PYTHON_BIN) -m ruff check .
	@$(PYTHON_BIN) -m mypy
	@$(PYTHON_BIN) -m pytest tests/test_architecture.py

test: install ## run all tests but the long kill cases (ARGS="tests/unit -k word" to choose, STACKS=0 one after the other)
	@$(PYTHON_BIN) -m pytest -n $(STACKS) $(ARGS)

e2e: install ## run the tests with real processes, every kill case included (STACKS=3 at once)
	@$(PYTHON_BIN) -m pytest -m "e2e or kill or matrix" -n $(STACKS) $(ARGS)

e2e-repeat: install ## run the kill cases again and again, N seeds; goes on where it stopped
	@$(PYTHON_BIN) -m tests.e2e.repeat $(N) --stacks $(STACKS) $(ARGS)

bench: install ## measure rate, cost and growth (BASE=ref compares with that version, ARGS=--quick tries it out)
	@$(PYTHON_BIN) -m tests.bench $(if $(BASE),--base '$(BASE)') $(ARGS)

compose-up: ## the same stack in containers (PROFILE=watch adds Prometheus and Grafana, ARGS= goes to `up`)
	$(COMPOSE) $(if $(PROFILE),--profile $(PROFILE)) up -d --build --wait $(ARGS)

compose-down: ## stop the containers, those of every profile
	$(COMPOSE) --profile '*' down $(ARGS)

prometheus: ## fetch Prometheus for the tests of the alerts, if it is not there (Debian)
	@sh requirements/prometheus.sh

lock: install ## write the lock files anew from pyproject.toml
	@test -x .cache/lock/bin/python || $(PYTHON_BIN) -m venv .cache/lock
	@.cache/lock/bin/python -m pip install --quiet --disable-pip-version-check 'pip-tools>=7.5,<8'
	@.cache/lock/bin/python requirements/lock.py

audit: install ## ask whether a locked package has a known vulnerability; says so where nobody can be asked
	@$(PYTHON_BIN) requirements/audit.py

clean: ## stop the stack and remove everything made here but measurements: .venv, caches, and what Redis holds
	@if [ -d .run ] && [ -x $(PYTHON_BIN) ]; then $(PYTHON_BIN) -m compose.local down; fi
	@rm -rf .venv .run .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
