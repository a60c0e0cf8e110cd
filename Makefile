# The targets install what they need into .venv, once.

PROFILE ?= default
# The interpreter that makes .venv; by default the first of these that works.
PYTHON ?=
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# A file of tests goes to one process, so that what its tests share is made once.
PYTEST := $(BIN) -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
	--durations=15 --durations-min=5

.PHONY: help book check test lint serve clean

help:
	@echo "make book    run the chapters, build the site in _build/html (PROFILE=smoke|default|paper)"
	@echo "make serve   show the built site on http://localhost:$(PORT)"
	@echo "make check   check style and types, run the tests that need no page, no browser and few processes (4 minutes)"
	@echo "make test    run all tests (15 minutes)"
	@echo "make lint    check style and types (a minute, then seconds)"
	@echo "make clean   remove what was built, stored runs included, but not .venv"
	@echo
	@echo "PYTHON=/path/to/python3 chooses the interpreter for .venv (3.11 or newer)."

book: $(STAMP)
	@echo "==> Making the book, profile $(PROFILE) (on 2 cores smoke and default take 4 minutes, paper takes weeks)"
	@$(BIN) -m implreg book --profile $(PROFILE)

check: lint
	@echo "==> Running the tests that need no page, no browser and few processes (4 minutes on 2 cores)"
	@$(PYTEST) -m "not (pages or browser or processes)"

test: $(STAMP)
	@echo "==> Running all tests (15 minutes on 2 cores)"
	@$(PYTEST)

lint: $(STAMP)
	@echo "==> Checking style and types (a minute, then seconds)"
	@$(BIN) -m ruff check
	@$(BIN) -m ruff format --check
	@$(BIN) -m mypy

serve:
	@test -f _build/html/index.html || { echo "There is no site in _build/html yet; run 'make book' first." >&2; exit 1; }
	@echo "==> Open http://localhost:$(PORT) (Ctrl-C stops)"
	@$(if $(realpath $(BIN)),$(BIN),python3) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

clean:
	rm -rf _build .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info book/build book/*.egg-info

# An environment whose interpreter has gone is made anew.
ifeq ($(realpath $(BIN)),)
.PHONY: $(STAMP)
endif

# The stamp is written last: an installation that broke off is taken up again by the next make.
$(STAMP): pyproject.toml book/pyproject.toml constraints.txt
	@found=""; \
	if ! $(BIN) -m pip --version >/dev/null 2>&1; then \
		for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.13 python3.12 python3.11); do \
			if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
				found="$$candidate"; break; \
			fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "$(if $(PYTHON),PYTHON=$(PYTHON) is not,There is no) Python 3.11 or newer with its venv module here; install one (on Debian and Ubuntu: apt install python3-venv) or name one, as in 'make book PYTHON=/path/to/python3.12'." >&2; \
			exit 1; \
		fi; \
		echo "==> Creating $(VENV) with $$found (10 seconds)"; \
		"$$found" -m venv --clear $(VENV) || exit 1; \
	fi
	@echo "==> Installing implreg and its libraries into $(VENV) (2 to 10 minutes, mostly download)"
	@$(BIN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]' -e ./book
	@touch $@
