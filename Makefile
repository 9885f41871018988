# Everything a fresh machine needs beyond git, make and python3 (3.11 or newer) is installed into .venv
# from the hash-pinned files in requirements/. Downloads are cached outside the checkout by uv.
PYTHON ?= python3
# A package index with CPU builds of torch, e.g. the one torch's own site names. Empty: the default
# index, whose Linux wheels bring CUDA (about 6 GB installed).
TORCH_INDEX ?=
BIN := .venv/bin
UV := $(BIN)/uv pip
TORCH_VERSIONS := $(shell sed -nE 's/^((torch|torchvision)==[^ ]+).*/\1/p' requirements/export.txt 2>/dev/null)

.PHONY: help setup demo test test-node node-demo images node-programs lint typecheck generate verify mutants bench bench-cluster replay soak cluster-up cluster-down cluster-demo clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

.venv/.core: requirements/uv.txt requirements/core.txt pyproject.toml
	@echo "== setting up .venv (once; about 500 MB)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or newer is needed: make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	@$(UV) install --quiet --python $(BIN)/python --require-hashes -r requirements/core.txt
	@$(UV) install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . 
	@touch $@

.venv/.export: .venv/.core requirements/export.txt
ifeq ($(TORCH_INDEX),)
	@echo "== installing torch with CUDA, about 6 GB on disk (a CPU build: make TORCH_INDEX=URL demo)"
	@$(UV) install --quiet --python $(BIN)/python --require-hashes -r requirements/export.txt
else
	@echo "== installing torch from $(TORCH_INDEX)"
	@$(UV) install --quiet --python $(BIN)/python --index-url $(TORCH_INDEX) $(TORCH_VERSIONS)
	@$(UV) install --quiet --python $(BIN)/python --require-hashes -r requirements/export-without-torch.txt
endif
	@touch $@

.venv/.dev: .venv/.export requirements/dev.txt
	@echo "== installing the tools for tests"
	@$(UV) install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

setup: .venv/.export  ## Install everything that runs sweeps into .venv

demo: .venv/.export  ## Measure three small models on this machine and print the table
	@echo "== running sweeps/quickstart.yaml (results stay in ./aicsweep-results)"
	@$(BIN)/aicsweep run sweeps/quickstart.yaml
	@echo "== the winners again: .venv/bin/aicsweep table aicsweep-results --best"

test: .venv/.dev lint  ## Set up and pass everything but tests on real nodes
	@echo "== tests"
	@$(BIN)/python -m pytest -m "not nodes"

test-node: .venv/.dev node-programs  ## Tests on real nodes of this machine: kubelets, containers, device files (root)
	@echo "== tests on real nodes"
	@$(BIN)/python -m pytest -m nodes tests/nodes

images: .venv/.dev node-programs  ## Build the Dockerfile's images with buildah and say how large they are (root)
	@$(BIN)/python -m tests.nodes.images

node-demo: .venv/.dev node-programs  ## The chart, the quickstart and its table on real nodes, each command shown (root; KEEP=1: leave it up)
	@$(BIN)/python -m tests.nodes demo $(if $(KEEP),--keep)

# What of Debian's packages real nodes and images need, where it is not there.
node-programs: .venv/.dev
	@missing=$$($(BIN)/python -m tests.nodes.needs); test -z "$$missing" || { \
	  echo "== installing $$missing"; apt-get update -q >/dev/null; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing >/dev/null; }

lint: .venv/.dev  ## ruff, mypy, import contracts
	@echo "== lint"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

generate: .venv/.core  ## Make what is made from other files: CRD, schemas, reference, chart, pins (UPGRADE=1: all pins anew)
	@bash requirements/pin.sh $(BIN)/uv
	@$(BIN)/python -m k8s.generate

verify: .venv/.dev  ## Check that what is made from other files is not stale
	@$(BIN)/python -m pytest -q tests/test_requirements.py tests/k8s/test_generate.py

mutants: .venv/.dev  ## Take each guard out of a copy of the code: some test must fail (GUARDS="NAME...": only these)
	@$(BIN)/python -m tests.guards $(GUARDS)

bench-cluster: .venv/.dev  ## The controller on a real API server with simulated nodes, against its goals (10 minutes or more)
	@$(BIN)/python -m benchmarks.cluster

bench: .venv/.dev  ## Speed, each as a ratio to a naive reference measured in the same run
	@$(BIN)/python -m benchmarks

replay: .venv/.dev  ## The vendor's own times in our order, by a simulated clock: makespan and share of card time
	@$(BIN)/python -m benchmarks.replay

soak: .venv/.dev  ## A sweep of 10,000 cells under random kills on a store that misbehaves (MINUTES=20, SEED=any)
	@$(BIN)/python -m benchmarks.soak $(or $(MINUTES),20) $(SEED)

cluster-up: .venv/.dev  ## Start a Kubernetes with simulated nodes that works on Sweeps; prints what to export
	@$(BIN)/python -m tests.cluster up

cluster-down: .venv/.dev  ## End it
	@$(BIN)/python -m tests.cluster down

cluster-demo: .venv/.dev  ## Apply the quickstart on simulated nodes, watch it, print its table
	@$(BIN)/python -m tests.cluster demo

clean:  ## Remove .venv and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
