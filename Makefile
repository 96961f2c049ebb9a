# `make demo` and `make test` are all that a new user needs; each sets up its own venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all test-lowest lint lint-types dist docs benchmark-synthetic default-weights clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stavis needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	@echo 'Setting up $(VENV) (once; some minutes)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(READY)
	$(BIN)/stavis demo --output demo-output

test: $(READY)
	$(BIN)/python -m pytest -m "not slow" -n auto

test-all: $(READY)
	$(BIN)/python -m pytest -n auto

# Hours on a CPU; what is finished is not done again. QUICK=--quick takes minutes and only shows that it works.
benchmark-synthetic: $(READY)
	$(BIN)/python benchmarks/synthetic_experiment.py --output experiment $(QUICK)

# Hours on a CPU; what is finished is not done again. Needs pictures with gaze and initial weights in ../shared.
default-weights: $(READY)
	$(BIN)/python benchmarks/train_default_weights.py --output default-weights $(QUICK)

lint: lint-types
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/codespell

# Benchmarks may be loose about types, but not use what the package no longer has.
LOOSE := arg-type assignment call-overload index misc operator union-attr var-annotated
lint-types: $(READY)
	$(BIN)/mypy
	MYPYPATH=src:benchmarks:tests $(BIN)/mypy --config-file= --ignore-missing-imports $(LOOSE:%=--disable-error-code=%) benchmarks

# The tests with the lowest versions that pyproject.toml declares, in an environment of their own.
LOWEST := build/lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -c 'import tomllib; print(*(r.replace(">=", "==").split(";")[0] for r in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]), sep="\n")' > $(LOWEST)/floors.txt
	$(LOWEST)/bin/python -m pip install --quiet -r $(LOWEST)/floors.txt "pytest>=9" pytest-xdist hypothesis
	$(LOWEST)/bin/python -m pip install --quiet --no-deps -e .
	$(LOWEST)/bin/python -m pytest -m "not slow" -n auto

# sdist and wheel, checked; the wheel is then installed into an empty environment and predicts a generated clip.
dist: $(READY)
	rm -rf dist build/wheel
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	@test -z "$$(find dist -name '*.whl' -size +35M)" || { echo 'the wheel is over 35 MB'; exit 1; }
	$(PYTHON) -m venv build/wheel
	build/wheel/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build/wheel && bin/python -c "from pathlib import Path; from stavis.bench.machine import write_clip; write_clip(Path('clip.mp4'), 20)"
	cd build/wheel && bin/stavis predict clip.mp4

# The site in docs/_build/index.html; a broken link or reference is an error.
docs: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build

clean:
	rm -rf docs/_build $(VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
