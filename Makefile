# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo docs test test-train test-uda test-engines test-others lint format clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[cpu,train,export,dev,docs]'
	# As pip does for what it does not install in place: where Python may not write bytecode, every start would compile again.
	$(BIN)/python -m compileall -q microseg
	touch $@

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo

# Strict and offline: a warning, or a page that loads something from the network, is an error.
docs: $(STAMP)
	$(BIN)/python -m benchmarks.documentation

lint: $(STAMP)
	$(BIN)/ruff check microseg tests benchmarks
	$(BIN)/ruff format --check microseg tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# Training by itself: in a process that has loaded TensorRT, OpenVINO and ONNX Runtime before, SIGTERM, which training listens
# for, ends in a segmentation fault. Nobody trains and runs engines in one process but these tests. Two at a time, the longest
# first, on one thread each: on networks as small as the tests', PyTorch's second thread costs more than it gives.
test: lint docs
	$(MAKE) --no-print-directory -j2 --output-sync=target test-train test-uda test-engines test-others

test-train: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/train --ignore tests/train/uda/test_command.py

test-uda: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/train/uda/test_command.py

test-engines: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/export tests/runtime tests/gpu

test-others: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --ignore tests/train --ignore tests/export --ignore tests/runtime --ignore tests/gpu

format: $(STAMP)
	$(BIN)/ruff format microseg tests benchmarks
	$(BIN)/ruff check --fix microseg tests benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache demo site
