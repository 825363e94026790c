# One command each: `make demo`, `make test`. Both make .venv from the exact lock first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test lint types bench evidence soak soak-report weeks-report verdicts newer-python defects crash system-deps lock clean docs

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	touch $@

demo: $(STAMP)            ## a tablet lives through a shift on simulated hardware, with real processes
	$(BIN)/ivma-sim demo $(DEMO)

test: $(STAMP)            ## every test; what needs a missing system part skips with its reason
	$(BIN)/pytest $(TESTS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

bench: $(STAMP)           ## measurements, with the limit and the peer in the same run
	for b in tests/bench/bench_*.py; do PYTHONPATH=. $(BIN)/python $$b || exit 1; done

evidence: $(STAMP)        ## every figure the documents claim, measured; exit 1 if one does not hold
	$(BIN)/python -m tests.evidence $(LENGTH)

evidence-%: $(STAMP)
	$(BIN)/python -m tests.evidence --area $* $(LENGTH)

soak: $(STAMP)            ## 30 vehicle-days and more under faults, at both fidelities; exit 1 if one violates
	$(BIN)/ivma-sim soak --fidelity decisions --vehicles 30 $(SOAK)
	$(BIN)/ivma-sim soak --fidelity wires --vehicles 2 --habits quiet $(SOAK)

# WIRES and DECISIONS are numbers of vehicles, each of which lives DAYS days with habits of its own.
soak-report: WIRES     ?= 40
soak-report: DECISIONS ?= 90
soak-report: DAYS      ?= 3
soak-report: $(STAMP)     ## the long run: 390 vehicle-days; writes docs/soak-report.md
	mkdir -p build
	rm -f build/soak-*.json
	-$(BIN)/ivma-sim soak --fidelity wires --vehicles $(WIRES) --days $(DAYS) --seed 10001 \
	  --report build/soak-wires.json $(SOAK)
	-$(BIN)/ivma-sim soak --fidelity decisions --vehicles $(DECISIONS) --days $(DAYS) --seed 20001 \
	  --report build/soak-decisions.json $(SOAK)
	$(BIN)/ivma-sim report --out docs/soak-report.md build/soak-wires.json build/soak-decisions.json

# Hours of a core; what is in the log is not lived again.
weeks-report: VEHICLES ?= 250
weeks-report: DAYS     ?= 28
weeks-report: $(STAMP)    ## the batteries of 250 vehicles over four weeks; writes docs/weeks-report.md
	mkdir -p build
	$(BIN)/ivma-sim weeks --vehicles $(VEHICLES) --days $(DAYS) --log build/weeks.jsonl \
	  --report docs/weeks-report.md $(WEEKS)

verdicts: DAYS     ?= 60
verdicts: $(STAMP)        ## the truth about the ignition against the verdicts; writes docs/verdicts.md
	$(BIN)/ivma-sim verdicts --days $(DAYS) --report docs/verdicts.md

newer-python: $(STAMP)    ## a newer release's Python in build/, for evidence-simulation to compare with (root)
	$(BIN)/python -m tests.newer_python

defects: $(STAMP)         ## each planted defect in a copy of the tree; exit 1 if no test catches one
	$(BIN)/python -m tests.defects $(OPTIONS)

crash: $(STAMP)           ## a kill, and an error, at each operation on the disk of all that a store does
	IVMA_CRASH_STEP=1 $(BIN)/pytest tests/crash

docs: $(STAMP)            ## regenerate what docs/ generates: diagrams, configuration, data inventory, CLI
	$(BIN)/python -m tests.generate_docs

lock: $(STAMP)            ## renew the exact lock from pyproject's lower bounds
	$(BIN)/pip-compile --quiet --strip-extras --extra dev --extra sim --allow-unsafe --no-emit-index-url \
	  --no-emit-trusted-host --no-emit-find-links --no-header -o requirements.lock pyproject.toml

system-deps:              ## Debian packages for the full set of tests
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	  gcc git mosquitto chromium pamtester libpam-wrapper umockdev libumockdev-dev dbus systemd udev iproute2 debootstrap

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
