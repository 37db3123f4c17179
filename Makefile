# Everything a person or a build machine does with a checkout. A machine needs python3 (3.11 or newer, with venv),
# make, and a way to a package index; what is missing is named with the package to install.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHARED := ../shared
DATA ?= var
BASE_PORT ?= 8000
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help install demo run test lint clean

help:
	@echo "make demo      start everything, bring documents in and out, show the audit trail, stop"
	@echo "make run       serve until Ctrl-C, data in ./$(DATA), settings from ./dossier.toml when there is one"
	@echo "make install   only the set-up: afterwards $(BIN)/dossier works"
	@echo "make test      the whole test suite"
	@echo "make lint      ruff, mypy, hadolint, the compose schema, architecture rules"
	@echo "make bench     throughput, growth and large transfers as ratios to a floor measured in the same run"
	@echo "make bench-10m the patient query at ten million entries, and with the table of entries split (70 GB of disk, an hour)"
	@echo "make mutation  every row, check and error code broken in turn: a test must notice each"
	@echo "make soak      kill -9 under load for a quarter of an hour, and many writers of the same few objects for ten"
	@echo "               minutes, both on each engine; then 10,000 documents into a store that fails: nothing acknowledged is"
	@echo "               lost; then 10,000,000 random and mutated octets into the syslog receiver: all stored or counted; then"
	@echo "               10,000 transactions without an audit service, and every record there in the end"
	@echo "               (KILLS, SECONDS, THREADS, DOCUMENTS, FAULTS, OCTETS, TRANSACTIONS, SEED)"
	@echo "make pictures  the pictures of docs/security_officer.md, drawn anew by Chromium"
	@echo "make histories random histories of the registry against a model of the framework's rules (HISTORIES)"

# --- set-up: a stamp for each group of packages, renewed when pyproject.toml changes
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed as $(PYTHON) (Debian, Ubuntu: apt install python3)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group test
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	@touch $@

install: $(VENV)/.installed
	@echo "$(BIN)/dossier is ready"

# --- use
demo: $(VENV)/.installed
	@$(BIN)/dossier demo --samples $(SHARED)/samples

run: $(VENV)/.installed
	@exec $(BIN)/dossier serve all --data $(DATA) --base-port $(BASE_PORT) --table

# --- proof
test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(JOBS)

.PHONY: pictures
pictures: $(VENV)/.test
	$(BIN)/python -m tests.atna.record_repository.page.screenshots

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml
	$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_exports.py

.PHONY: mutation
mutation: $(VENV)/.test
	$(BIN)/python -m tests.mutation

# KILLS of each child process, as many as fit into SECONDS of load; without SEED a new one is drawn and printed
KILLS ?= 200
SECONDS ?= 900
THREADS ?= 16
WRITER_SECONDS ?= 600
DOCUMENTS ?= 10000
FAULTS ?= 5
OCTETS ?= 10000000
.PHONY: soak soak-kills soak-writers soak-documents soak-hostile soak-deliveries
soak: soak-kills soak-writers soak-documents soak-hostile soak-deliveries
soak-kills: $(VENV)/.test
	$(BIN)/python -m tests.soak --kills $(KILLS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.soak --kills $(KILLS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --postgres

soak-writers: $(VENV)/.test
	$(BIN)/python -m tests.soak writers --threads $(THREADS) --seconds $(WRITER_SECONDS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.soak writers --threads $(THREADS) --seconds $(WRITER_SECONDS) $(if $(SEED),--seed $(SEED)) --postgres

# DOCUMENTS into a repository whose store, a folder and then a bucket, fails in FAULTS percent of its operations
soak-documents: $(VENV)/.test
	$(BIN)/python -m tests.soak documents --documents $(DOCUMENTS) --faults $(FAULTS) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.soak documents --documents $(DOCUMENTS) --faults $(FAULTS) $(if $(SEED),--seed $(SEED)) --bucket

# random and mutated OCTETS into the syslog receiver
soak-hostile: $(VENV)/.test
	$(BIN)/python -m tests.soak hostile --octets $(OCTETS) $(if $(SEED),--seed $(SEED))

# TRANSACTIONS while the audit service is down, then it is killed 100 times while it takes their records
TRANSACTIONS ?= 10000
soak-deliveries: $(VENV)/.test
	$(BIN)/python -m tests.soak deliveries --transactions $(TRANSACTIONS) $(if $(SEED),--seed $(SEED))

# that many random histories on each engine
HISTORIES ?= 2000
.PHONY: histories
histories: $(VENV)/.test
	HISTORIES=$(HISTORIES) $(BIN)/python -m pytest -n 0 tests/registry/histories

ifneq ($(wildcard bench/__main__.py),)
.PHONY: bench
bench: $(VENV)/.test
	$(BIN)/python -m bench
	$(BIN)/python -m bench.audit

# FOLDER keeps the data, and goes on where a run was broken off
ENTRIES ?= 10000000
.PHONY: bench-10m
bench-10m: $(VENV)/.test
	$(BIN)/python -m bench.ten_million --entries $(ENTRIES) $(if $(FOLDER),--folder $(FOLDER))
endif

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
