# Everything runs in .venv, which the first target that needs it makes and fills.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed
BENCH_INSTALLED := .venv/bench-installed
export HF_HUB_OFFLINE ?= 1

.PHONY: help install demo test test-slow faults lint docs bench clean

help:
	@echo "make demo       train a classifier of handwritten digits, from the data to the report"
	@echo "make test       everything that is checked before a commit"
	@echo "make test-slow  the tests that take longer"
	@echo "make faults     kill runs two hundred times and see that each continues to the same bits"
	@echo "make docs       build the documentation in build/docs"
	@echo "make bench      time a step beside other trainers, a private one beside Opacus, and the stall of a checkpoint"
	@echo "make clean      remove .venv and caches"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

$(BENCH_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[bench]"
	touch $@

demo: $(INSTALLED)
	$(BIN)/mltrain make-data digits --output data/digits
	$(BIN)/ml-split --raw_data data/digits/raw --folds 5
	$(BIN)/ml-train --config configs/digits.yaml --fold 0

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not faults" -q

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slow and not faults" -q

faults: $(INSTALLED)
	$(BIN)/python -m pytest -m faults -q -s tests/faults

docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -n docs build/docs

bench: $(BENCH_INSTALLED)
	$(BIN)/python -m benchmarks.step_overhead
	$(BIN)/python -m benchmarks.run_costs --only checkpoint
	$(BIN)/python -m benchmarks.private_step
	$(BIN)/python -m benchmarks.scaling

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
