# The commands of the README, and a few more. Only Python 3.11 or newer and make are needed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# crf adds the dense CRF, which is compiled and so wants a C++ compiler and Python's headers: make test EXTRAS=all,crf,dev
EXTRAS ?= all,dev
PYTEST := $(BIN)/python -m pytest

.PHONY: tune test test-all ui lint docs wheel clean

tune: $(VENV)/installed  ## Tune RMI on the embedded street scenes
	$(BIN)/miseg tune-rmi

# One Ray at a time: two would want more processors and memory than a small machine has.
test: $(VENV)/installed  ## What a newcomer runs: under ten minutes on two cores
	$(PYTEST) -m "not (ray or slow or long or gpu)" -n 2 --dist loadfile
	$(PYTEST) -m "smoke"

test-all: $(VENV)/installed  ## The rest, but for what needs a GPU or takes minutes: -m long runs those
	$(PYTEST) -m "slow and not (ray or smoke or long or gpu)" -n 2 --dist loadfile
	$(PYTEST) -m "ray and not (smoke or long or gpu)"

ui: $(VENV)/installed  ## The recorded runs in a browser, on this machine only: make ui STORAGE=FOLDER
	$(BIN)/miseg ui $(if $(STORAGE),--storage '$(STORAGE)')

lint: $(VENV)/installed  ## Style, types, the direction of imports, and known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.audit

docs: $(VENV)/installed  ## The documentation in site/; a dead link or a missing reference fails
	$(BIN)/zensical build --strict --clean
	$(BIN)/python -m tests.site_links site

wheel: $(VENV)/installed  ## The wheel in dist/; make test-all tries one outside the repository
	$(BIN)/python -m build --wheel --no-isolation

# uv installs the same pins in a third of pip's time; where it cannot be had, or its index cannot, pip does it.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "miseg needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	{ $(BIN)/python -m pip install --quiet --constraint constraints.txt uv && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --constraint constraints.txt --editable ".[$(EXTRAS)]"; } || \
	{ echo "uv could not install it: pip tries" >&2; \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$(EXTRAS)]"; }
	touch $@

clean:  ## Remove the environment and caches; stored runs stay
	rm -rf $(VENV) site dist .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
