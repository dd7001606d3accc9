# `make demo` and `make test` are all that a fresh machine needs (Python >= 3.11, git).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2
PYTEST_ARGS ?=
export OMP_NUM_THREADS ?= 1
unexport PYTHONDONTWRITEBYTECODE  # the tests start hundreds of processes: each would compile every module again

.PHONY: demo test test-slow test-nightly check format docs release clean

demo: $(INSTALLED)
	$(BIN)/adaln study quickstart

test: $(INSTALLED)
	$(BIN)/pytest -n $(WORKERS) $(PYTEST_ARGS)

test-slow: $(INSTALLED)
	$(BIN)/pytest -n $(WORKERS) -m slow $(PYTEST_ARGS)

# What the two leave out because it repeats them: whole products of registries, long series of kills.
test-nightly: $(INSTALLED)
	$(BIN)/pytest -n $(WORKERS) -m nightly $(PYTEST_ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# site/, to be opened as files too; a link that leads nowhere ends it.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean

# dist/ anew: wheel and sdist, their metadata and README as PyPI checks them, the wheel walked through in a fresh environment.
release: $(INSTALLED)
	rm -rf dist
	$(BIN)/hatchling build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[release]'
	$(BIN)/twine check --strict dist/*
	$(BIN)/pytest -m slow tests/test_distribution.py

# One environment for everything; made again only when what it is made from changes.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "adaln needs Python >= 3.11, got $$($(PYTHON) --version); try: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
