# make demo: install and run the main job.  make test: install and run the tests.  make lint, make test-slow, make tables.
PYTHON ?= $(shell command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: demo install install-dev test test-slow lint format tables clean

demo: install
	$(RUN) -m experiments.bayesian_gan_semisupervised --overwrite

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: bayesjax needs Python 3.11 or newer; set PYTHON=" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml requirements.lock
	$(RUN) -m pip install --quiet --constraint requirements.lock --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(RUN) -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $@

test: install-dev
	$(RUN) -m pytest --numprocesses 2 --dist loadfile

test-slow: install-dev
	$(RUN) -m pytest -m slow

lint: install-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: install-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

tables: install
	$(RUN) -m experiments.tables

clean:
	rm -rf $(VENV) runs build *.egg-info
