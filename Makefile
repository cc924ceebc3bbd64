# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# One process a core, each on one thread: most of a test is Python.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n logical --maxprocesses 8 --dist worksteal
export HF_HUB_OFFLINE := 1

.PHONY: demo test test-all lint quality peers gpu train dataset clean

demo: $(VENV)/.demo
	$(RUN) examples/demo.py

test: $(VENV)/.test lint
	$(PYTEST) -q

test-all: $(VENV)/.test lint
	$(PYTEST) -q -m "slow or not slow"

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

quality: $(VENV)/.demo dataset
	$(RUN) benchmarks quality

peers: $(VENV)/.peers
	$(RUN) benchmarks peers

# On a CUDA device; `diffusers` and `cache-dit` are used where they are there, and not asked for.
gpu: $(VENV)/.demo
	$(RUN) benchmarks speed --device cuda

train: $(VENV)/.demo dataset
	$(RUN) examples/train_dit.py
	$(RUN) examples/classifier.py

dataset:
	@test -d $${FASHION_MNIST:-/usr/share/datasets/fashion-mnist} \
	|| { echo "the data set is missing: apt-get update && apt-get install dataset-fashion-mnist"; exit 1; }

$(VENV)/bin/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet torch -c constraints.txt
	$(VENV)/bin/pip install --quiet -c constraints.txt -e ".[examples]"
	touch $@

$(VENV)/.test: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet torch -c constraints.txt
	$(VENV)/bin/pip install --quiet -c constraints.txt -e ".[examples,server,test]"
	touch $@

$(VENV)/.peers: $(VENV)/bin/pip pyproject.toml constraints.txt
	$(VENV)/bin/pip install --quiet torch -c constraints.txt
	$(VENV)/bin/pip install --quiet -c constraints.txt -e ".[examples,peers]"
	touch $@

clean:
	rm -rf $(VENV) output build *.egg-info
