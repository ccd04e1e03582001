# The two commands of the README, and what continuous integration runs. Everything lives in .venv and work/.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# `make PYTHON=python3.12 ...` chooses another interpreter for a new .venv.
export NO_ALBUMENTATIONS_UPDATE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test fast short check clean systems robust quality proof
demo: $(INSTALLED)
	$(BIN)/curate demo

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow and not robust"
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "slow and not systems and not robust"

# Real material at real size (Openclipart as its recipe's header says, emoji, printed pages, thousands of pages), and
# promises that `make test` holds on one road held on the others too.
systems: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --dist loadgroup -m "systems and not robust"

# Kills and lacks of every sort: docs/robustness.md is its table.
robust: $(INSTALLED)
	$(BIN)/python -m pytest -q tests -m robust

# How good each filter is, beside peers: docs/filters/quality.md.
quality: $(INSTALLED)
	$(BIN)/python bench/quality.py

# One model on a raw pool and on what the recipe keeps of it, twenty seeds each, in an hour; each finished run is kept in work/proof.
proof: $(INSTALLED)
	$(BIN)/python bench/proof.py --home work/proof

fast: $(INSTALLED)
	$(BIN)/python -m pytest -q -x -m "not slow and not robust"

# On another Python, in an environment of its own (`make short PYTHON=python3.13`): it installs, every module imports,
# the first fast test of each file passes, and the demo runs.
short: VENV := .venv-$(notdir $(PYTHON))
short:
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q -c constraints.txt -e ".[all,dev]"
	$(VENV)/bin/python -m pytest -q tests -k test_every_module_imports
	$(VENV)/bin/python -m pytest -q -n auto --short
	$(VENV)/bin/curate demo --out work/demo-$(notdir $(PYTHON)) --port 8698

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "curate needs Python 3.11 or newer; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[all,dev]"
	touch $@

clean:
	rm -rf work build *.egg-info
