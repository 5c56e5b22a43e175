# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
# Modules are compiled when they are first imported, and kept: a third of the installed ones ever are. Where Python may not
# write bytecode, every start would compile them again.
export PYTHONDONTWRITEBYTECODE :=
STAMP := .venv/.installed
RAY_TESTS := tests/deploy/archive/on_ray/test_cluster.py

.PHONY: demo docs test pytest ray lint format clean

# A newer pip than Python 3.11 brings saves a fifth of the time; where there is none, the old one does.
$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	-$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -e '.[cpu,train,export,dev,docs]'
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

# Everything side by side: tests that wait for processes or a browser leave the processors to the others.
test: $(STAMP)
	$(MAKE) --no-print-directory --jobs 4 pytest ray lint docs

# Two files at a time on one thread each: on networks as small as the tests', PyTorch's second thread costs more than it gives.
pytest: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore $(RAY_TESTS)

# Where Ray is installed, by itself: a cluster has processes of its own, and mostly waits for them.
ray: $(STAMP)
	! $(BIN)/python -c 'import ray' 2>/dev/null || OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(RAY_TESTS)

format: $(STAMP)
	$(BIN)/ruff format microseg tests benchmarks
	$(BIN)/ruff check --fix microseg tests benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache demo site
