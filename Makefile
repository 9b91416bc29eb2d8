# The workshop. Needs Python 3.11 or newer and make; everything else is brought into .venv.
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
FRONT_END := hatch_build.py $(shell find labextension/src labextension/style labextension/schema -type f) \
	$(wildcard labextension/*.json)
FAST := -m "not soak and not browser" -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest lint bench soak lab watch docs

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' Makefile

demo: .venv/.stamp-demo  ## The whole life cycle on real flights, headlessly, in ./demo
	$(BIN)/python example_notebooks/demo.py

test: .venv/.stamp-test  ## All tests; the browser's in a process of their own
	@tools/chromium.sh
	@status=0; \
	$(BIN)/pytest $(FAST) || status=$$?; \
	$(BIN)/pytest tests -m "browser and not soak" || { code=$$?; [ $$code -eq 5 ] || status=$$code; }; \
	exit $$status

lint: .venv/.stamp-test  ## Style, types, import direction, and no registry named in any file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python hatch_build.py run lint
	$(BIN)/pytest -q tests/test_house.py -k registry

bench: .venv/.stamp-test  ## Our times beside a peer's, in one run (BENCH=--write keeps the table in the docs)
	@tools/wrk.sh
	@tools/peers.sh
	$(BIN)/python tests/bench/run.py $(BENCH)

soak: .venv/.stamp-soak  ## The tests that take minutes, Ray and Dask among them
	@RAY_raylet_start_wait_time_s=120 $(BIN)/pytest tests -m soak || [ $$? -eq 5 ]

lab: .venv/.stamp-demo  ## JupyterLab on ./demo, on a free port of 127.0.0.1
	@test -d demo || { echo "There is no demo yet; make it with: make demo"; exit 1; }
	cd demo && ../$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1 $(if $(filter 0,$(shell id -u)),--allow-root)

# The JupyterLab of .venv shows what is built here; a wheel that is installed later puts its own in that place.
watch: .venv/.stamp-test  ## The front end built anew at every change: reload JupyterLab's page
	rm -rf .venv/share/jupyter/labextensions/nbmlops
	ln -s $(CURDIR)/nbmlops/labextension .venv/share/jupyter/labextensions/nbmlops
	$(BIN)/python hatch_build.py run watch

docs: .venv/.stamp-docs  ## The documentation, into ./site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What CI asks for besides: the tests on the lowest versions that pyproject.toml allows.
# Warnings of old releases are not ours to mend, so here they are no errors.
test-lowest: .venv/bin/uv
	$(PYTHON) -m venv .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[test]'
	.venv-lowest/bin/pytest $(FAST) -W default

# One stamp for each extra: nothing is installed again while pyproject.toml and the front end stay as they are.
# uv reads no settings of pip's: where only pip knows the way to the packages, pip installs them.
.venv/.stamp-%: pyproject.toml $(FRONT_END) | .venv/bin/uv
	@echo "Installing nbmlops[$*] into .venv (a few minutes when nothing is cached) ..."
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --reinstall-package nbmlops -e '.[$*]' || \
		$(BIN)/python -m pip install --quiet -e '.[$*]'
	@touch $@

.venv/bin/uv:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found; name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("nbmlops needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
