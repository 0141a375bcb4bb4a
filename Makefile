# Two commands do everything on a fresh machine with Python 3.10 to 3.14 (and, for PESQ, a C compiler):
#   make demo    the whole way, end to end, on speech made on the spot
#   make test    lint aside, everything that is checked
PYTHON ?= python3
BIN := .venv/bin
UV := $(BIN)/uv pip compile --quiet --no-annotate --generate-hashes --custom-compile-command 'make lock'
# What touches torch, without servers and ranks: some minutes.
TORCH_TESTS := tests/audio tests/models tests/denoise tests/export tests/train/gan tests/train/losses tests/stream/test_augment.py

# Containers set it often. Each process would compile the sources of PyTorch and SciPy anew, which takes
# as long as importing them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: venv lock lowest plain peers demo test lint bench speedrun

venv: .venv/.made

# Exactly the versions of the lock. Made once; again when they change.
.venv/.made: lock.txt setup.cfg pyproject.toml
	$(PYTHON) .ci/venv.py .venv lock.txt
	touch $@

# The newest versions that setup.cfg allows, for all Pythons, and the lowest, for 3.10 and 3.11.
lock: venv
	echo "$$(grep -o '^uv==[^ ]*' .ci/uv.txt)" | $(UV) --universal - -o .ci/uv.txt
	$(UV) --universal --python-version 3.10 --extra dev --upgrade setup.cfg -o lock.txt
	$(UV) --python-version 3.10 --resolution lowest-direct --extra dev --upgrade setup.cfg -o lowest.txt

# The lowest versions that setup.cfg allows still work. The highest are those of the lock.
lowest: .venv-lowest/.made
	.venv-lowest/bin/python -m pytest --numprocesses 2 $(TORCH_TESTS)

.venv-lowest/.made: lowest.txt setup.cfg
	$(PYTHON) .ci/venv.py .venv-lowest lowest.txt
	touch $@

# What a plain `pip install .` resolves to today, in an environment of its own.
plain:
	$(PYTHON) .ci/plain.py .venv-plain

# Other loaders, to compare with; apart from ours, as one of them pins what others pin differently.
peers: .venv-peers/.made

.venv-peers/.made: benchmarks/stream/peers/requirements.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

demo: venv
	$(BIN)/timbre demo

# Two files at a time, in their sequence: the slow ones, which start servers, come first.
test: venv
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture timbre shard_tools benchmarks .ci tests
	! test -x $(BIN)/hadolint || $(BIN)/hadolint Dockerfile

bench: venv
	$(BIN)/python -m benchmarks.denoise
	$(BIN)/python -m benchmarks.align
	$(BIN)/python -m benchmarks.prep
	$(BIN)/python -m benchmarks.stream
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.restore

# From a raw corpus to the released checkpoints and their figures, over days, at the lowest priority.
# Every step goes on where it was stopped. corpus/manifest.jsonl is the development data's; see
# benchmarks/results/speedrun.md.
SLOWLY := OMP_NUM_THREADS=1 nice -n 19 $(BIN)/timbre
CAUSAL := generator.causal=true
speedrun: venv
	$(SLOWLY) prep configs/prep_release.yaml
	nice -n 19 $(BIN)/python -m shard_tools.speed corpus/manifest.jsonl corpus_speeds --speeds 0.86 1 1.14
	$(SLOWLY) prep configs/prep_release_more.yaml
	$(SLOWLY) train configs/train_release.yaml
	$(SLOWLY) train configs/tune_release.yaml init_from=runs/release/best.safetensors
	$(SLOWLY) train configs/train_release.yaml $(CAUSAL) loss.waveform=5 run_dir=runs/release_causal
	$(SLOWLY) train configs/tune_release.yaml $(CAUSAL) init_from=runs/release_causal/best.safetensors \
		run_dir=runs/tuned_causal
	$(SLOWLY) evaluate offline=runs/tuned/best.safetensors causal=runs/tuned_causal/best.safetensors \
		df3+10% --data shards/release --out runs/evaluated
	$(SLOWLY) evaluate offline=runs/tuned/best.safetensors causal=runs/tuned_causal/best.safetensors \
		--stress --out runs/stressed
