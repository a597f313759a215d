# One command per question. `make` alone lists them; each sets up what it needs first.
#
# Set-up needs Python 3.11 or newer and nothing else. Wheels are kept in the user's cache folder, so
# that a second checkout needs no network.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTHON ?=
KAFKA ?=
QUICK ?=
ONLY ?=
LOCK ?=
SYSTEM := $(shell uname -s)
USER_CACHE := $(if $(filter Darwin,$(SYSTEM)),$(HOME)/Library/Caches,$(or $(XDG_CACHE_HOME),$(HOME)/.cache))
CACHE := $(or $(ONDEMAND_CACHE),$(USER_CACHE)/ondemand)
WHEELS := $(CACHE)/wheels
PIP := $(BIN)/python -m pip --disable-pip-version-check
FROM_CACHE := $(PIP) install --no-index --find-links "$(WHEELS)"
# pip reads these too, and would look elsewhere than in the cache.
OFFLINE := env -u PIP_FIND_LINKS -u PIP_INDEX_URL -u PIP_EXTRA_INDEX_URL

.DEFAULT_GOAL := help
.PHONY: help setup demo test outage chaos simulate fuzz fuzz-guided fuzz-live soak check format \
	bench bench-latency bench-rebalance lock lock-jars audit sbom docs clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

setup: $(READY)  ## create .venv with what is pinned in requirements.lock

demo: $(READY)  ## see it work: a real Kafka, workers, real requests (KAFKA=host:port uses yours)
	@$(BIN)/ondemand demo $(if $(KAFKA),--kafka "$(KAFKA)")

test: $(READY)  ## run all tests, on a real Kafka where they need a broker
	@$(BIN)/python -m pytest -q

chaos: $(READY)  ## kill and pause everything, check every answer (SEED=1 GUARANTEE=… QUICK=1 KEEP=1)
	@cd tests && ../$(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) \
		$(if $(GUARANTEE),--guarantee $(GUARANTEE)) $(if $(QUICK),--scale quick) \
		$(if $(KEEP),--keep)

simulate: $(READY)  ## workers and faults in virtual time (SEEDS=1000; SEED=7 tells one seed's story)
	@cd tests && ../$(BIN)/python -m simulation $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS))

outage: $(READY)  ## all brokers away for 60 s while requests are in flight
	@OUTAGE_SECONDS=60 $(BIN)/python -m pytest -q tests/integration/test_outage.py

fuzz: $(READY)  ## hostile records through the decoder (RECORDS=1000000 SEED=0; RECORD=7 shows one)
	@cd tests && ../$(BIN)/python -m fuzz $(if $(RECORDS),--records $(RECORDS)) \
		$(if $(SEED),--seed $(SEED)) $(if $(RECORD),--record $(RECORD)) \
		$(if $(REPORT),--report "$(abspath $(REPORT))")

fuzz-guided: $(READY)  ## the same guided by coverage; needs the package atheris (RUNS=1000000)
	@cd tests && ../$(BIN)/python -m fuzz.guided $(if $(RUNS),-runs=$(RUNS)) $(INPUT)

fuzz-live: $(READY)  ## hostile records through a worker on a real Kafka (RECORDS=20000 SEED=0)
	@cd tests && ../$(BIN)/python -m fuzz.live_report $(if $(RECORDS),--records $(RECORDS)) \
		$(if $(SEED),--seed $(SEED))

soak: $(READY)  ## ten minutes at half of what a worker can do: does anything grow (SECONDS=600)
	@cd tests && ../$(BIN)/python -m soak $(if $(SECONDS),--seconds $(SECONDS))

check: $(READY)  ## format, lint, types, directions of imports, and the rules of style
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/architecture

format: $(READY)  ## put the code into its one format
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

bench: $(READY)  ## the engine beside its peers, half an hour (QUICK=1: three minutes)
	@$(BIN)/python bench/run.py $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY))

bench-latency: $(READY)  ## how long does a round trip take, at 500 requests a second
	@$(BIN)/python bench/latency.py

bench-rebalance: $(READY)  ## how long does a request wait where workers join and leave
	@$(BIN)/python bench/scaling_pause.py

# gevent comes with a test dependency; from 25.8 on it has no wheel for Python 3.11 on macOS.
LOCK_CONSTRAINT := gevent<25.8 ; sys_platform == "darwin" and python_full_version < "3.12"

lock: $(READY)  ## pin what pyproject.toml asks for, with SHA-256 (LOCK=--upgrade: the newest)
	@printf '%s\n' '$(LOCK_CONSTRAINT)' | $(BIN)/uv pip compile --quiet $(LOCK) --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras \
		--no-emit-package ondemand --constraint - pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --no-annotate --extra worker --extra cli \
		--no-emit-package ondemand -c requirements.lock pyproject.toml -o workers/requirements.lock

lock-jars: $(READY)  ## pin the jars of the local Kafka and of the Kafka Streams peer
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/python -c \
		'import pathlib, sys; from ondemand.local import jars; at = pathlib.Path(sys.argv[1]); \
		jars.pin(at / "broker"); jars.pin(at / "bench", pathlib.Path(sys.argv[2]))' \
		"$$folder" bench/peers/streams/jars.toml

audit: $(READY)  ## is anything pinned known to be vulnerable (exit 1: yes; 2: could not be looked up)
	@$(BIN)/python release/audit.py requirements.lock workers/requirements.lock

sbom: $(READY)  ## write what is in each worker's image, CycloneDX: workers/*/sbom.cdx.json
	@$(BIN)/python release/sbom.py

docs: $(READY)  ## write the pages that are generated from the code
	@$(BIN)/ondemand settings docs > docs/settings.md
	@$(BIN)/python -c 'from ondemand.telemetry import events; print(events.page(), end="")' \
		> docs/telemetry.md

clean:  ## remove what these commands made in this folder; the cache stays
	@rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@python=""; for name in "$(PYTHON)" python3.13 python3.12 python3.11 python3.14 python3 python; do \
		[ -n "$$name" ] && "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
			2>/dev/null && { python="$$name"; break; }; \
	done; \
	[ -n "$$python" ] || { echo "ondemand needs Python 3.11 or newer, and none was found:" \
		"install one, or name it with make PYTHON=/path/to/python3" >&2; exit 1; }; \
	[ -x $(BIN)/python ] || { echo "Setting up $(VENV) with $$($$python --version)."; \
		$$python -m venv $(VENV) || { rm -rf $(VENV); echo "Python could not make an environment:" \
			"see above; on Debian and Ubuntu, install python3-venv" >&2; exit 1; }; }
	@mkdir -p "$(WHEELS)"
	@$(OFFLINE) $(FROM_CACHE) --quiet --require-hashes -r requirements.lock 2>/dev/null || { \
		echo "Fetching the pinned wheels into $(WHEELS), once."; \
		$(PIP) download --require-hashes --only-binary :all: --no-deps --dest "$(WHEELS)" \
			-r requirements.lock || { echo "The pinned wheels are not in the cache and cannot be" \
			"fetched: connect to the network once (or set ONDEMAND_CACHE to a cache that has" \
			"them)." >&2; exit 1; }; \
		echo "Installing them."; \
		$(OFFLINE) $(FROM_CACHE) --quiet --require-hashes -r requirements.lock; }
	@$(OFFLINE) $(FROM_CACHE) --quiet --no-deps --no-build-isolation --editable .
	@touch $@
