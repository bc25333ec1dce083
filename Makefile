# Needs Python 3.10 or newer, make, a C compiler and a package index; everything else is set up here.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: demo test test-long test-all check lint pages catalog results results-check clean

demo: $(STAMP)  ## protect an example photo in place with the embedded checkpoint, prove it, undo it
	rm -rf demo && mkdir -p demo/photos
	cp tests/data/lotus.jpg demo/photos/
	HASHSHIELD_VAULT=demo/vault $(BIN)/hashshield protect demo/photos/ --tau 0.032
	HASHSHIELD_VAULT=demo/vault $(BIN)/hashshield verify demo/photos/
	$(BIN)/hashshield evaluate tests/data/lotus.jpg demo/photos/lotus.jpg
	@echo "demo/photos/lotus.jpg is the protected photo, tests/data/lotus.jpg the original."
	@echo "HASHSHIELD_VAULT=demo/vault $(BIN)/hashshield restore demo/photos/   brings the original back."

test: $(STAMP) lint  ## every check but the long and the slow tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not long and not slow"

test-long: $(STAMP)  ## the tests that take ten seconds or more each; CI runs them too
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "long and not slow"

test-all: $(STAMP) lint  ## every test, also those that take minutes
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

pages: $(STAMP)  ## write man pages, completions and docs/cli.md anew from the application
	$(BIN)/python -m tools.build_pages man/ completions/ docs/

catalog: $(STAMP)  ## write catalog.toml anew from the checkpoint files
	$(BIN)/python -m tools.build_catalog $(sort $(wildcard src/hashshield/checkpoints/bundled/*.safetensors checkpoints/*.safetensors))

results: $(STAMP)  ## make every measured result and the tables again; 16 hours. QUICK=1: all commands, tiny, in minutes
	$(BIN)/python -m tools.results run $(if $(QUICK),--quick) $(foreach pair,$(DATA),--data $(pair))

results-check: $(STAMP)  ## list the results that are older than the search, or made by another command
	$(BIN)/python -m tools.results check

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) demo dist build
