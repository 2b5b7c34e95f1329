# The two commands: `make retrain` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PROFILE ?= tiny
UV := $(shell command -v uv 2>/dev/null || echo .tools/uv/bin/uv)
RUN := $(UV) run --no-sync
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export HF_HUB_OFFLINE ?= 1
export UV_PYTHON_DOWNLOADS := never

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

.tools/uv/bin/uv:
	python3 -m venv .tools/uv
	.tools/uv/bin/pip install --quiet --disable-pip-version-check uv

# The resolution is the committed one: its versions are given to uv as constraints, once, in a copy of the project files.
uv.lock: requirements.lock | $(filter .tools/%,$(UV))
	@rm -rf .tools/seed && mkdir -p .tools/seed
	@cp --parents pyproject.toml flows/pyproject.toml packages/*/pyproject.toml .tools/seed
	@sed -nE 's/^([a-z0-9._-]+==.*[^ \\]) *\\?$$/  "\1",/p' requirements.lock >.tools/seed/pins
	@sed -i -e '/^constraint-dependencies = \[/r .tools/seed/pins' .tools/seed/pyproject.toml
	$(UV) lock --quiet --directory .tools/seed
	@mv .tools/seed/uv.lock $@ && rm -r .tools/seed

.venv/.synced: pyproject.toml $(wildcard packages/*/pyproject.toml) flows/pyproject.toml requirements.lock uv.lock | $(filter .tools/%,$(UV))
	$(UV) sync --all-packages --quiet
	$(UV) export --all-packages --no-emit-workspace --no-header --quiet --format requirements-txt -o .venv/requirements.lock
	@cmp -s requirements.lock .venv/requirements.lock || { echo "requirements.lock: this resolution differs from the committed one; run 'make lock' and look at the difference" >&2; exit 2; }
	@[ -d .dvc/tmp ] || $(RUN) dvc status -q >/dev/null 2>&1 || true
	@touch $@

setup: .venv/.synced ## install everything into .venv (uv is fetched when missing)

lock: | $(filter .tools/%,$(UV)) ## resolve anew and write requirements.lock
	$(UV) lock --upgrade
	$(UV) export --all-packages --no-emit-workspace --no-header --quiet --format requirements-txt -o requirements.lock
	$(UV) sync --all-packages --quiet
	$(RUN) python -m tavr_lineage.exports.licences requirements.lock requirements.licences.json

params: setup ## compose conf/ into params.yaml (PROFILE=tiny)
	$(RUN) tavr params --profile $(PROFILE)

retrain: setup ## the whole life of a model, from sources to promotion (PROFILE=tiny)
	$(RUN) tavr retrain --profile $(PROFILE)

up: setup ## start the Prefect server, a worker and the deployments
	$(RUN) tavr up

lint: setup ## ruff, pyright, import contracts
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) lint-imports
	$(RUN) pyright

test: setup ## every fast test, and the pipeline at its smallest
	$(RUN) pytest -n 2 --dist loadgroup

test-slow: setup ## what needs longer: equality, chaos, the browser (apt: chromium)
	$(RUN) pytest -m slow

test-gpu: setup ## the 14B network with random weights, for whoever has a GPU
	$(RUN) pytest -m gpu -rs

benchmarks: setup ## speed ratios against named anchors, on one thread (minutes)
	$(RUN) python -m benchmarks

zoo: setup ## train the tiny pretrained weights again (hours)
	$(RUN) python -m tavr_synthetic.zoo

.PHONY: help setup lock params retrain up lint test test-slow test-gpu benchmarks zoo
