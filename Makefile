# `make demo` and `make test` are all one needs; each sets up everything from a clean clone.
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEER := .cache/peer
VLLM_VENV ?= .venv-vllm
VLLM_READY := $(VLLM_VENV)/.ready
ARGS ?=
export VENV PYTHON TORCH TORCH_INDEX
# Waiting threads spin for a short while only: beside another job endless spinning slows all down twentyfold.
export GOMP_SPINCOUNT ?= 10000

.PHONY: help demo test test-all test-vllm check format bench setup lock clean distclean

help:
	@echo "make demo      see it work: optimize() and GRPO on this machine, about ten minutes"
	@echo "make test      the tests (ARGS='tests/rl -k grpo' for some of them)"
	@echo "make test-all  the slow tests too"
	@echo "make test-vllm the tests with the real vLLM on the CPU, in an environment of their own (.venv-vllm, 4 GB)"
	@echo "make check     lint, types, import layers, file and function sizes"
	@echo "make format    let ruff format and fix"
	@echo "make bench     the benchmarks"
	@echo "make lock      requirements.lock anew, from pyproject.toml"
	@echo "make clean     remove caches and build outputs (distclean: $(VENV) too); runs/ stays"

demo: $(READY)
	$(BIN)/engine model pull smollm2-135m
	$(BIN)/python examples/demo.py $(ARGS)

test: $(READY)
	@bash tools/setup.sh browser
	$(BIN)/engine model pull smollm2-135m
	$(BIN)/python -m pytest -m "not slow and not gpu and not vllm" $(ARGS)

test-all: $(READY)
	@bash tools/setup.sh browser
	$(BIN)/engine model pull smollm2-135m
	$(BIN)/python -m pytest -m "not vllm" $(ARGS)

# vLLM stays out of $(VENV), so that the other tests run as they do where it is not installed.
test-vllm: $(VLLM_READY)
	$(VLLM_VENV)/bin/engine model pull smollm2-135m
	$(VLLM_VENV)/bin/python -m pytest tests/rl/policies/vllm -m "vllm and not gpu" -v $(ARGS)

$(VLLM_READY): requirements.lock requirements-vllm.lock tools/setup.sh
	@VENV=$(VLLM_VENV) bash tools/setup.sh vllm
	@touch $@

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sizes.py
	$(BIN)/python tools/check_leftovers.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) $(PEER)
	$(BIN)/engine model pull smollm2-135m
	$(BIN)/python benchmarks/trace.py --peer $(PEER)/bin/python
	$(BIN)/python benchmarks/optimizers.py --peer $(PEER)/bin/python --seeds 3
	@set -e; for file in $(filter-out benchmarks/trace.py benchmarks/optimizers.py,$(wildcard benchmarks/*.py)); do \
		echo "==> $$file"; $(BIN)/python $$file; done

# What benchmarks/trace.py and benchmarks/optimizers.py measure themselves against; in an environment of its own.
$(PEER): $(READY) benchmarks/peers/requirements.txt
	$(BIN)/python -m venv --without-pip $@
	$(BIN)/python -m pip --python $@/bin/python install --quiet --no-deps -r benchmarks/peers/requirements.txt \
		|| { rm -rf $@; exit 1; }
	@touch $@

setup: $(READY)

$(READY): requirements.lock pyproject.toml tools/setup.sh
	@bash tools/setup.sh install
	@touch $@

lock:
	@bash tools/setup.sh lock

clean:
	rm -rf dist build .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage htmlcov
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(VLLM_VENV)
