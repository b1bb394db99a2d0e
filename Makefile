# `make demo` and `make test` are all a newcomer needs; both install what they need into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON_ENV := .venv/bin

.PHONY: help install triton kube-tools servers demo test test-slow lint compile bench lock clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

install: ## the environment, .venv, from requirements.lock
	@scripts/install.sh

triton: ## a Triton server in .venv-triton, from images/triton/requirements.lock
	@scripts/install_triton.sh

kube-tools: ## helm, kubectl, hadolint, promtool for the tests of charts/ and manifests/, in ~/.cache
	@scripts/install_kube_tools.sh
	@scripts/install_prometheus.sh

servers: ## Kubernetes and what runs on it, compiled for tests/cluster, in ~/.cache
	@tests/cluster/servers/build.sh

demo: install triton ## flights: trained, served, drifted, retrained, rolled out; with a page
	@$(PYTHON_ENV)/python -m pipelines.demo

test: install triton ## the tests, on two cores
	@$(PYTHON_ENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25 -m "not slow"

test-slow: install triton ## what takes its time: Ray clusters, operators killed again and again
	@$(PYTHON_ENV)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

lint: install ## ruff, types, import rules
	@$(PYTHON_ENV)/ruff check .
	@$(PYTHON_ENV)/ruff format --check .
	@$(PYTHON_ENV)/mypy
	@$(PYTHON_ENV)/lint-imports --no-logo

compile: install ## Pipeline and PipelineVersion manifests into build/manifests
	@$(PYTHON_ENV)/python -m pipelines.compile --out build/manifests

bench: install triton ## every benchmark beside its peer (an hour, two with a Kubernetes API server)
	@for bench in tests/benchmarks/bench_*.py; do echo "== $$bench"; $(PYTHON_ENV)/python $$bench || exit 1; done

lock: ## requirements.lock anew from pyproject.toml
	@scripts/lock.sh

clean: ## everything made here but .venv
	@rm -rf build dist .zeroskew local_outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis
