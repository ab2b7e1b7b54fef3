# make demo: install and run the main job.  make test: install and run the tests.  make docs: build the site into site/.
# make lint, make test-slow, make mutation, make tables, make wheel, make test-wheel.
# The first Python that runs and is new enough (a version manager's shim may be on the path and yet not run).
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo install install-dev install-docs test test-slow mutation lint format tables docs wheel test-wheel clean

demo: install
	$(RUN) -m experiments.bayesian_gan_semisupervised --overwrite

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev
install-docs: $(VENV)/.installed-docs

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: bayesjax needs Python 3.11 or newer: put it on the path or set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml requirements.lock
	$(RUN) -m pip install --quiet --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN) -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(RUN) -m pip install --quiet --constraint requirements.lock --editable '.[docs]'
	@touch $@

test: install-dev
	$(RUN) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: install-dev
	$(RUN) -m pytest -m slow

mutation: install-dev
	$(RUN) -m tests.mutation

lint: install-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: install-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

tables: install
	$(RUN) -m docs.tables

docs: install-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

wheel: $(VENV)/bin/python
	$(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .

test-wheel: install-dev
	$(RUN) -m pytest -m slow tests/test_wheel.py

clean:
	rm -rf $(VENV) runs build dist site *.egg-info
