# Every target installs what it needs first. Options for a command go into ARGS:  make sentiment ARGS='--preset best --cell lstm'
PYTHON ?= python3
ARGS   ?=
PY     := .venv/bin/python
RUN    := $(PY) -m shared.make
APPS   := $(patsubst apps/%/__main__.py,%,$(wildcard apps/*/__main__.py))
TOOLS  := $(foreach tool,new eject runs tensorboard doctor bench gradients,$(patsubst tools/%.py,%,$(wildcard tools/$(tool).py)))
INSTALLED := .venv/installed

# What was typed reaches Python by the environment, as it is: make and the shell would read a $ or a quote in it.
export MAKE_ARGS := $(value ARGS)
export MAKE_NAME := $(value NAME)
export MAKE_FROM := $(value FROM)
export MAKE_APP  := $(value APP)
export MAKE_DEST := $(value DEST)
$(foreach name,args name from app dest,$(if $(filter command,$(origin $(name))),$(error $(name)=... is ignored; write it in capitals, as in ARGS='--epochs 2')))

.DEFAULT_GOAL := help
.PHONY: help install speed lint format test test-all clean $(TOOLS) $(APPS) $(APPS:%=%-smoke) $(APPS:%=%-demo)

help: ## This help
	@echo "Usage: make TARGET [ARGS='--flag value ...']"
	@echo
	@$(foreach app,$(APPS),printf '  %-20s %s\n' '$(app)' 'Train, evaluate and report (ARGS=--help lists every setting)' \
		'$(app)-smoke' 'The whole path in seconds, on a small part of the data' \
		'$(app)-check' 'Look at the data (ARGS=--data ...) before training: what it holds, how long training takes' \
		'$(app)-predict' 'Ask the newest finished run' \
		'$(app)-export' 'Write its model for other programs, compared with the Keras model' \
		'$(app)-serve' 'Answer requests over HTTP' \
		'$(app)-demo' 'The same, with a page for the browser';)
	@$(foreach tool,$(TOOLS),printf '  %-20s %s\n' '$(tool)' "$$(sed -n '1s/"""//gp' tools/$(tool).py)";)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Create .venv and install the pinned dependencies (done by itself when needed)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; '$(PYTHON)' is another. Name one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,serve,dev]'
	@touch $@

$(APPS): $(INSTALLED)
	@$(RUN) apps.$@ train

$(APPS:%=%-smoke): $(INSTALLED)
	@$(RUN) apps.$(@:-smoke=) train --preset smoke

# make <app>-<command> is python -m apps.<app> <command>: check, predict, and what else the app's __main__.py has
$(foreach app,$(APPS),$(eval $(app)-%: $(INSTALLED) ; @$$(RUN) apps.$(app) $$*))

# The page's packages are installed when it is first asked for.
.venv/installed-demo: $(INSTALLED)
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo]'
	@touch $@

$(APPS:%=%-demo): .venv/installed-demo
	@$(RUN) apps.$(@:-demo=) serve --page

# Commands over all apps; the first line of tools/<tool>.py is its help
new: NAMED = "$$MAKE_NAME" --source "$$MAKE_FROM"
eject: NAMED = "$$MAKE_APP" "$$MAKE_DEST"
tensorboard: NAMED = --app "$$MAKE_APP"
bench: AFTERWARDS = $(MAKE) --no-print-directory speed ARGS=
$(TOOLS): $(INSTALLED)
	@$(RUN) tools.$@ $(NAMED)
	@$(AFTERWARDS)

speed: $(INSTALLED) ## Our speed beside others', as ratios measured in one run; beside PyTorch where it is installed (make bench ends with it)
	@$(RUN) pytest -m speed -s --quiet

lint: $(INSTALLED) ## Check style and names
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

format: $(INSTALLED) ## Put style right
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

test: $(INSTALLED) ## The fast tests
	$(RUN) pytest -m 'not slow and not speed' --numprocesses 2 --dist loadscope

test-all: test ## The fast tests, then those that train until a model reaches a number
	$(RUN) pytest -m 'slow and not speed' --numprocesses 2 --dist loadscope

clean: ## Remove .venv and caches; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache *.egg-info
