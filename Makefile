# Each target does all the set-up itself: a virtual environment from the lock file, once.
# PYTHON=python3.13 VENV=.venv-3.13 keeps an environment of another interpreter beside the first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Hundreds of processes start in the tests; where nothing is kept compiled, each compiles the whole package.
unexport PYTHONDONTWRITEBYTECODE
READY := $(VENV)/.ready-$(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")

.PHONY: demo test jobs browser croissant notebook stress power_cuts coverage null_pairs fuzz fuzz_detectors audit_catalogue experiments experiment twins generators upsampling spectral_gradients gpu bench peers lint lock pages clean

demo: $(READY)
	$(BIN)/touchstone run

# One process more than there are cores: some tests wait for other processes.
WORKERS ?= $(shell $(PYTHON) -c "import os; print(os.cpu_count() + 1)")
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# What people come for, done from the documents alone, the notebook, and tests that take seconds each: two minutes.
jobs: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m jobs --override-ini addopts=-q

# The report in a headless Chromium of the distribution's packages; CHROMIUM=/path/to/it where it is called otherwise.
CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
browser: $(READY)
	@test -n "$(CHROMIUM)" || { echo "make browser needs Chromium: install it (apt-get install chromium), or say where it is: make browser CHROMIUM=/path/to/chromium"; exit 2; }
	CHROMIUM="$(CHROMIUM)" OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser --override-ini addopts=-q tests/stages/test_report_browser.py

# Exports read by the libraries of other programs (mlcroissant, pandas), which have an environment of their own.
OTHERS ?= $(VENV)-others
croissant: $(READY)
	test -x $(OTHERS)/bin/python || $(PYTHON) -m venv $(OTHERS)
	$(OTHERS)/bin/python -m pip install --quiet --disable-pip-version-check "mlcroissant==1.1.*" "pandas>=2.2" pyarrow pillow
	OTHERS=$(OTHERS)/bin/python OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m others --override-ini addopts=-q tests/exporting/test_other_programs.py

# The outputs of docs/notebook.ipynb once more; a test compares them.
notebook: $(READY)
	PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(BIN)/python tests/notebook.py docs/notebook.ipynb

stress: $(READY)
	$(BIN)/python -m pytest -m stress --override-ini addopts=-q

# Power cuts on a journaled file system, a minute; needs root and loop devices.
power_cuts: $(READY)
	PYTHONPATH=tests nice -n 10 $(BIN)/python -m stress.power_cuts

# Whether 95 % intervals hold the truth in 95 of 100 samples, minutes; the result is kept in benchmarks/results.
coverage: $(READY)
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m pytest -m stress --override-ini addopts=-q tests/stress/test_interval_coverage.py

# Whether detectors find something between two halves of one kind of photograph, minutes; DATA as for generators.
null_pairs: $(READY)
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m experiments.null_pairs --data $(DATA)

# Damaged checkpoints, minutes on one core; the result is kept in benchmarks/results.
FUZZ_SEED ?= 1
FUZZ_COUNT ?= 50000
fuzz: $(READY)
	OMP_NUM_THREADS=1 PYTHONPATH=tests nice -n 10 $(BIN)/python -m stress.fuzz_checkpoints \
	  --seed $(FUZZ_SEED) --count $(FUZZ_COUNT)

FUZZ_DETECTORS ?= 20000
fuzz_detectors: $(READY)
	OMP_NUM_THREADS=1 PYTHONPATH=tests nice -n 10 $(BIN)/python -m stress.fuzz_detectors \
	  --seed $(FUZZ_SEED) --count $(FUZZ_DETECTORS)

# Planted differences and none, and what the audit says of them: PLANTERS is a program that makes such pairs (see
# tests/stress/audit_catalogue.py), PHOTOS a folder or zip of photographs. Half an hour on one core; NULLS
# pairs more. FACTOR: how many times the least rows.
NULLS ?= 20
FACTOR ?= 1
audit_catalogue: $(READY)
	OMP_NUM_THREADS=1 PYTHONPATH=tests nice -n 10 $(BIN)/python -m stress.audit_catalogue $(PLANTERS) $(PHOTOS) \
	  --at-least --factor $(FACTOR) --keep
	OMP_NUM_THREADS=1 PYTHONPATH=tests nice -n 10 $(BIN)/python -m stress.audit_catalogue $(PLANTERS) $(PHOTOS) \
	  --nulls $(NULLS) --keep

# What takes longer than a test, offline, under two hours on two cores: the twins of configs/, whose claims are written to
# experiments/results/twins.json, and three experiments on the shipped photographs.
experiments: twins upsampling spectral_gradients against_detectors

twins: $(READY)
	$(BIN)/python -m experiments.twins

# Trains what is missing of the generators, re-synthesizers and the perceptual network of garments, hours on one core, and
# publishes them in manifests: DATA is a folder as `experiments.clothing` makes it. Stop it and call it again as you like.
generators: $(READY)
	test -f scratch/garments/photos.csv || $(BIN)/python -m experiments.garments --data $(DATA)
	test -f experiments/states/networks.yaml || OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m experiments.train_perceptual
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/touchstone run -f experiments/garments.yaml --workers 1
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m experiments.publish_generators
	$(BIN)/python -m experiments.publish_resynthesizers

# Detectors of four papers and one of ours on the shipped generators of garments, hours on one core: what was done is
# kept. Results in experiments/results. `$(BIN)/python -m experiments.detectors plan` says how many hours before.
experiment: $(READY)
	test -f scratch/garments/photos.csv || $(BIN)/python -m experiments.garments --data $(DATA)
	OMP_NUM_THREADS=1 nice -n 10 $(BIN)/python -m experiments.detectors run --workers 1

# Traces of six methods of upsampling in the shipped photographs, and the transfer between them: minutes on one core.
upsampling: $(READY)
	$(BIN)/touchstone run -f experiments/upsampling.yaml
	$(BIN)/python -m experiments.upsampling_result

# Two choices of finetune_generator, measured on the shipped generators: minutes on one core.
spectral_gradients: $(READY)
	$(BIN)/python -m experiments.spectral_gradients

# The acceptance on the GPUs of this machine, a quarter of an hour; its numbers are kept in benchmarks/results/gpu.json.
# DEVICE=cpu QUICK=1 make gpu runs it dry.
DEVICE ?= cuda
gpu: $(READY)
	OUT=scratch/gpu PYTHON=$(BIN)/python DEVICE=$(DEVICE) benchmarks/gpu/accept.sh checks
	OUT=scratch/gpu PYTHON=$(BIN)/python DEVICE=$(DEVICE) benchmarks/gpu/accept.sh train
	test $(DEVICE) = cpu || cp scratch/gpu/results.json benchmarks/results/gpu.json

# A shift of the embedded ProGAN's latent along what a detector sees, and a finetuning against it: minutes on one core.
against_detectors: $(READY)
	$(BIN)/python -m experiments.against_detectors

bench: $(READY)
	$(BIN)/python -m benchmarks.run_all

# The same work by other tools, each in an environment of its own below PEERS: half an hour with nothing else on the
# machine. BUSY: a sentence for the results if there was.
PEERS ?= $(VENV)-peers
BUSY ?=
peers: $(READY)
	$(BIN)/python -m benchmarks.peers --environments $(PEERS) --busy "$(BUSY)"

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

# What an interrupted installation left is no environment: it is made anew.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and 'Touchstone needs Python 3.11 to 3.13; set PYTHON=')"
	test -f $(READY) || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

# The pages of docs/ that the program writes.
pages: $(READY)
	$(BIN)/touchstone config stages > docs/stages.md
	$(BIN)/python -m stages.weights.detector_page > docs/detectors.md
	$(BIN)/python -m experiments.seeds_page > docs/seeds.md

# Needs uv; resolves for Python 3.11 to 3.13 at once and writes hashes, never addresses.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
	  --extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf store
