# Everything runs in .venv, which the first target that needs it builds. Only Python 3.10-3.13 and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= runs/demo
ARGS ?=

.PHONY: demo results test check clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else "mm-mhmoe needs Python 3.10 to 3.13; set it with: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) (a few minutes, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check torch torchvision
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(READY)  ## shards to report in about ten minutes on two CPU cores: runs/demo/report.html
	@$(BIN)/mm-mhmoe demo --out $(OUT) $(ARGS)

results: $(READY)  ## the committed report: every control, three seeds, longer pretraining: eval/results/demo
	@$(BIN)/mm-mhmoe demo --out runs/results --seeds '[0,1,2]' --controls all --pretrain_steps 1000 --record eval/results/demo

test: $(READY) check  ## checks, then every test
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)  ## ruff, mypy, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

clean:  ## remove the environment, caches and runs
	rm -rf $(VENV) runs dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
