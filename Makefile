# The only commands to remember. Each does its own set-up and says what it is doing.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin
PYTEST := $(PY)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

help:  ## list these commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo:  ## serve the example application on http://127.0.0.1:8000 (COATCHECK_STORE=postgresql://... for PostgreSQL)
	@scripts/venv .venv-demo requirements/demo.txt
	@scripts/demo .venv-demo

test: setup components  ## test every promise, on every store and in a browser: under 15 minutes on 2 cores (PYTEST_ARGS="-k name" for some)
	@$(PYTEST) -m "not extended" $(PYTEST_ARGS)

test-all: setup components browsers postgresql-versions  ## test them in more places and larger runs, and benchmarks and chaos runs, small; ends with test-versions
	@status=0; $(PYTEST) -m extended $(PYTEST_ARGS) || status=1; $(if $(PYTEST_ARGS),,scripts/test-versions || status=1;) exit $$status

test-versions: setup components  ## test a selection on every Python, with the lowest and with the newest dependencies
	@scripts/test-versions $(PYTEST_ARGS)

components:
	@scripts/install-postgres
	@scripts/install-pgbouncer
	@scripts/install-chromium
	@scripts/install-redis
	@scripts/install-valkey
	@scripts/install-nginx
	@command -v wrk >/dev/null || scripts/apt-install wrk || true
	@scripts/install-node || true

browsers:
	@scripts/install-firefox
	@scripts/install-webkit
	@scripts/install-chromedriver

postgresql-versions:
	@scripts/install-postgresql-versions

lint: setup  ## formatting, lint, types and import layers
	@scripts/lint

format: setup  ## bring the code into the house format
	@$(PY)/ruff check --fix --quiet . ; $(PY)/python scripts/blocking-api; $(PY)/ruff format .

setup:  ## make the environment for development
	@scripts/venv .venv requirements/dev.txt

lock:  ## lock what pyproject.toml asks for (LOCK_ARGS=--upgrade for the newest versions)
	@scripts/lock $(LOCK_ARGS)

bench: setup  ## measure Coatcheck on this machine (BENCH_ARGS="--chart bench.png"; --help for more)
	@$(PY)/coatcheck bench $(BENCH_ARGS)

bench-peers: setup  ## measure Coatcheck beside what one would pick instead (BENCH_ARGS="--sessions 100000")
	@scripts/install-postgres
	@scripts/install-redis
	@scripts/install-pgbouncer
	@scripts/install-node
	@PYTHONPATH=. $(PY)/python bench/compare.py $(BENCH_ARGS)

bench-http: setup  ## measure whole HTTP requests, with a session and without (BENCH_ARGS="--sessions 100000")
	@scripts/install-postgres
	@command -v wrk >/dev/null || scripts/apt-install wrk
	@PYTHONPATH=.:bench $(PY)/python bench/over_http.py $(BENCH_ARGS)

bench-jwt: setup  ## measure a validation beside the decoding of a JWT with the same claims (BENCH_ARGS="--stores sqlite")
	@scripts/install-postgres
	@scripts/install-redis
	@PYTHONPATH=.:bench $(PY)/python bench/jwt_beside.py $(BENCH_ARGS)

bench-pruning: setup  ## measure validations beside a prune, in a large table (BENCH_ARGS="--sessions 10000000")
	@scripts/install-postgres
	@PYTHONPATH=.:bench $(PY)/python bench/pruning.py $(BENCH_ARGS)

bench-live: setup  ## measure how soon open connections end with their session, on two servers (BENCH_ARGS="--connections 100")
	@scripts/install-postgres
	@scripts/install-redis
	@PYTHONPATH=.:bench $(PY)/python bench/live.py $(BENCH_ARGS)

bench-testing: setup  ## measure what a pod in memory costs a test (BENCH_ARGS="--rounds 1000")
	@PYTHONPATH=.:bench $(PY)/python bench/memory_pods.py $(BENCH_ARGS)

bench-calls: setup  ## count our functions that a signed-in request calls, and fail above bench/calls.py's limits (BENCH_ARGS=--names)
	@scripts/install-postgres
	@scripts/install-redis
	@PYTHONPATH=.:bench $(PY)/python bench/calls.py $(BENCH_ARGS)

chaos: setup  ## break servers under load and count what is left of what was acknowledged (CHAOS_ARGS="--rounds 20")
	@scripts/install-postgres
	@scripts/install-redis
	@PYTHONPATH=. $(PY)/python -m chaos.postgresql_failover $(CHAOS_ARGS)
	@PYTHONPATH=. $(PY)/python -m chaos.redis_cluster_failover $(CHAOS_ARGS)
	@PYTHONPATH=. $(PY)/python -m chaos.redis_sentinel_failover $(CHAOS_ARGS)

clean:  ## remove environments, caches and the demo's data
	rm -rf .venv .venv-demo .venv-frameworks .venv-peers .venv-tools .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build examples/notes/config examples/notes/*.db*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo test test-all test-versions components browsers postgresql-versions lint format setup lock bench bench-peers bench-http bench-jwt bench-pruning bench-live bench-testing bench-calls chaos clean
