# Everything a checkout needs is made here, by its first use, inside .venv: nothing is installed elsewhere.
# Needs make and Python 3.10 or newer (3.11 is tried first); name another with `make PYTHON=python3.13 ...`.
# All paths are relative, so a folder with a space in its name works, and so does one that was moved.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-system test-browser test-examples lint format bench lock clean

usable = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3.14 python3.10 python3 python; do \
	"$$name" -c '$(usable)' >/dev/null 2>&1 && echo "$$name" && break; done)
# Given to pytest or the benchmarks: make test ARGS='-k queue -x'
ARGS ?=

py := .venv/bin/python
pip := $(py) -m pip --disable-pip-version-check --no-input

help:
	@echo 'make demo     watch functions run on workers of this machine'
	@echo 'make test     lint, then every test'
	@echo 'make test-system    fetch, unpack and run large system packages (a minute)'
	@echo 'make test-examples  run every example as its README says, those with large packages too (some minutes)'
	@echo 'make test-browser   look at the pages in Chromium, which is installed if it is missing and may be'
	@echo 'make lint     style, format, types, and who may import whom'
	@echo 'make format   put the format right, and what lint can repair by itself'
	@echo 'make bench    speed and memory, beside a yardstick of the same run'
	@echo 'make lock     write requirements*.txt from pyproject.toml (UPGRADE=--upgrade: choose every version anew)'
	@echo 'make clean    remove all that make and the tools made'

# The demo needs what Flash runs on and nothing more, so the first minute is short.
demo: .venv/runtime
	@$(py) examples/demo/digits.py

# Two files at a time: most tests wait for processes of theirs, and what a file's tests share is made once.
test: lint
	$(py) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

test-system: .venv/dev
	TEST_SYSTEM=1 $(py) -m pytest tests/host/test_large_packages.py \
		tests/acceptance/test_reference.py::test_the_block_of_system_packages_runs

# Chromium is no package of Python's; where it is missing, the system's packages are asked for it.
chromium = for name in chromium chromium-browser google-chrome chrome; do \
	command -v "$$name" >/dev/null && exit 0; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo 'Installing Chromium.'; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; \
	else echo 'This needs Chromium: install it (Debian, Ubuntu: apt-get install chromium).' >&2; exit 1; fi
test-browser: .venv/dev
	@$(chromium)
	TEST_BROWSER=1 $(py) -m pytest tests/browser $(ARGS)

test-examples: .venv/dev
	TEST_EXAMPLES=1 $(py) -m pytest tests/examples

lint: .venv/dev
	$(py) -m ruff check
	$(py) -m ruff format --check
	$(py) -m mypy --num-workers 2
	.venv/bin/lint-imports
	$(pip) check

format: .venv/dev
	$(py) -m ruff check --fix
	$(py) -m ruff format

bench: .venv/dev
	@$(py) -m benchmarks $(ARGS)

# The development set is compiled first and constrains the others, so that no two files disagree on a version.
compile = $(py) -m uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	--custom-compile-command 'make lock' $(UPGRADE)
lock: .venv/runtime
	$(compile) --group dev pyproject.toml --output-file requirements-dev.txt
	$(compile) --constraint requirements-dev.txt pyproject.toml --output-file requirements.txt
	$(compile) --constraint requirements-dev.txt --group build --output-file requirements-build.txt

clean:
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- Set-up. Each stamp is written last, so what was cut short is simply done again.

# A folder that was moved or copied, or whose Python is gone, gets a new .venv: the old one points to where it was.
ifneq ($(shell test -x $(py) && cat .venv/made 2>/dev/null),$(CURDIR))
.PHONY: .venv/made
endif

# So does one of another version than the Python that was named.
version = import sys; print(sys.version_info[:2])
ifneq ($(filter command environment,$(origin PYTHON)),)
ifneq ($(shell '$(PYTHON)' -c '$(version)' 2>/dev/null),$(shell $(py) -c '$(version)' 2>/dev/null))
.PHONY: .venv/made
endif
endif

# pip's exit is what counts; its warnings (a slow mirror, an old pip) would only bury the first line a newcomer reads.
# It brings uv, which has the rest in seconds, and takes its place where uv reaches no index: that reads no pip.conf.
with_pip = $(pip) install -qq
with_uv = $(py) -m uv pip install --quiet --python $(py) --compile-bytecode
packages = $(1) --require-hashes -r $(2) -r requirements-build.txt && $(1) --no-deps --no-build-isolation --editable .
install = $(with_pip) --require-hashes -r requirements-build.txt \
	&& { { $(call packages,$(with_uv),$(1)); } || { $(call packages,$(with_pip),$(1)); }; } \
	|| { echo 'Setting up .venv failed: what was said is above. It needs the network once; then say make again.' >&2; exit 1; }

.venv/made:
	@test -n '$(PYTHON)' || { \
		echo 'Found no Python from 3.10 on that can make virtual environments.' >&2; \
		echo 'Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3' >&2; \
		exit 1; }
	@echo "Making .venv with $$('$(PYTHON)' --version)."
	@'$(PYTHON)' -m venv --clear .venv
	@echo '$(CURDIR)' > $@

.venv/runtime: .venv/made pyproject.toml requirements.txt requirements-build.txt
	@echo 'Installing what Flash runs on into .venv (35 MB, once).'
	@$(call install,requirements.txt)
	@touch $@

.venv/dev: .venv/made pyproject.toml requirements-dev.txt requirements-build.txt
	@echo 'Installing what Flash is developed and tested with into .venv (100 MB, once).'
	@$(call install,requirements-dev.txt)
	@$(py) -m compileall -q -j 0 src  # once, and not by each process that a test starts where none may write bytecode
	@touch .venv/runtime $@
