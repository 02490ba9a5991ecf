# The two commands of the README, and a few more. Only Python 3.11 or newer and make are needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# crf adds the dense CRF, which is compiled and so wants a C++ compiler and Python's headers: make test EXTRAS=dev,crf
EXTRAS ?= dev
STORAGE ?= $(if $(MISEG_STORAGE),$(MISEG_STORAGE),$(HOME)/miseg)

.PHONY: tune test ui lint clean

tune: $(VENV)/installed  ## Tune RMI on the embedded street scenes
	$(BIN)/python jobs/tune_rmi.py

# One Ray at a time: two would want more processors and memory than a small machine has.
test: $(VENV)/installed  ## Every test but those that need a GPU or take minutes
	$(BIN)/python -m pytest -m "not ray and not gpu and not long" -n 2 --dist loadfile
	$(BIN)/python -m pytest -m "ray and not gpu and not long"

ui: $(VENV)/installed  ## The MLflow UI on the default store, on this machine only
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(STORAGE)/mlflow.db --host 127.0.0.1 --port 5000

lint: $(VENV)/installed  ## Style, types, the direction of imports, and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/audit.py

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "miseg needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"
	touch $@

clean:  ## Remove the environment and caches; stored runs stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
