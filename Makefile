# Every target sets up what it needs from python3 and make alone.
.DELETE_ON_ERROR:
.PHONY: setup install demo serve seeds test test-fast test-all lint docs bench lock manifests container-check clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Three processes, as two on two cores wait for a quarter of the time; `tests/order.py` says what stays together. Threads
# of theirs would only wait for one another.
# They start hundreds of others, each of which would compile this code again where Python may write nothing.
PYTEST := env --unset=PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -m tests.twice -n 3

setup: $(READY)  ## everything that the Flow and its tests need, into .venv

install: setup

demo: $(READY)  ## fine-tune the packaged CLIP on the generated catalogue, search it, write demo/report.html
	$(BIN)/finetuner demo

serve: $(READY)  ## the Flow, until Ctrl-C
	$(BIN)/finetuner up

test: $(READY)  ## every test but the slow ones
	$(PYTEST) -m "not slow and not gpu"

test-fast: $(READY)  ## the tests of under a second that start no Flow and no other Python process
	$(PYTEST) -m "not slow and not gpu and not flow and not process and not seconds"

test-all: $(READY)  ## every test; those that need a GPU skip where there is none
	$(PYTEST)

seeds: $(READY)  ## the code cells of the tutorials in SEEDS, against a Flow with stand-ins for what needs a network
	$(BIN)/python -m tests.tutorials.run_seeds $(SEEDS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers auto
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict .
	$(BIN)/hadolint Dockerfile
	$(BIN)/shellcheck tests/container_check/*.sh tests/gpu/*.sh
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec flows/compose.yaml flows/compose.gpu.yaml \
		flows/compose.postgres.yaml
	$(BIN)/python -m tests.kubernetes.validate

docs: $(READY)  ## the documentation, into site/; a dead link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo 'Look at it: $(BIN)/python -m http.server -d site'

bench: $(READY)  ## the measured claims
	for script in tests/benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

manifests: $(READY)  ## flows/kubernetes/base from flows/finetuner.yml
	$(BIN)/python flows/kubernetes/generate.py

container-check: $(READY)  ## the image, built and run by a real Docker engine; exit 77 where it cannot run
	tests/container_check/run.sh

COMPILE = $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml

lock: $(BIN)/uv  ## the lock files from pyproject.toml; no index URL goes into them
	$(COMPILE) --extra dev --output-file requirements-dev.lock
	$(COMPILE) --extra server --extra trackers --extra postgres --constraint requirements-dev.lock --output-file requirements.lock
	echo 'onnxruntime; python_version < "3"' | $(COMPILE) --extra server --extra trackers --extra postgres --extra gpu --override - \
		--constraint requirements.lock --output-file requirements-gpu.lock

clean:
	rm -rf $(VENV) demo site

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "Python 3.11 is needed. Got %s. Call make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@echo 'Setting up $(VENV), 1 of 3: uv, which installs the packages'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# Compiled once: each of a Flow's processes imports torch, and compiling took 10 s of each where Python may write nothing.
$(READY): $(BIN)/uv requirements-dev.lock pyproject.toml
	@echo "Setting up $(VENV), 2 of 3: $$(grep -c '==' requirements-dev.lock) packages, 6 GB with torch and CUDA, which uv downloads and compiles"
	@$(BIN)/uv pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements-dev.lock
	@echo 'Setting up $(VENV), 3 of 3: Open Finetuner'
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@
