# What a person guesses: make run, make test, make build, make bench, make lint, make clean.
# SPEC=examples/x.yaml chooses the study of `make run`; JOBS=n the compile jobs.

JOBS ?= $(shell nproc)
SPEC ?= examples/four_configurations.yaml
LANG_REPORT ?= en
FUZZ_SECONDS ?= 600
BUILD := build/release
CRIBLE := $(BUILD)/bin/crible

.PHONY: help run test test-asan test-cuda build bench fuzz lint clean setup model

help:
	@echo 'make run     install what is needed, build, fetch a model, study four configurations, write the report'
	@echo 'make test    build and run every test'
	@echo 'make test-cuda build the CUDA half (nvcc 13) and run its tests; those for a GPU are skipped without one'
	@echo 'make build   build the program: $(CRIBLE)'
	@echo 'make bench   measure against llama.cpp and against the machine'"'"'s ceilings'
	@echo 'make fuzz    feed damaged input to every reader of files and requests, FUZZ_SECONDS=600 each'
	@echo 'make lint    check the tree: include directions, names, sizes, registered tests, paths in documents'
	@echo 'make clean   remove what was built'

run: build model
	$(CRIBLE) study run $(SPEC) --lang $(LANG_REPORT)

setup:
	@scripts/setup run

model: setup
	@scripts/fetch_default_model

build: setup
	@cmake --preset release -DCRIBLE_TESTS=OFF -DCRIBLE_BENCHES=OFF -DCRIBLE_CUDA=OFF > build-configure.log 2>&1 \
	  || { cat build-configure.log; exit 1; }
	@rm -f build-configure.log
	@cmake --build --preset release --target crible -j $(JOBS)

test:
	@scripts/setup test
	@scripts/fetch_default_model
	@scripts/check_tree
	cmake --preset release -DCRIBLE_TESTS=ON -DCRIBLE_BENCHES=ON -DCRIBLE_CUDA=OFF
	cmake --build --preset release -j $(JOBS)
	ctest --preset release -j $(JOBS)

# The rooms' own tests under the address and undefined-behaviour sanitizers; what starts the program
# end to end, or computes whole answers of the default model, is left to `make test`.
test-asan:
	@scripts/setup test
	@scripts/fetch_default_model
	cmake --preset asan
	cmake --build --preset asan -j $(JOBS)
	ctest --preset asan -j $(JOBS) -E '^pytest|float64|DefaultModelTest'

# The CUDA half beside what `make test` built: compiled, and run where it needs no GPU; the rest says "skipped: no GPU".
# On a machine with a GPU scripts/gpu_check runs all of it.
test-cuda:
	@scripts/setup cuda
	cmake --preset release -DCRIBLE_TESTS=ON -DCRIBLE_BENCHES=ON -DCRIBLE_CUDA=ON
	cmake --build --preset release --target cuda_test crible_gpu crible -j $(JOBS)
	ctest --preset release -R '^cuda\.' -j $(JOBS)

bench:
	@scripts/setup bench
	@scripts/fetch_default_model
	cmake --preset release -DCRIBLE_TESTS=ON -DCRIBLE_BENCHES=ON -DCRIBLE_CUDA=OFF
	cmake --build --preset release -j $(JOBS)
	scripts/bench $(BUILD)

fuzz:
	@scripts/setup fuzz
	cmake --preset fuzz
	cmake --build build/fuzz -j $(JOBS)
	scripts/fuzz build/fuzz $(FUZZ_SECONDS)

lint:
	@scripts/check_tree

clean:
	rm -rf build
