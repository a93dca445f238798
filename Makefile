# Each target creates the virtual environment if it is missing or outdated.
# `make` alone lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)
VENV := .venv
RUN := $(VENV)/bin/python
FOLDERS := $(wildcard binlogsync dagster_binlogsync pipelines resources sensors tests bench)
# The environment is recreated if the lock file, the project file or the interpreter changes.
KEY := $(shell { cat requirements.lock pyproject.toml; $(or $(PYTHON),true) --version; } 2>/dev/null | sha256sum | cut -c1-16)
INSTALLED := $(VENV)/.installed-$(KEY)
# pip installs uv, which installs all the other pinned packages in a tenth of the time.
PIP = $(RUN) -m pip install --disable-pip-version-check --require-hashes --no-deps

# Without bytecode files, each of the hundreds of processes of a test run compiles the same modules again.
unexport PYTHONDONTWRITEBYTECODE

# make demo CHECK=1 RATE=20; make test ARGS="-k sinks"
CHECK ?=
RATE ?=
ARGS ?=
# Folders of test-quick; all tests if empty.
QUICK ?=
# The tests mostly wait for servers, so the default is more workers than cores.
WORKERS ?= 5
# The factor by which `make test-exhaustive` multiplies the number of generated examples.
EXAMPLES ?= 5
PORT ?= 3000

.PHONY: help
help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

.PHONY: demo
demo: $(INSTALLED) ## private servers, a workload and Dagster's UI (CHECK=1: run a self-test and exit; RATE=n changes/s; PORT=n)
	@$(RUN) -m pipelines.demo $(if $(filter-out 0,$(CHECK)),--check) $(if $(RATE),--rate $(RATE)) \
		$(if $(filter-out file,$(origin PORT)),--port $(PORT)) $(ARGS)

# The last variable is that of `dg dev`: Reload definitions then reads .env again.
.PHONY: dev
dev: $(INSTALLED) .dagster_home/dagster.yaml ## Dagster's UI with your own servers (settings in .env; PORT=3000)
	@DAGSTER_HOME="$$PWD/.dagster_home" DAGSTER_PROJECT_ENV_FILE_PATHS='{"binlogsync": "."}' \
		exec $(VENV)/bin/dagster dev --port $(PORT) $(ARGS)

# Compiles the test modules before each worker of a test run would do it. An error is reported by that run.
COMPILE_TESTS = -m pytest --collect-only --quiet >/dev/null 2>&1 || true

.PHONY: test
test: $(INSTALLED) ## the tests, on real servers (ARGS="-k name"; WORKERS=0: sequentially)
	@{ $(MAKE) kernels && $(RUN) $(COMPILE_TESTS); } & { tests/browser/install.sh && $(MAKE) servers; } && wait
	@$(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not exhaustive" $(ARGS)

.PHONY: test-exhaustive
test-exhaustive: $(INSTALLED) servers kernels ## further servers, seeds, mutations, scenarios and generated examples
	@$(RUN) $(COMPILE_TESTS)
	@BINLOGSYNC_TEST_EXAMPLES=$(EXAMPLES) $(RUN) -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-m "exhaustive or generated" $(ARGS)

.PHONY: test-quick
test-quick: $(INSTALLED) kernels ## the tests that require neither servers nor a browser: one to two minutes
	@$(RUN) -m pytest --numprocesses 2 --dist worksteal -m "not server and not browser and not slow and not generated" \
		$(QUICK) $(ARGS)

.PHONY: test-public-kernels
test-public-kernels: $(INSTALLED) ## tests of the kernels, compiled by public APIs of numba only: two minutes the first time
	@BINLOGSYNC_KERNELS=public $(RUN) -m pytest tests/binlog/test_compiling.py tests/binlog/test_kernels.py \
		tests/binlog/test_made_up_dumps.py tests/codec/test_edges.py tests/codec/test_envelope_reader.py \
		tests/nats/test_received_text.py -m "not server and not slow" $(ARGS)

.PHONY: lint
lint: $(INSTALLED) .dagster_home/dagster.yaml ## ruff, mypy --strict, the import contracts, the reference of the settings, and loading of the Dagster definitions
	$(VENV)/bin/ruff check $(FOLDERS)
	$(VENV)/bin/ruff format --check $(FOLDERS)
	$(VENV)/bin/mypy $(FOLDERS)
	$(VENV)/bin/lint-imports
	$(RUN) -m binlogsync.settings.reference --check
	DAGSTER_HOME="$$PWD/.dagster_home" $(VENV)/bin/dagster definitions validate --workspace workspace.yaml

.PHONY: bench
bench: $(INSTALLED) servers ## speed: reading only the socket, the decoder, mysql-replication, the tail
	@$(RUN) -m bench $(ARGS)

.PHONY: bench-memory
bench-memory: $(INSTALLED) servers ## memory of a tail that processes a large backlog
	@$(RUN) -m bench.memory $(ARGS)

.PHONY: servers
servers: $(INSTALLED)
	@$(RUN) -m binlogsync.servers

# Compiles the kernels once, before the workers of the test run need them. The two processes have none in common; the
# third one compiles what both have left.
.PHONY: kernels
kernels: $(INSTALLED)
	@$(RUN) -c 'import binlogsync.codec.image_kernel, binlogsync.codec.span_kernels, binlogsync.codec.span_parts, \
		binlogsync.codec.envelope_program, binlogsync.codec.envelope_writer, binlogsync.nats.protocol_text' & \
	$(RUN) -c 'import binlogsync.mysql.result_set.decoding' && wait
	@$(RUN) -c 'import importlib, binlogsync.cli.compile as all; [importlib.import_module(name) for name in all.MODULES]'

.PHONY: venv
venv: $(INSTALLED) ## only the virtual environment

.PHONY: lock
lock: $(INSTALLED) ## update requirements.lock to the newest allowed versions
	$(VENV)/bin/uv pip compile pyproject.toml --quiet --all-extras --universal --python-version 3.11 --generate-hashes \
		--upgrade --no-emit-index-url --no-emit-find-links --no-header --no-annotate --output-file requirements.lock
	@if grep -nE '://' requirements.lock; then echo 'requirements.lock contains a URL'; exit 1; fi

.PHONY: clean
clean: ## remove the environment, Dagster's local state and all caches in this folder (not the downloaded servers)
	rm -rf $(VENV) .venv-* .dagster_home .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find $(FOLDERS) -name __pycache__ -type d -prune -exec rm -rf {} +

.dagster_home/dagster.yaml: pipelines/dagster.yaml
	@mkdir -p .dagster_home
	@ln -sf ../pipelines/dagster.yaml $@
	@touch -h $@

$(INSTALLED):
	@if [ -z "$(PYTHON)" ]; then \
		echo 'No Python 3.11 or newer found. On Debian: apt-get install python3 python3-venv; or: make PYTHON=/path/to/python' >&2; \
		exit 1; fi
	@if ! $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null; then \
		echo '$(PYTHON) cannot create virtual environments. On Debian: apt-get install python3-venv' >&2; exit 1; fi
	@echo "Creating $(VENV) with $$($(PYTHON) --version) (once; half a minute)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock >$(VENV)/uv.lock
	@$(PIP) --quiet -r $(VENV)/uv.lock
	@$(VENV)/bin/uv pip install --python $(RUN) --require-hashes --no-deps -r requirements.lock 2>&1 \
		| { grep -v '^ [+]' || true; } || { echo 'uv failed: installing with pip, which takes longer'; $(PIP) --quiet -r requirements.lock; }
	@$(RUN) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@
