# Two commands for a newcomer: `make demo` and `make test`. Both install what is missing.
BUILD ?= build
JOBS ?= $(shell nproc)
TEST_JOBS ?= 2
CMAKE = .venv/bin/cmake
CTEST = .venv/bin/ctest --test-dir $(BUILD) --output-on-failure
MODEL = .cache/models-v2/smollm2-135m

export LIGER_SMOLLM2_DIR ?= $(CURDIR)/$(MODEL)
# Tests run beside each other: idle OpenMP threads must not keep the cores from others (as the agent has it for trainers).
export GOMP_SPINCOUNT ?= 20000

# ninja runs things in parallel; two setups at once would meet in apt.
.NOTPARALLEL:

.PHONY: help demo test test-long test-gpu test-multi-gpu test-asan test-tsan tsan-abseil fuzz build programs configure setup setup-build model models-table trainers-table \
  bench-cpu bench-service bench-tokenizer install lint format clean

help:  ## this list
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 24

demo: programs model  ## fine-tune a real model through the service, with the kernels and without (some minutes after the build)
	@tools/demo

test: build model  ## every test that needs no GPU
	$(CTEST) -j$(TEST_JOBS) -LE 'long|gpu|bench'

test-long: build model  ## tests too long for every commit
	$(CTEST) -L long

test-tsan: tsan-abseil

tsan-abseil: setup
	@PATH="$(CURDIR)/.venv/bin:$$PATH" tools/tsan_abseil build-tsan/abseil

test-asan test-tsan: test-%: setup model  ## the tests under a sanitizer (tsan: server, agent, client)
	@PATH="$(CURDIR)/.venv/bin:$$PATH" && cmake --preset $* && cmake --build --preset $* -j$(JOBS) && ctest --preset $*

test-gpu: setup  ## the tests that need a GPU (and nvcc), in a build folder of their own
	@PATH="$(CURDIR)/.venv/bin:$$PATH" && cmake --preset cuda && cmake --build --preset cuda -j$(JOBS) && ctest --preset cuda

test-multi-gpu: setup  ## jobs of several ranks on two or more GPUs of this machine, over NCCL
	@PATH="$(CURDIR)/.venv/bin:$$PATH" && cmake --preset cuda && cmake --build --preset cuda -j$(JOBS) && ctest --preset multi-gpu

fuzz: setup  ## clang's libFuzzer, 5 minutes for each target
	@command -v clang++-16 > /dev/null || { echo "fuzz: needs clang 16 and its libFuzzer: apt-get install clang-16 libclang-rt-16-dev" >&2; exit 1; }
	@PATH="$(CURDIR)/.venv/bin:$$PATH" && cmake --preset fuzz && cmake --build --preset fuzz -j$(JOBS) && ctest --preset fuzz

build: setup configure  ## all programs, into $(BUILD)/bin, and the tests
	.venv/bin/ninja -C $(BUILD) -j$(JOBS)

programs: setup-build configure  ## the programs alone
	.venv/bin/ninja -C $(BUILD) -j$(JOBS) programs

configure: setup-build
	@[ -f $(BUILD)/build.ninja ] || PATH="$(CURDIR)/.venv/bin:$$PATH" $(CMAKE) -S . -B $(BUILD) -G Ninja

setup:  ## Debian packages and the Python venv
	@tools/setup

setup-build:  ## what the programs need of it
	@tools/setup build

# liger-trainer converts it.
model: $(if $(wildcard $(MODEL)/model.safetensors),setup-build,programs)  ## SmolLM2-135M-Instruct as a Hugging Face folder
	@BUILD=$(BUILD) tools/fetch_smollm2 $(MODEL)

models-table: build  ## measure the tables of docs/models.md and write them there
	LIGER_WRITE_DOCS=1 $(BUILD)/tests/models_table_test

trainers-table: build  ## measure the table of docs/trainers.md and write it there
	LIGER_WRITE_DOCS=1 $(BUILD)/tests/trainers_table_test

bench-cpu: build model  ## this trainer against transformers, interleaved
	.venv/bin/python tests/bench/bench_cpu.py

bench-tokenizer: build model  ## this tokenizer against PyPI's tokenizers, on one and two threads, interleaved
	.venv/bin/ninja -C $(BUILD) tokenizer_bench
	.venv/bin/python tests/bench/bench_tokenizer.py $(BUILD)/bin/tokenizer_bench $(MODEL) \
	  $(patsubst %/tokenizer.json,%,$(wildcard tests/golden/text/tokenizers/*/tokenizer.json))

bench-service: build model  ## what the service costs when idle, and how soon it trains
	.venv/bin/python tests/bench/bench_service.py

install: programs  ## relocatable tree in dist/
	$(CMAKE) --install $(BUILD) --prefix dist

lint: build  ## clang-tidy over the changed sources
	tools/lint

format:  ## clang-format in place
	@command -v clang-format-16 > /dev/null || { echo "format: needs clang-format-16: apt-get install clang-format-16" >&2; exit 1; }
	git ls-files '*.cpp' '*.h' | xargs clang-format-16 -i

clean:
	rm -rf $(BUILD) dist
