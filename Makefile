SHELL := /bin/bash
.DEFAULT_GOAL := help
export PYTHONPATH := $(CURDIR)
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest
# two Sparks: planning, most of what they do, keeps one core busy
SPARK_TESTS := $(PYTEST) tests/spark -n 2 --dist worksteal

.PHONY: help
help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## Install what is missing, start everything, feed it, wait until all four flows are in gold, print the URLs
	./fitness demo

.PHONY: down
down: ## Stop everything that `make demo` or `./fitness up` started
	./fitness down

.PHONY: install
install: ## Make or update .venv from requirements-dev.txt
	./fitness --version

.PHONY: test
test: lint ## What CI runs: lint, types, all suites of tests, the whole stack against the truth among them
	$(PYTEST) tests/unit tests/dags
	$(PYTEST) tests/local tests/workspace
	$(SPARK_TESTS)
	$(PYTEST) tests/system

.PHONY: test-fast
test-fast: lint ## Lint, types, unit and DAG tests: what needs no Spark
	$(PYTEST) tests/unit tests/dags

.PHONY: test-unit
test-unit: install ## The tests that need nothing running (seconds)
	$(PYTEST) tests/unit

.PHONY: test-spark
test-spark: install ## The job tests, on a local Spark
	$(SPARK_TESTS)

.PHONY: test-workspace
test-workspace: install ## The workspace server through databricks-sdk, kill -9 included
	$(PYTEST) tests/workspace

.PHONY: test-local
test-local: install ## What the local stack adds to its parts, against parts of the tests' own
	$(PYTEST) tests/local

.PHONY: test-dags
test-dags: install ## The DAG tests
	$(PYTEST) tests/dags

.PHONY: test-system
test-system: install ## The whole stack in a temporary home, compared row by row with the truth
	$(PYTEST) tests/system

.PHONY: drills
drills: install ## Break the heart-rate stream in every way, on a stack of its own, and account for every reading (long)
	$(PYTHON) -m bench.drills $(DRILLS)

.PHONY: wheel
wheel: install ## Build the wheel of the Spark jobs that dev.yaml and prod.yaml name, into artifacts/
	rm -rf artifacts/wheel artifacts/*.whl && mkdir -p artifacts/wheel && cp -r spark_jobs artifacts/wheel/
	.venv/bin/uv build --quiet --wheel --python $(PYTHON) --out-dir artifacts artifacts/wheel/spark_jobs

.PHONY: mutations
mutations: install ## Break the jobs in one place after the other, and see the tests turn red (long)
	$(PYTHON) -m bench.mutations $(MUTATIONS)

.PHONY: lint
lint: install ## Ruff (with the Airflow rules), types, and whether what is generated is up to date
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	$(PYTHON) -m docs.requirements --check
	$(PYTHON) -m docs.dags --check

.PHONY: format
format: install ## Format and fix what ruff can fix
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: docs
docs: install ## Generate docs/DAGS.md from the DAGs
	$(PYTHON) -m docs.dags

.PHONY: requirements
requirements: install ## Resolve pyproject.toml into requirements*.txt, with hashes
	$(PYTHON) -m docs.requirements
