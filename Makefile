# Each target does all the set-up itself: a virtual environment from the lock file, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test stress experiments bench lint lock clean

demo: $(READY)
	$(BIN)/touchstone run
	@echo "The report (open it in a browser):"
	@$(BIN)/touchstone report

test: $(READY)
	$(BIN)/python -m pytest

stress: $(READY)
	$(BIN)/python -m pytest -m stress --override-ini addopts=-q

# What takes longer than a test: trains a small generator on the project's photographs (75 minutes on one core) into
# scratch/experiments; stop it and call it again as you like.
MINUTES ?= 75
experiments: $(READY)
	mkdir -p scratch/experiments
	$(BIN)/python -m experiments.train_small_stylegan2 --minutes $(MINUTES) \
	  --out scratch/experiments/stylegan2.safetensors --manifest scratch/experiments/generators.yaml \
	  --scratch scratch/experiments/stylegan2

bench: $(READY)
	$(BIN)/python -m benchmarks.run_all

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and 'Touchstone needs Python 3.11 to 3.13; set PYTHON=')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# Needs uv; resolves for Python 3.11 to 3.13 at once and writes hashes, never addresses.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf store
