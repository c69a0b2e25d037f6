# Every target installs what it needs first. Options for a command go into ARGS:  make sentiment ARGS='--preset best --cell lstm'
PYTHON ?= python3
ARGS   ?=
PY     := .venv/bin/python
RUN    := $(PY) -m shared.make
APPS   := $(patsubst apps/%/train.py,%,$(wildcard apps/*/train.py))
INSTALLED := .venv/installed

# What was typed reaches Python by the environment, as it is: make and the shell would read a $ or a quote in it.
export MAKE_ARGS := $(value ARGS)
export MAKE_NAME := $(value NAME)
export MAKE_FROM := $(value FROM)
export MAKE_APP  := $(value APP)
export MAKE_DEST := $(value DEST)
$(foreach name,args name from app dest,$(if $(filter command,$(origin $(name))),$(error $(name)=... is ignored; write it in capitals, as in ARGS='--epochs 2')))

.DEFAULT_GOAL := help
.PHONY: help install lint format test test-all new eject doctor bench speed runs gradients tensorboard clean $(APPS) $(APPS:%=%-smoke) $(APPS:%=%-check) $(APPS:%=%-predict)

help: ## this help
	@echo "Usage: make TARGET [ARGS='--flag value ...']"
	@echo
	@$(foreach app,$(APPS),printf '  %-20s %s\n' '$(app)' 'train, evaluate and report (ARGS=--help lists every setting)' \
		'$(app)-smoke' 'the whole path in seconds, on a small part of the data' \
		'$(app)-check' 'look at the data (ARGS=--data ...) before training: what it holds, how long each preset takes' '$(app)-predict' 'ask the newest finished run';)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## create .venv and install the pinned dependencies (done by itself when needed)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is another. Name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(APPS): $(INSTALLED)
	@$(RUN) apps.$@.train

$(APPS:%=%-smoke): $(INSTALLED)
	@$(RUN) apps.$(@:-smoke=).train --preset smoke

$(APPS:%=%-check): $(INSTALLED)
	@$(RUN) apps.$(@:-check=).check

$(APPS:%=%-predict): $(INSTALLED)
	@$(RUN) apps.$(@:-predict=).predict

new: $(INSTALLED) ## copy an app, to make it yours: make new NAME=... FROM=...
	@$(PY) -m shared.new "$$MAKE_NAME" --source "$$MAKE_FROM"

eject: $(INSTALLED) ## make an app a repository of its own: make eject APP=... DEST=...
	@$(PY) -m shared.eject "$$MAKE_APP" "$$MAKE_DEST"

doctor: $(INSTALLED) ## look at this machine: versions, device, memory, data, kernels and milliseconds a step of each app
	@$(PY) -m shared.doctor

runs: $(INSTALLED) ## a table of all finished runs
	@$(PY) -m shared.runs

bench: $(INSTALLED) ## the table of results, three seeds each (hours; goes on where it was stopped), then make speed
	@$(RUN) shared.bench
	@$(MAKE) --no-print-directory speed ARGS=

speed: $(INSTALLED) ## our speed beside others', as ratios measured in one run; beside PyTorch where it is installed
	@$(RUN) pytest -m speed -s --quiet

gradients: $(INSTALLED) ## see why gates and clipping help: the gradient through time, and what is recalled after a lag
	@$(RUN) shared.recall

tensorboard: $(INSTALLED) ## watch all runs in a browser
	$(RUN) tensorboard.main --logdir runs

lint: $(INSTALLED) ## check style and names
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(INSTALLED) ## put style right
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: $(INSTALLED) ## the fast tests
	$(RUN) pytest -m 'not slow and not speed' --numprocesses 2 --dist loadscope

test-all: test ## the fast tests, then those that train until a model reaches a number
	$(RUN) pytest -m 'slow and not speed' -s

clean: ## remove .venv and caches; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
