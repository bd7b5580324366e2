# make train: install into .venv and run the main job; make test: install and pass the tests that cover every contract;
# make test-all: all tests but those of `parity` and `slurm`.
PYTHON ?= python3
CONFIG ?= configs/digits.py
WORKDIR ?= runs/digits
DATA_DIR ?=
EXTRAS ?= test
BIN := .venv/bin

.PHONY: install train test test-all lint parity slurm benchmark test-oldest
install: .venv/installed-$(EXTRAS)

.venv/installed-$(EXTRAS): setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[$(EXTRAS)]" || \
		$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

train: install
	$(BIN)/python train.py --config=$(CONFIG) --workdir=$(WORKDIR) $(if $(DATA_DIR),--data_dir=$(DATA_DIR))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow"

test-all: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# For special purposes: equality with PyTorch, the runner on a real Slurm (Debian packages slurm-wlm and munge, started
# by the tests), speed against PyTorch, the oldest libraries that setup.cfg allows.
parity:
	$(MAKE) install EXTRAS=test,bench
	$(BIN)/python -m pytest tests/parity

slurm:
	$(MAKE) install EXTRAS=test,slurm
	SLURM_TESTS=1 $(BIN)/python -m pytest tests/slurm -rs

benchmark:
	$(MAKE) install EXTRAS=test,bench
	$(BIN)/python -m benchmarks.step
	$(BIN)/python -m benchmarks.generation
	$(BIN)/python -m benchmarks.startup

test-oldest:
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet uv
	.venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct -e ".[test]"
	.venv-oldest/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
