# `make demo` and `make test` do everything; both start with `make setup`.
PYTHON ?= python3
ARGS ?=
T ?= tests/unit
VENV := .venv/bin
CODE := iotctl sim tests tools bench
export PYTHONDONTWRITEBYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo check test lint lock clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

setup: ## Python packages, MicroPython and device libraries; quick when all is there
	@command -v $(PYTHON) >/dev/null || { echo "python: no $(PYTHON) on PATH; install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) tools/make_venv.py
	@$(PYTHON) tools/get_micropython.py
	@$(VENV)/python tools/get_packages.py

demo: setup ## The whole system on this machine (options in ARGS="...")
	@$(VENV)/python -m iotctl demo $(ARGS)

check: setup ## Quick: ruff, and the tests named in T (make check T=tests/web/test_api.py); default tests/unit
	$(VENV)/ruff check .
	$(VENV)/python -m pytest -q -n auto $(T) $(ARGS)

lint: setup ## ruff, mypy, no conflict marker left, nothing that old MicroPythons have not
	$(VENV)/ruff check .
	$(VENV)/python tools/check_text.py
	$(VENV)/python tools/check_device.py
	$(VENV)/mypy $(CODE)

test: lint ## lint, then every test; needs Chromium and mosquitto, and installs them as root
	@$(VENV)/python tools/get_chromium.py
	@$(VENV)/python tools/get_services.py mosquitto
	@$(VENV)/python tools/get_micropython.py --others
	$(VENV)/python -m pytest -n auto --dist worksteal $(ARGS)

.PHONY: coverage fuzz torture bench docs dist
coverage: setup ## Which lines the unit tests reach under CPython; apart from `test`, which would take a third longer with it
	$(VENV)/python -m pytest -q -n auto tests/unit --cov=iotctl --cov=sim --cov=modules --cov=platform --cov-report=term:skip-covered $(ARGS)

fuzz: setup ## Fuzz with atheris, a minute a target (ARGS="--seconds 600 bundle")
	@$(VENV)/python fuzz/run.py $(ARGS)

torture: setup ## Power cuts at every flash operation (options in ARGS="...")
	@$(VENV)/python -m tests.powercut $(ARGS)

bench: setup ## What an update costs; rewrites docs/performance.md (ARGS="fits tree": these pieces alone, only printed; ARGS=--help)
	@$(VENV)/python tools/get_services.py mosquitto qemu-i386 cc
	@$(VENV)/python -m bench $(ARGS)

docs: setup ## The guide as a site, in .build/site
	@$(PYTHON) -m venv .build/docs
	@.build/docs/bin/python -m pip install -q --disable-pip-version-check -r docs/requirements.txt
	@$(VENV)/python -m typer iotctl.cli utils docs --name iotctl --output docs/cli.md
	@NO_MKDOCS_2_WARNING=1 .build/docs/bin/mkdocs build --strict --quiet
	@echo "open .build/site/index.html"

dist: setup ## The wheel, in dist/: everything that a computer without a checkout needs (its version is the last tag)
	$(VENV)/python -m hatchling build -t wheel

lock: ## Pin requirements.in again (needs uv in .venv: .venv/bin/pip install uv)
	$(VENV)/uv pip compile --generate-hashes --universal --no-header --no-emit-index-url --python-version 3.11 \
		--upgrade requirements.in -o requirements.lock

clean: ## Forget everything that setup and the tests made
	rm -rf dist .venv .micropython .packages .build .pytest_cache .mypy_cache .ruff_cache .coverage
