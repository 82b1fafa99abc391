# make demo: a trained TensorFlow network on a real photograph, from a fresh checkout
# make test: the suite        make test-full: the long forms, too (an hour)
# make lint: formatting, style, types
# make cuda-check: CUDA kernels for every architecture, with nvcc alone; ACCEPT=1 takes new registers
# make bench: times against every other implementation; BENCH="--layer 14x512" and the like choose
# make bench-networks: whole networks, stock layers against ours

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := $(wildcard csrc/*.* csrc/cpu/*.* csrc/cuda/*.*) setup.py pyproject.toml
CLANG_FORMATTED := $(wildcard csrc/*.* csrc/cpu/*.* csrc/cuda/*.* tests/kernels/*.cpp tests/kernels/*.h \
    tests/cuda/*.cpp tests/cuda/*.h)
# The demo's network, and the last file of those that tests/real_files.py fetches.
NETWORK := build/downloads/emotion_model.hdf5
NETWORKS := build/downloads/nmp.tflite
STEP := tools/step
# Stamps live in what they vouch for: without .venv, everything is made again.
MADE := $(VENV)/.made
DEMO_PACKAGES := $(VENV)/.demo-packages
TEST_PACKAGES := $(VENV)/.test-packages
BENCH_PACKAGES := $(VENV)/.bench-packages
BUILT := $(VENV)/.built
# A file of tests is one process's, and so is a core: tests that want threads ask for them. Each
# process starts a TensorFlow of its own, which takes 2 GB.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
    --no-loadscope-reorder
BENCH ?=
CLIFFS := $(findstring --cliffs,$(BENCH))
BENCH_RESULTS := build/bench/$(if $(CLIFFS),cliffs,results).json
ONLINE := Check the network connection (pip must reach PyPI) and run make again.

# The suite and the examples build CPU kernels only; TFCOMPAT_DW_CUDA=1 make ... overrides.
export TFCOMPAT_DW_CUDA ?= 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Two processes at the least: the two large files of kernels compile side by side.
export MAX_JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: demo test test-full lint format walkthrough cuda-check bench bench-networks clean

demo: $(BUILT)
	@$(BIN)/python examples/demo.py

walkthrough: $(BUILT)
	@$(BIN)/python examples/walkthrough.py

test: $(TEST_PACKAGES) $(BUILT) $(NETWORK) $(NETWORKS)
	$(PYTEST)

test-full: $(TEST_PACKAGES) $(BUILT) $(NETWORK) $(NETWORKS)
	$(PYTEST) -m "full or not full"

cuda-check:
	@$(PYTHON) tools/cuda_check.py $(if $(ACCEPT),--accept)

bench: $(BENCH_PACKAGES) $(BUILT)
	$(BIN)/python benchmarks/bench.py --output $(BENCH_RESULTS) $(BENCH)
	$(if $(CLIFFS),,$(BIN)/python benchmarks/plot.py $(BENCH_RESULTS))

bench-networks: $(BENCH_PACKAGES) $(BUILT)
	$(BIN)/python benchmarks/networks.py --output build/bench/networks.json $(BENCH)

lint: $(TEST_PACKAGES) $(BUILT)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(CLANG_FORMATTED)

format: $(TEST_PACKAGES)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/clang-format -i $(CLANG_FORMATTED)

clean:
	rm -rf build dist *.egg-info tfcompat_dw/*.so $(BUILT)

$(MADE):
	@tools/check_prerequisites $(PYTHON)
	@$(STEP) "Making .venv" "Install Python's venv module (Debian: python3-venv)." \
	    $(PYTHON) -m venv $(VENV)
	@touch $@

$(DEMO_PACKAGES): $(MADE) requirements/demo.txt
	@$(STEP) "Installing PyTorch and the demo's packages" "$(ONLINE)" \
	    $(BIN)/pip install -r requirements/demo.txt
	@touch $@

$(TEST_PACKAGES): $(DEMO_PACKAGES) requirements/test.txt
	@$(STEP) "Installing TensorFlow and the test packages" "$(ONLINE)" \
	    $(BIN)/pip install -r requirements/test.txt
	@touch $@

$(BENCH_PACKAGES): $(TEST_PACKAGES) requirements/bench.txt
	@$(STEP) "Installing the libraries to compare with" "$(ONLINE)" \
	    $(BIN)/pip install -r requirements/bench.txt
	@touch $@

$(BUILT): $(DEMO_PACKAGES) $(SOURCES)
	@tools/check_prerequisites $(PYTHON)
	@$(STEP) "Compiling the kernels" "The compiler's message is above." \
	    $(BIN)/pip install --no-build-isolation --no-deps --editable .
	@touch $@

$(NETWORK): | $(BUILT)
	@$(BIN)/python examples/demo.py --fetch-only

$(NETWORKS): | $(BUILT)
	@$(BIN)/python tests/real_files.py
