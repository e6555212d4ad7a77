# make demo   own venv, install, fill a cloudy synthetic ocean: filled.nc and filled.png
# make test   own venv, install, the whole test suite
# make lint   ruff, mypy, import-linter and the documentation, in the test venv
# make docs   the documentation, in docs/_build/html; runs the tutorials, some two minutes

PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= .venv-demo
BIN    := $(VENV)/bin

.PHONY: demo test lint docs clean
.DELETE_ON_ERROR:

demo: $(DEMO)/.installed
	$(DEMO)/bin/sstfill demo --out .

test: $(VENV)/.installed
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

docs: $(VENV)/.linters
	OMP_NUM_THREADS=1 $(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

$(DEMO)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/python -m pip install --quiet -c constraints.txt -e ".[plot]"
	touch $@

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	touch $@

$(VENV)/.linters: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[lint,docs]"
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) docs/_build docs/api filled.nc filled.png build *.egg-info
