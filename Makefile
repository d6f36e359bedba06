# Run `make` for the list of targets. Everything goes into .venv and .retort; `make clean` removes the first.

PORT ?= $(or $(RETORT_PORT),8000)
DETACH ?=
STAMP := .venv/.complete
PY := .venv/bin/python
RETORT := .venv/bin/retort

# Tools of ours must never wait for an answer or for a pager.
export DEBIAN_FRONTEND := noninteractive

# Where a person's environment forbids bytecode, every process would compile 1,500 modules anew: the API starts in 7
# seconds then, instead of 3. What is kept stays within this folder.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv run stop demo test pictures gateways lint images compose configuration bench hostile fuzz soak crowd faults clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Create .venv with the pinned packages

$(STAMP): requirements.txt pyproject.toml scripts/make_venv.sh
	@sh scripts/make_venv.sh

run: $(STAMP) ## Start everything and run a first job (PORT=8000, DETACH=1 to return when ready)
	@sh scripts/run.sh $(PORT) $(DETACH)

stop: ## End what `make run` started
	@if [ -x $(RETORT) ]; then $(RETORT) down; else echo "not running"; fi

demo: $(STAMP) ## Show a task being written, run, repaired and finished, with a scripted model
	@$(PY) -m scripts.demo

images: $(STAMP) ## Build the sandbox images that are missing
	@$(RETORT) engine ensure
	@$(PY) -m worker.sandbox.images build

compose: $(STAMP) ## Prepare `docker compose up`: secrets, images, .env (ARGS=--local asks no registry)
	@$(PY) -m scripts.compose $(ARGS)

test: $(STAMP) ## Run all tests, with all that they need
	@$(PY) -m scripts.run_tests $(ARGS)

pictures: $(STAMP) ## Take the documents' pictures of the pages anew
	@RETORT_PICTURES=$(CURDIR)/docs/pictures $(PY) -m scripts.run_tests tests/e2e/test_pages.py tests/integration/test_bench.py -n 0 $(ARGS)

gateways: $(STAMP) ## Test the model client through a real LiteLLM proxy (installs it: 700 MB)
	@$(PY) -m pytest tests/gateways $(ARGS)

lint: $(STAMP) ## Check style and types
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

TIER ?= runc
FAULT_TIMES := $(or $(TIMES),20)
TIMES ?= 1

hostile: $(STAMP) ## Run all hostile programs and requests (TIER=runsc, TIMES=5)
	@RETORT_HOSTILE_TIER=$(TIER) RETORT_HOSTILE_TIMES=$(TIMES) $(PY) -m scripts.run_tests tests/hostile -n 2 --dist load $(ARGS)

fuzz: $(STAMP) ## Try the whole HTTP contract with 20,000 generated requests (ARGS="--cases 500 --seed 7")
	@$(PY) -m tests.fuzz.run $(ARGS)

MINUTES ?= 30

soak: $(STAMP) ## Mixed load on two workers while faults come at random (MINUTES=30; ARGS="--jobs 10000": no faults)
	@$(RETORT) engine ensure
	@$(PY) -m worker.sandbox.images build --quiet
	@$(PY) -m tests.soak.run --minutes $(MINUTES) $(ARGS)

configuration: $(STAMP) ## Write docs/configuration.md from the settings
	@$(PY) -m scripts.configuration $(ARGS)

crowd: $(STAMP) ## Run 1,000 tasks at once against a gateway that keeps a strict watch (ARGS="--jobs 10000")
	@$(RETORT) engine ensure
	@$(PY) -m worker.sandbox.images build --quiet
	@$(PY) -m tests.crowd.run $(ARGS)

ONLY ?=

faults: $(STAMP) ## Hurt every part of the running service, 20 times in each way (TIMES=1, ONLY=F02,F14)
	@$(RETORT) engine ensure
	@$(PY) -m worker.sandbox.images build --quiet
	@$(PY) -m tests.faults.run --times $(FAULT_TIMES) --only '$(ONLY)' $(ARGS)

bench: $(STAMP) ## Measure; give the machine to it alone (ARGS=--quick for a trial)
	@$(RETORT) engine ensure
	@$(PY) -m worker.sandbox.images build --quiet
	@$(PY) -m benchmarks.run $(ARGS)

clean: ## Remove .venv and caches; the service's data in .retort stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
