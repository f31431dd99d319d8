# make demo | test | check | bench | clean. Each creates .venv and installs what it needs, once.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
INSTALL = @echo "installing heedful into $(VENV); torch alone takes a while" && $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt

# The demo: OUT is its folder; BUDGET, PROMPTS and METHODS make it smaller, as in `make demo BUDGET=tokens=20000`.
OUT ?= runs/pep8
DEMO = $(if $(BUDGET),--budget $(BUDGET)) $(if $(PROMPTS),--num-prompts $(PROMPTS)) $(if $(METHODS),--methods $(METHODS))

# The benchmarks; BENCH is given to each, as in `make bench BENCH="--size 50M --threads 2"`. See bench/README.md.
BENCHES ?= sft reward_pairs reward_k4 pairs matmul overhead crossover growth preprocessing ppo comparison
BENCH ?=

# Two workers of one thread each are faster than one of two: most tests are too small for threads.
WORKERS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-all check bench clean

demo: $(VENV)/installed
	$(BIN)/heedful compare pep8 --out $(OUT) --resume $(DEMO)

test: $(VENV)/installed-test
	$(PYTEST) -n $(WORKERS) -m 'not slow'

test-all: $(VENV)/installed-test
	$(PYTEST) -n $(WORKERS) -rs

check: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy heedful
	$(PYTEST) tests/test_layout.py

bench: $(VENV)/installed-test
	set -e; for name in $(BENCHES); do echo "$$name"; $(BIN)/python bench/$$name.py $(BENCH); done
	$(BIN)/python bench/reward_k4.py --k 9 --batch-size 2 $(BENCH)
	$(BIN)/python bench/pairs.py --loss slic --batch-size 4 $(BENCH)
	$(BIN)/python bench/sampling.py

clean:
	rm -rf $(VENV) heedful.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "heedful needs Python 3.11 or newer; name it: make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/installed
